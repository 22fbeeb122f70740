//! Images and tables that are wrong: a clear error, the daemon alive, the others untouched.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Instance, bytes, can_mount, command, read_at, sh, text, umount, write_at};

const SECTOR: u64 = 512;
const EPERM: i32 = 1;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// An instance with a device beside the one that is tormented, which must not notice.
struct Bystander(Instance);

impl Bystander {
    fn new() -> Bystander {
        let instance = Instance::start();
        instance.image("by.img", "/dev/vdz", 64 << 10);
        let device = instance.create("bystander", "0 128 linear /dev/vdz 0");
        write_at(&device, 0, &bytes(77, 64 << 10)).expect("a write");
        Bystander(instance)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let data = read_at(&self.0.device("bystander"), 0, 64 << 10).expect("it still serves");
            assert!(data == bytes(77, 64 << 10), "the bystander's data");
        }
    }
}

fn errno(result: std::io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn an_image_truncated_under_the_daemon_gives_errors_and_never_zeros() {
    let instance = &Bystander::new();
    let image = instance.0.image("a.img", "/dev/sda", 1 << 20);
    let device = instance.0.create("d", "0 2048 linear /dev/sda 0");
    write_at(&device, 0, &bytes(1, 1 << 20)).expect("a write");
    File::options().write(true).open(&image).expect("the image").set_len(4096).expect("shorter");
    for _ in 0..3 {
        assert_eq!(errno(read_at(&device, 512 << 10, 4096)), Some(EIO));
    }
    assert_eq!(errno(write_at(&device, 768 << 10, &bytes(2, 4096))), Some(EIO));
    assert_eq!(image.metadata().expect("the image").len(), 4096, "nothing made it grow again");
}

#[test]
fn an_image_on_a_full_disk_gives_no_space_and_keeps_what_it_has() {
    if !can_mount() {
        return;
    }
    let instance = &Bystander::new();
    let small = instance.0.path("small");
    std::fs::create_dir(&small).expect("a folder");
    sh("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", text(&small)]);
    let image = small.join("a.img");
    instance.0.dmsim(&["attach", text(&image), "--create", "16M", "--as", "/dev/sda"]);
    let device = instance.0.create("d", "0 32768 linear /dev/sda 0");
    let data = bytes(3, 256 << 10);
    write_at(&device, 0, &data).expect("there is room yet");
    assert_eq!(errno(write_at(&device, 4 << 20, &bytes(4, 2 << 20))), Some(ENOSPC));
    assert!(read_at(&device, 0, data.len()).expect("what was written") == data);
    instance.0.dmsim(&["remove", "d"]);
    instance.0.dmsim(&["detach", "/dev/sda"]);
    umount(&small);
}

#[test]
fn a_read_only_image_can_be_read_and_not_written() {
    let instance = &Bystander::new();
    let image = instance.0.path("ro.img");
    std::fs::write(&image, bytes(5, 64 << 10)).expect("an image");
    std::fs::set_permissions(&image, std::fs::Permissions::from_mode(0o444)).expect("ours");
    instance.0.dmsim(&["attach", text(&image), "--read-only", "--as", "/dev/sda"]);
    let device = instance.0.create("d", "0 128 linear /dev/sda 0");
    assert!(read_at(&device, 0, 64 << 10).expect("a read") == bytes(5, 64 << 10));
    assert_eq!(errno(write_at(&device, 0, &bytes(6, 4096))), Some(EPERM));
    assert!(std::fs::read(&image).expect("the image") == bytes(5, 64 << 10));
}

/// Whatever lies over a read-only image alone says so, as far up as one looks; what has a place of
/// its own for writes, or one writable part, can be written.
#[test]
fn read_only_is_carried_up_and_no_further() {
    let instance = &Bystander::new();
    let image = instance.0.path("ro.img");
    std::fs::write(&image, bytes(5, 64 << 10)).expect("an image");
    instance.0.dmsim(&["attach", text(&image), "--read-only", "--as", "/dev/sda"]);
    instance.0.image("rw.img", "/dev/sdb", 1 << 20);
    let key = "00".repeat(32);
    for (name, table, read_only) in [
        ("linear", "0 128 linear /dev/sda 0", true),
        ("above", "0 64 linear /dev/mapper/linear 8", true),
        ("crypt", &format!("0 64 crypt aes-xts-plain64 {key} 0 /dev/mapper/above 0"), true),
        ("striped", "0 64 striped 2 8 /dev/sda 0 /dev/sda 64", true),
        ("with-hole", "0 64 linear /dev/sda 0\n64 64 zero", true),
        ("origin", "0 128 snapshot-origin /dev/sda", true),
        ("snapshot", "0 128 snapshot /dev/mapper/linear /dev/sdb N 8", false),
        ("both", "0 128 linear /dev/sda 0\n128 128 linear /dev/sdb 1024", false),
        ("nothing-below", "0 128 zero", false),
    ] {
        let device = instance.0.create(name, table);
        let (expected, letter) = if read_only { (Some(EPERM), "r") } else { (None, "w") };
        let end = std::fs::metadata(&device).expect("its file").len() - 4096;
        File::options().write(true).open(&device).expect("it opens for writing all the same");
        assert_eq!(errno(write_at(&device, end, &bytes(6, 4096))), expected, "{name}");
        let info = instance.0.dmsim(&["info", name]);
        assert_eq!(info.contains("(READ-ONLY)"), read_only, "{info}");
        let column = instance.0.dmsim(&["info", "-c", "--noheadings", "-o", "attr", name]);
        assert_eq!(
            column.trim().chars().nth(3).map(String::from).as_deref(),
            Some(letter),
            "{column}"
        );
        let json: serde_json::Value =
            serde_json::from_str(&instance.0.dmsim(&["info", name, "--json"])).expect("JSON");
        assert_eq!(json.to_string().contains("\"read_only\":true"), read_only, "{json}");
    }
    assert!(std::fs::read(&image).expect("the image") == bytes(5, 64 << 10));
}

#[test]
fn an_image_that_is_gone_a_folder_or_too_small_is_refused_by_name() {
    let instance = &Bystander::new();
    let folder = instance.0.path("folder");
    std::fs::create_dir(&folder).expect("a folder");
    let tiny = instance.0.path("tiny.img");
    std::fs::write(&tiny, b"too small").expect("a file");
    for (path, why) in [
        ("nowhere.img", "No such file or directory"),
        (text(&folder), "directory"),
        (text(&tiny), "512"),
    ] {
        let said = instance.0.refused(&["attach", path]);
        assert!(said.starts_with("dmsim: ") && said.contains(path), "{said}");
        assert!(said.to_lowercase().contains(&why.to_lowercase()), "{said}");
    }
}

#[test]
fn an_image_that_another_instance_holds_is_refused() {
    let (first, second) = (Instance::start(), &Bystander::new());
    let image = first.image("a.img", "/dev/sda", 1 << 20);
    let said = second.0.refused(&["attach", text(&image)]);
    assert!(said.contains("a.img") && said.contains("in use"), "{said}");
    first.dmsim(&["detach", "/dev/sda"]);
    second.0.dmsim(&["attach", text(&image), "--as", "/dev/sda"]);
}

#[test]
fn one_image_is_not_attached_twice_for_writing() {
    let instance = Instance::start();
    let image = instance.image("a.img", "/dev/sda", 1 << 20);
    let link = instance.path("link.img");
    std::fs::hard_link(&image, &link).expect("a link");
    let said = instance.refused(&["attach", text(&link), "--as", "/dev/sdb"]);
    assert!(said.contains("/dev/sda"), "it says under which name: {said}");
}

#[test]
fn an_image_in_use_is_not_detached() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 1 << 20);
    instance.create("d", "0 8 linear /dev/sda 0");
    let said = instance.refused(&["detach", "/dev/sda"]);
    assert!(said.contains("/dev/sda"), "{said}");
    instance.dmsim(&["remove", "d"]);
    instance.dmsim(&["detach", "/dev/sda"]);
}

#[test]
fn a_table_of_a_million_lines_is_loaded_and_read() {
    let instance = &Bystander::new();
    instance.0.image("a.img", "/dev/sda", 1_000_000 * SECTOR);
    let table: String =
        (0..1_000_000).map(|i| format!("{i} 1 linear /dev/sda {}\n", 999_999 - i)).collect();
    let file = instance.0.path("table.txt");
    std::fs::write(&file, table).expect("a file");
    instance.0.dmsim(&["create", "big", text(&file)]);
    let device = instance.0.device("big");
    write_at(&device, 0, &bytes(8, 16 * 512)).expect("sixteen lines at once");
    let last = read_at(&instance.0.path("a.img"), 999_999 * SECTOR, 512).expect("the image");
    assert!(last == bytes(8, 16 * 512)[..512]);
    let said = instance.0.dmsim(&["info", "-c", "--noheadings", "-o", "segments", "big"]);
    assert_eq!(said.trim(), "1000000");
}

#[test]
fn a_table_line_of_a_megabyte_is_refused_in_a_few_words() {
    let instance = &Bystander::new();
    let file = instance.0.path("table.txt");
    std::fs::write(&file, format!("0 8 linear {} 0\n", "x".repeat(1 << 20))).expect("a file");
    let said = instance.0.refused(&["create", "bad", text(&file)]);
    assert!(said.contains("Device lookup failed") && said.contains('^'), "{}", said.len());
    assert!(said.len() < 4096, "{} bytes of error", said.len());
    assert!(!instance.0.dmsim(&["ls"]).contains("bad"), "nothing is left behind");
}

#[test]
fn a_device_on_itself_is_refused() {
    let instance = &Bystander::new();
    instance.0.image("a.img", "/dev/sda", 1 << 20);
    instance.0.create("a", "0 8 linear /dev/sda 0");
    instance.0.create("b", "0 8 linear /dev/mapper/a 0");
    instance.0.create("c", "0 8 linear /dev/mapper/b 0");
    for below in ["a", "b", "c"] {
        let table = format!("0 8 linear /dev/mapper/{below} 0");
        let said = instance.0.refused(&["load", "a", "--table", &table]);
        assert!(said.contains("Device lookup failed"), "{said}");
    }
}

#[test]
fn a_stack_deeper_than_the_limit_is_refused() {
    let instance = &Bystander::new();
    instance.0.image("a.img", "/dev/sda", 1 << 20);
    let mut below = "/dev/sda".to_owned();
    for layer in 1..=64 {
        let name = format!("layer{layer}");
        instance.0.create(&name, &format!("0 8 linear {below} 0"));
        below = format!("/dev/mapper/{name}");
    }
    write_at(&instance.0.device("layer64"), 0, &bytes(1, 4096)).expect("64 are not too many");
    let table = format!("0 8 linear {below} 0");
    let said = instance.0.refused(&["create", "layer65", "--table", &table]);
    assert!(said.contains("64"), "{said}");
}

#[test]
fn a_bad_word_is_pointed_at() {
    let instance = Instance::start();
    instance.image("a.img", "/dev/sda", 1 << 20);
    let table = "0 8 zero\n8 8 linear /dev/sda x";
    let said = instance.refused(&["create", "bad", "--table", table]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("dmsim: ") && lines[0].contains("line 2"), "{said}");
    assert!(lines[0].contains("`x`") && lines[0].contains("Invalid device sector"), "{said}");
    let caret = lines.iter().position(|line| line.trim() == "^").expect("a caret");
    let column = lines[caret].find('^').expect("it is there");
    assert_eq!(lines[caret - 1].find(" x").map(|at| at + 1), Some(column), "{said}");
}

#[test]
fn a_second_daemon_in_one_folder_is_refused() {
    let instance = Instance::start();
    let dir = instance.path("");
    let output = command(&dir, &["start", "--foreground"]).output().expect("dmsim runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    instance.dmsim(&["version"]);
}
