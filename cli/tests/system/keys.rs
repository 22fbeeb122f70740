//! Where keys must not be found.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{DMSIM, Instance, sh, text, wait_until};

/// Bytes that occur nowhere else.
const KEY: [u8; 32] = [
    0xd1, 0x5c, 0x0b, 0xa1, 0x7e, 0x93, 0x4f, 0x28, 0x66, 0xe0, 0x19, 0xb7, 0x3d, 0xc4, 0x82, 0x5a,
    0x0f, 0x71, 0xee, 0x36, 0x9b, 0x48, 0xd3, 0x14, 0xa6, 0x2c, 0x85, 0xf9, 0x60, 0xbd, 0x37, 0xca,
];

fn digits() -> String {
    KEY.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lists where the writable memory of a process has these bytes.
fn find_in_memory(pid: u32, wanted: &[u8]) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("a process");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the right to look");
    let mut places = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().expect("a range"), words.next().expect("rights"));
        if !rights.starts_with("rw") || line.ends_with("[vvar]") {
            continue;
        }
        let (from, to) = range.split_once('-').expect("two ends");
        let end = |text| u64::from_str_radix(text, 16).expect("an address");
        let mut bytes = vec![0; (end(to) - end(from)) as usize];
        // What is gone meanwhile holds nothing.
        if memory.read_exact_at(&mut bytes, end(from)).is_ok() {
            let windows = bytes.windows(wanted.len()).enumerate();
            let found = windows.filter(|(_, window)| *window == wanted);
            places.extend(found.map(|(at, _)| format!("{:#x} of {line}", end(from) + at as u64)));
        }
    }
    places
}

#[test]
fn a_key_is_nowhere_in_the_daemon_once_its_device_is_gone() {
    let instance = Instance::start();
    instance.image("a", "/dev/sda", 1 << 20);
    let pid = instance.pid();
    if File::open(format!("/proc/{pid}/mem")).is_err() {
        eprintln!("skipped: no right to look into another process");
        return;
    }
    let table = format!("0 2048 crypt aes-xts-plain64 {} 0 /dev/sda 0", digits());
    let device = instance.create("c", &table);
    let file = File::options().read(true).write(true).open(device).expect("a device");
    file.write_all_at(&[3; 65536], 0).expect("a write");
    let none: [&str; 0] = [];
    assert_ne!(find_in_memory(pid, &KEY), none, "the key in use is found: the search works");
    let text_of_key = digits();
    assert_eq!(find_in_memory(pid, text_of_key.as_bytes()), none, "the table line is wiped");
    assert!(instance.dmsim(&["table", "--showkeys", "c"]).contains(&text_of_key));
    // An answer is wiped when it has been sent: whoever has read it may be first.
    let began = Instant::now();
    while find_in_memory(pid, text_of_key.as_bytes()) != none {
        assert!(began.elapsed() < Duration::from_secs(10), "what was shown is wiped");
        std::thread::sleep(Duration::from_millis(10));
    }

    instance.dmsim(&["suspend", "c"]);
    instance.dmsim(&["message", "c", "0", "key", "wipe"]);
    assert_eq!(find_in_memory(pid, &KEY[..16]), none, "the key is wiped");
    instance.dmsim(&["message", "c", "0", "key", "set", &text_of_key]);
    assert_eq!(find_in_memory(pid, text_of_key.as_bytes()), none, "the message is wiped");
    instance.dmsim(&["resume", "c"]);
    drop(file);
    instance.dmsim(&["remove", "c"]);
    assert_eq!(find_in_memory(pid, &KEY[..16]), none, "the key went with the device");
}

#[test]
fn a_key_is_in_no_file_of_the_instance_and_in_no_output() {
    let instance = Instance::start();
    let image = instance.image("a", "/dev/sda", 1 << 20);
    let key = digits();
    instance.create("c", &format!("0 2048 crypt aes-xts-plain64 {key} 0 /dev/sda 0"));
    let bad = format!("0 2048 crypt aes-xts-plain64 {key}00 0 /dev/sda x");
    let mut said = instance.refused(&["create", "bad", "--table", &bad]);
    let bad = format!("0 2047 crypt nosuch {key} 0 /dev/sda 0\nx");
    said += &instance.refused(&["create", "bad", "--table", &bad]);
    for args in [&["table"][..], &["table", "--json"], &["status"], &["info", "--json"], &["tree"]]
    {
        said += &instance.dmsim(args);
    }
    assert!(!said.contains(&key[..16]), "{said}");
    for name in ["record.log", "log", "kmsg"] {
        let path = instance.path("run").join(name);
        let content = std::fs::read(&path).unwrap_or_default();
        let found = content.windows(16).any(|window| window == &key.as_bytes()[..16]);
        assert!(!found, "{} has the key", text(&path));
    }
    assert!(!std::fs::read(&image).expect("the image").windows(16).any(|w| w == &KEY[..16]));
}

#[test]
fn the_daemon_leaves_no_core_dump() {
    let crash = |dir: &Path, program: &str| {
        let script = format!("ulimit -c unlimited; exec {program}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .current_dir(dir)
            .env("DMSIM_DIR", dir.join("run"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let serves = || program.starts_with("sleep") || dir.join("run/control.sock").exists();
        wait_until("it runs", serves);
        sh("kill", &["-ABRT", &child.id().to_string()]);
        child.wait().expect("it was ours to wait for");
        let _mount = Command::new("umount").arg("-l").arg(dir.join("run/mapper")).output();
        let files = std::fs::read_dir(dir).expect("a folder").flatten();
        files.filter(|file| file.file_name().to_string_lossy().contains("core")).count()
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    // A shell's child may be killed before it is the program; `sleep` takes no time to become it.
    if crash(dir.path(), "sleep 60") == 0 {
        println!("skipped: no program leaves a core dump here");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(crash(dir.path(), &format!("{DMSIM} start --foreground")), 0);
}
