//! Containers made by the real cryptsetup: opened, used, closed, and looked at by cryptsetup again.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::filesystems::{digests, fill};
use crate::harness::{Instance, Mounted, can_mount, has, sh, text};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 96 * MIB;
const SECRET: &str = "correct horse";

/// Costs next to nothing to derive: what is tested is not how long a guess takes.
const CHEAP_PBKDF2: &[&str] = &["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
const CHEAP_ARGON2ID: &[&str] = &[
    "--pbkdf",
    "argon2id",
    "--pbkdf-memory",
    "1024",
    "--pbkdf-parallel",
    "2",
    "--pbkdf-force-iterations",
    "4",
];

/// Runs cryptsetup on an image, with the secret from a key file.
fn cryptsetup(instance: &Instance, words: &[&[&str]]) -> String {
    sh(
        "cryptsetup",
        &[&["--batch-mode", "--key-file", text(&key_file(instance))], &words.concat()[..]].concat(),
    )
}

fn key_file(instance: &Instance) -> PathBuf {
    let path = instance.path("secret");
    std::fs::write(&path, SECRET).expect("room for it");
    path
}

fn empty(instance: &Instance, name: &str, len: u64) -> PathBuf {
    let path = instance.path(name);
    std::fs::File::create(&path).expect("a new file").set_len(len).expect("room for it");
    path
}

/// Opens a container, lets a file system live in it, and hands it back to cryptsetup.
fn lives_in(format: &[&[&str]], detached: bool) {
    if !has(&["cryptsetup", "mkfs.ext4", "e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    let (image, key) = (empty(&instance, "image", SIZE), key_file(&instance));
    let (image, key) = (text(&image), text(&key));
    let header = instance.path("header");
    let apart = ["--header", text(&header)];
    let header_words: &[&str] = if detached { &apart } else { &[] };
    cryptsetup(&instance, &[&["luksFormat"], &format.concat(), header_words, &[image]]);

    let open = |more: &[&str]| {
        let words = [&["open", image, "disk", "--key-file", key], header_words, more].concat();
        instance.dmsim(&words)
    };
    assert_eq!(open(&[]).trim_end(), text(&instance.device("disk")));
    let device = instance.device("disk");
    sh("mkfs.ext4", &["-q", "-F", text(&device)]);
    let written = can_mount().then(|| {
        let mounted = Mounted::over(&device, false);
        fill(mounted.dir.path(), SIZE / 4);
        digests(mounted.dir.path())
    });
    sh("e2fsck", &["-f", "-n", text(&device)]);
    instance.dmsim(&["close", "disk"]);

    let checked = if detached { text(&header) } else { image };
    cryptsetup(&instance, &[&["open", "--test-passphrase"], &[checked]]);
    assert!(sh("cryptsetup", &["luksDump", checked]).starts_with("LUKS header information"));

    open(&["--read-only"]);
    sh("e2fsck", &["-f", "-n", text(&device)]);
    let refused = std::fs::File::options()
        .write(true)
        .open(&device)
        .map(|file| file.write_all_at(&[0; 4096], 0));
    assert!(!matches!(refused, Ok(Ok(()))), "a device opened read-only takes a write");
    instance.dmsim(&["close", "disk"]);

    open(&[]);
    if let Some(written) = written {
        let mounted = Mounted::over(&device, true);
        assert_eq!(digests(mounted.dir.path()), written);
    }
}

#[test]
fn ext4_lives_in_luks1() {
    lives_in(&[&["--type", "luks1", "--pbkdf-force-iterations", "1000"]], false);
}

#[test]
fn ext4_lives_in_luks1_with_cbc_and_essiv() {
    let cipher = ["--cipher", "aes-cbc-essiv:sha256", "--key-size", "256", "--hash", "sha1"];
    lives_in(&[&["--type", "luks1", "--pbkdf-force-iterations", "1000"], &cipher], false);
}

#[test]
fn ext4_lives_in_luks2_with_pbkdf2_and_small_sectors() {
    lives_in(&[&["--type", "luks2", "--sector-size", "512"], CHEAP_PBKDF2], false);
}

#[test]
fn ext4_lives_in_luks2_with_argon2id_and_large_sectors() {
    lives_in(&[&["--type", "luks2", "--sector-size", "4096"], CHEAP_ARGON2ID], false);
}

#[test]
fn ext4_lives_in_luks2_with_its_header_elsewhere() {
    lives_in(&[&["--type", "luks2", "--sector-size", "4096"], CHEAP_PBKDF2], true);
}

#[test]
fn ext4_lives_in_luks2_with_its_data_far_behind_the_header() {
    let far = ["--type", "luks2", "--offset", "65536"];
    lives_in(&[&far, CHEAP_ARGON2ID], false);
}

/// Formats a container that costs little.
fn luks2(instance: &Instance, name: &str, more: &[&str]) -> PathBuf {
    let image = empty(instance, name, 32 * MIB);
    let words = [&["luksFormat", "--type", "luks2"], CHEAP_PBKDF2, more, &[text(&image)]];
    cryptsetup(instance, &words);
    image
}

#[test]
fn each_of_eight_key_slots_opens_and_a_removed_one_does_not() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let image = luks2(&instance, "image", &[]);
    let other = |slot: u32| {
        let path = instance.path(&format!("key{slot}"));
        std::fs::write(&path, format!("passphrase {slot}")).expect("room for it");
        path
    };
    for slot in 1..8 {
        let slot_word = slot.to_string();
        let add = ["luksAddKey", "--key-slot", &slot_word];
        let key = other(slot);
        let words = [&add[..], CHEAP_PBKDF2, &[text(&image), text(&key)]];
        cryptsetup(&instance, &words);
    }
    cryptsetup(&instance, &[&["luksKillSlot", text(&image), "3"]]);
    let status = |words: &[&str]| {
        let output = instance.run(&[&["open", text(&image), "d"], words].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for slot in 1..8 {
        let key = other(slot);
        let (code, errors) = status(&["--key-file", text(&key)]);
        assert_eq!(code, Some(if slot == 3 { 3 } else { 0 }), "slot {slot}: {errors}");
        if slot == 3 {
            continue;
        }
        instance.dmsim(&["close", "d"]);
        let wrong = ["--key-file", text(&key), "--key-slot", if slot == 5 { "6" } else { "5" }];
        assert_eq!(status(&wrong).0, Some(3), "slot {slot} opens another slot");
    }
    let (code, errors) = status(&["--key-file", text(&other(5)), "--key-slot", "3"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("key slot 3"), "{errors}");
    assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found");
}

#[test]
fn what_cannot_be_opened_is_told_apart_and_left_as_it_is() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let key = key_file(&instance);
    let good = std::fs::read(luks2(&instance, "good", &[])).expect("an image");
    let wrong = instance.path("wrong");
    std::fs::write(&wrong, "wrong").expect("room for it");

    let mut damaged = good.clone();
    damaged[4096 + 20] ^= 1;
    damaged[16384 + 4096 + 20] ^= 1;
    let mut short = good.clone();
    short.truncate(MIB as usize);
    let cases: [(&str, Vec<u8>, &Path, i32, &str); 5] = [
        ("passphrase", good.clone(), &wrong, 3, "no key available"),
        ("nothing", vec![0; MIB as usize], &key, 4, "no container found"),
        ("damaged", damaged, &key, 5, "damaged header"),
        ("short", short, &key, 5, "expected at least"),
        ("empty", Vec::new(), &key, 4, "no container found"),
    ];
    for (name, bytes, key, code, words) in cases {
        let image = instance.path(name);
        std::fs::write(&image, &bytes).expect("room for it");
        let output = instance.run(&["open", text(&image), "d", "--key-file", text(key)]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{name}: {errors}");
        assert!(errors.contains(words) && errors.contains(name), "{name}: {errors}");
        assert!(std::fs::read(&image).expect("an image") == bytes, "{name} was changed");
    }

    // One copy of the header is enough, and it is said which.
    let mut half = good.clone();
    half[4096 + 20] ^= 1;
    let image = instance.path("half");
    std::fs::write(&image, &half).expect("room for it");
    let output = instance.run(&["open", text(&image), "d", "--key-file", text(&key)]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("warning"), "{errors}");
    instance.dmsim(&["close", "d"]);
    assert!(std::fs::read(&image).expect("an image") == half, "a header was changed");

    let taken = luks2(&instance, "taken", &[]);
    instance.dmsim(&["open", text(&taken), "d", "--key-file", text(&key)]);
    let told = instance.refused(&["open", text(&taken), "d", "--key-file", text(&key)]);
    assert!(told.contains("there already"), "{told}");
    // As cryptsetup has it: one container is open once.
    let again = ["open", text(&taken), "again", "--key-file", text(&key)];
    let told = instance.refused(&again);
    assert!(told.contains("in use by the table of `d`") && told.contains("--shared"), "{told}");
    instance.dmsim(&[&again[..], &["--shared"]].concat());
    assert_eq!(instance.run(&["open", "x", "a/b"]).status.code(), Some(2));
}

#[test]
fn reencryption_and_integrity_are_refused_in_words() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let key = key_file(&instance);
    let image = luks2(&instance, "image", &["--sector-size", "512"]);
    let begin = ["reencrypt", "--init-only", "--resilience", "checksum"];
    let began = Command::new("cryptsetup")
        .args(["--batch-mode", "--key-file", text(&key)])
        .args(begin)
        .args(CHEAP_PBKDF2)
        .arg(&image)
        .output()
        .expect("cryptsetup runs");
    if began.status.success() {
        let output = instance.run(&["open", text(&image), "d", "--key-file", text(&key)]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{errors}");
        assert!(errors.contains("reencryption"), "{errors}");
    } else {
        eprintln!("skipped: cryptsetup cannot begin a reencryption here: {began:?}");
    }
}

#[test]
fn a_dump_reads_as_luks_dump_does() {
    if !has(&["cryptsetup"]) {
        return;
    }
    let instance = Instance::start();
    let image = luks2(&instance, "image", &["--label", "disk", "--subsystem", "mine"]);
    assert_eq!(
        instance.dmsim(&["dump", text(&image)]),
        sh("cryptsetup", &["luksDump", text(&image)])
    );
    let json = instance.dmsim(&["dump", "--json", text(&image)]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["type"], "luks2");
    assert_eq!(json["label"], "disk");
}

#[test]
fn plain_dm_crypt_is_what_cryptsetup_makes_of_the_same_words() {
    let instance = Instance::start();
    let image = empty(&instance, "image", MIB);
    let key = instance.path("key");
    std::fs::write(&key, [7; 64]).expect("room for it");
    let plain = ["open", "--type", "plain", text(&image), "p", "--key-file", text(&key)];
    let words = ["--key-size", "512", "--offset", "8", "--skip", "16", "--size", "64"];
    instance.dmsim(&[&plain[..], &words].concat());
    let table = instance.dmsim(&["table", "--showkeys", "p"]);
    let expected = format!("0 64 crypt aes-xts-plain64 {} 16 7:4096 8\n", "07".repeat(64));
    assert_eq!(table, expected);
    instance.dmsim(&["close", "p"]);
    // A passphrase on standard input is hashed: its sha256, cut to the key's length.
    let mut open = instance.command(&["open", "--type", "plain", text(&image), "p"]);
    let mut open = open.stdin(std::process::Stdio::piped()).spawn().expect("dmsim runs");
    std::io::Write::write_all(&mut open.stdin.take().expect("a pipe"), b"abc\n").expect("a reader");
    assert!(open.wait().expect("it ends").success());
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let table = instance.dmsim(&["table", "--showkeys", "p"]);
    assert!(table.contains(&format!("aes-xts-plain64 {sha256} 0 7:4096 0")), "{table}");
}

#[test]
fn what_was_open_is_restored_when_its_passphrase_is_given_again() {
    if !has(&["cryptsetup", "mkfs.ext4", "e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    let (image, key) = (luks2(&instance, "image", &[]), key_file(&instance));
    instance.dmsim(&["open", text(&image), "d", "--key-file", text(&key)]);
    sh("mkfs.ext4", &["-q", "-F", text(&instance.device("d"))]);
    instance.dmsim(&[
        "create",
        "raw",
        "--table",
        &format!("0 8 crypt aes-xts-plain64 {} 0 /dev/mapper/d 0", "5a".repeat(32)),
    ]);
    let state = std::fs::read_to_string(instance.path("run/record.log")).expect("a record");
    assert!(!state.contains(&"5a".repeat(8)), "{state}");

    let instance = Instance::start_in(instance.crash(), &[]);
    let output = instance.run(&["restore"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("d: its key is not on record"), "{errors}");
    let raw = instance.path("raw-key");
    std::fs::write(&raw, [0x5a; 32]).expect("room for it");
    let d = format!("d={}", text(&key));
    let wrong = format!("d={}", text(&raw));
    let output = instance.run(&["restore", "--key-file", &wrong]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no key available"), "{output:?}");
    instance.dmsim(&["restore", "--key-file", &d, "--key-file", &format!("raw={}", text(&raw))]);
    sh("e2fsck", &["-f", "-n", text(&instance.device("d"))]);
    let table = instance.dmsim(&["table", "--showkeys", "raw"]);
    assert!(table.contains(&"5a".repeat(32)), "{table}");
}

#[test]
fn a_cascade_of_ciphers_is_a_stack_of_devices_that_goes_as_it_came() {
    // Made by hand, as the volume format has it.
    const HEADER: &[u8] = include_bytes!("data/cascade.header");
    let instance = Instance::start();
    let image = empty(&instance, "image", MIB);
    let file = std::fs::File::options().write(true).open(&image).expect("an image");
    file.write_all_at(HEADER, 0).expect("room for it");
    let key = instance.path("key");
    std::fs::write(&key, "by hand").expect("room for it");
    let open = ["open", "--type", "truecrypt", "--hash", "sha512", text(&image), "v"];
    instance.dmsim(&[&open[..], &["--key-file", text(&key)]].concat());
    let deps = |name| instance.dmsim(&["deps", "-o", "devname", name]);
    assert!(deps("v").contains("v_1") && deps("v_1").contains("v_2"), "{}", deps("v"));
    let device = instance.device("v");
    let data = crate::harness::bytes(1, 65536);
    crate::harness::write_at(&device, 4096, &data).expect("room for it");
    instance.dmsim(&["close", "v"]);
    assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found");
    instance.dmsim(&[&open[..], &["--key-file", text(&key)]].concat());
    assert!(crate::harness::read_at(&device, 4096, 65536).expect("a read") == data);
    instance.dmsim(&["close", "v"]);
    // Each device has a uuid that ends in its name, and is cut: so far they differ.
    let (longest, longer) = ("n".repeat(113), "n".repeat(114));
    let open = |name: &str| {
        let words = ["open", "--type", "truecrypt", "--hash", "sha512", "--key-file", text(&key)];
        instance.run(&[&words[..], &[text(&image), name]].concat())
    };
    for name in ["my volume", &longest] {
        assert!(open(name).status.success(), "{name}");
        instance.dmsim(&["close", name]);
    }
    let told = String::from_utf8(open(&longer).stderr).expect("text");
    assert!(told.contains("name too long for a cascade"), "{told}");
    assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found");
}
