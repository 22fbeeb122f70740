//! What plain mode takes for its key: recorded from the real program, to the byte.

use std::fs::File;

use crate::harness::{Instance, sh, text};

/// What comes of a command line.
#[derive(Clone, Copy, Debug)]
enum Comes {
    /// A device with this key; zeros at its end are left out.
    Key(&'static str),
    /// No device.
    Refused,
}

use Comes::{Key, Refused};

/// What standard input is, the words after `open --type plain --cipher aes-xts-plain64 --key-size 256`,
/// and what came of it on Linux 6.12 with cryptsetup 2.6.1.
const ROWS: &[(&str, &str, Comes)] = &[
    (
        "pass",
        "--hash sha256",
        Key("e05f79651d465214e7558a382ed0f0e5a77380a649f4573f3a1036dc4ee10c0b"),
    ),
    (
        "pass",
        "--hash sha256 -d -",
        Key("8ccb7656476e1b085f39fba14446c3465b0508890c08ad6492e0a83560d93afc"),
    ),
    (
        "pass",
        "--hash sha256 --keyfile-offset 3",
        Key("06120040217ec5108750bf6562bfcc780920a4ae6b1326999390933201427b30"),
    ),
    (
        "pass",
        "--hash sha256 -d - --keyfile-offset 3",
        Key("c445d58ff16e099464624066d64c48ca37b7fd2d7869fbad5a638f14ef1fedd2"),
    ),
    (
        "pass",
        "--hash sha256 --keyfile-size 4",
        Key("f1ac93b95c49005a867235c619514458b27bad32713869c3b525e73454c90466"),
    ),
    (
        "pass",
        "--hash sha256 -d - --keyfile-size 4",
        Key("f1ac93b95c49005a867235c619514458b27bad32713869c3b525e73454c90466"),
    ),
    ("pass", "--hash sha256 --keyfile-size 12", Refused),
    (
        "pass",
        "--hash sha256 -d - --keyfile-size 12",
        Key("83ae93d0902e24ec8e7d16e996816aa8f80e1e9bba5cf190bc305bdc18655091"),
    ),
    ("pass", "--hash sha256 --keyfile-size 40", Refused),
    ("pass", "--hash sha256 -d - --keyfile-size 40", Refused),
    (
        "pass",
        "--hash sha256 --keyfile-offset 3 --keyfile-size 4",
        Key("9f6504e20cbc25441b505f2a1aca86296d02de7561f80d444c977925fb47a6e3"),
    ),
    (
        "pass",
        "--hash sha256 -d - --keyfile-offset 3 --keyfile-size 4",
        Key("9f6504e20cbc25441b505f2a1aca86296d02de7561f80d444c977925fb47a6e3"),
    ),
    (
        "pass",
        "--hash sha256 --keyfile-size 0",
        Key("e05f79651d465214e7558a382ed0f0e5a77380a649f4573f3a1036dc4ee10c0b"),
    ),
    (
        "pass",
        "--hash sha256 -d - --keyfile-size 0",
        Key("8ccb7656476e1b085f39fba14446c3465b0508890c08ad6492e0a83560d93afc"),
    ),
    ("pass", "--hash sha256 --keyfile-offset 15", Refused),
    ("pass", "--hash sha256 -d - --keyfile-offset 15", Refused),
    ("pass", "--hash sha256 --keyfile-offset 16", Refused),
    ("pass", "--hash sha256 -d - --keyfile-offset 16", Refused),
    (
        "pass",
        "--hash sha256 --keyfile-offset 10",
        Key("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ),
    (
        "pass",
        "--hash sha256 -d - --keyfile-offset 10",
        Key("155713b19887c754e40d339f3bdfce77ca39772b1ffbe929dbc4b785e4d76592"),
    ),
    (
        "pass",
        "--hash sha256 --keyfile-size 10",
        Key("e05f79651d465214e7558a382ed0f0e5a77380a649f4573f3a1036dc4ee10c0b"),
    ),
    (
        "pass",
        "--hash sha256 -d - --keyfile-size 10",
        Key("e05f79651d465214e7558a382ed0f0e5a77380a649f4573f3a1036dc4ee10c0b"),
    ),
    ("pass", "--hash sha256 --keyfile-size 11", Refused),
    (
        "pass",
        "--hash sha256 -d - --keyfile-size 11",
        Key("7bf121cff2aacc8036ceed3c81f747e42b2991503f23d3bfad388bbbba6b1c87"),
    ),
    ("empty", "--hash sha256", Refused),
    ("empty", "--hash sha256 -d -", Refused),
    (
        "nl",
        "--hash sha256",
        Key("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ),
    (
        "nl",
        "--hash sha256 -d -",
        Key("01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b"),
    ),
    (
        "long",
        "--hash sha256",
        Key("5130b33e6b87fbf5316ed9049e98924eb110800bcbaaad8050f642fba6df37c9"),
    ),
    ("pass", "--hash plain", Key("73656372657470617373")),
    ("pass", "--hash plain -d -", Refused),
    (
        "k64",
        "--hash plain -d -",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "k64",
        "--hash plain -d - --keyfile-size 4",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    ("k64", "--hash plain --keyfile-size 4", Key("312c322c")),
    (
        "k64",
        "--hash plain",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "k64",
        "--hash plain -d - --keyfile-offset 8",
        Key("352c362c372c382c392c31302c31312c31322c31332c31342c31352c31362c31"),
    ),
    ("pass", "--hash plain:4", Key("73656372")),
    ("pass", "--hash plain:32", Refused),
    ("pass", "--hash plain:33", Refused),
    ("pass", "--hash plain:4 -d -", Key("73656372")),
    ("pass", "--hash plain:4 -d - --keyfile-size 8", Key("73656372")),
    ("k64", "--hash plain:32 -d - --keyfile-size 8", Refused),
    (
        "empty",
        "--hash sha512 --key-file k64",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "empty",
        "--hash nosuch --key-file k64",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "empty",
        "--key-file k64 --keyfile-size 4",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "empty",
        "--key-file k64 --keyfile-size 100",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "empty",
        "--key-file k64 --keyfile-offset 8",
        Key("352c362c372c382c392c31302c31312c31322c31332c31342c31352c31362c31"),
    ),
    (
        "empty",
        "--key-file k64 --keyfile-offset 32",
        Key("2c31352c31362c31372c31382c31392c32302c32312c32322c32332c32342c32"),
    ),
    ("empty", "--key-file k64 --keyfile-offset 33", Refused),
    ("empty", "--key-file k64 --keyfile-offset 64", Refused),
    ("empty", "--key-file k64 --keyfile-offset 65", Refused),
    ("empty", "--key-file k16", Refused),
    ("empty", "--key-file empty", Refused),
    ("empty", "--key-file /dev/null", Refused),
    ("empty", "--key-file /dev/zero", Key("")),
    ("empty", "--key-file /dev/zero --keyfile-offset 100000", Key("")),
    ("empty", "--key-file nosuch", Refused),
    ("empty", "--key-file .", Refused),
    (
        "empty",
        "--key-file k64 -q --hash sha512 --keyfile-size 4",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "empty",
        "--key-file k64 --key-slot 1",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
    (
        "empty",
        "--key-file k64 --device-size 8k",
        Key("312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c3134"),
    ),
];

/// Makes the files of the rows: `pass` has a newline in it and none at its end, `nl` is one newline.
fn write_files(instance: &Instance) {
    let numbers: String = (1..=40).map(|number| format!("{number},")).collect();
    let long = "x".repeat(600);
    let files = [
        ("k64", &numbers[..64]),
        ("k16", &numbers[..16]),
        ("pass", "secretpass\nmore"),
        ("nl", "\n"),
        ("empty", ""),
        ("long", &long),
    ];
    for (name, content) in files {
        std::fs::write(instance.path(name), content).expect("room for it");
    }
}

const OPEN: &[&str] =
    &["open", "--type", "plain", "--cipher", "aes-xts-plain64", "--key-size", "256"];

/// Opens a device `p` and returns its key, or nothing where it is refused; the device is closed again.
fn key_of(instance: &Instance, stdin: &str, words: &[&str]) -> Option<String> {
    let image = instance.path("image");
    let words = [OPEN, words, &[text(&image), "p"]].concat();
    let stdin = File::open(instance.path(stdin)).expect("a file");
    let output = instance.command(&words).stdin(stdin).output().expect("dmsim runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        assert!(errors.starts_with("dmsim: "), "{words:?}: {errors}");
        assert_eq!(instance.dmsim(&["ls"]).trim_end(), "No devices found", "{words:?}");
        return None;
    }
    let table = instance.dmsim(&["table", "--showkeys", "p"]);
    instance.dmsim(&["close", "p"]);
    Some(table.split(' ').nth(4).expect("a key").to_owned())
}

#[test]
fn plain_mode_makes_the_key_that_cryptsetup_makes() {
    let instance = Instance::start();
    File::create(instance.path("image")).and_then(|file| file.set_len(20 << 20)).expect("room");
    write_files(&instance);
    for (stdin, words, comes) in ROWS {
        let key = key_of(&instance, stdin, &words.split(' ').collect::<Vec<_>>());
        let expected = match comes {
            Key(digits) => Some(format!("{digits:0<64}")),
            Refused => None,
        };
        assert_eq!(key, expected, "{words} < {stdin}");
    }
}

#[test]
fn an_endless_key_file_is_read_as_far_as_the_key() {
    let instance = Instance::start();
    File::create(instance.path("image")).and_then(|file| file.set_len(20 << 20)).expect("room");
    write_files(&instance);
    let random = ["--key-file", "/dev/urandom"];
    let key = || key_of(&instance, "empty", &random).expect("a key");
    assert_ne!(key(), key());
    // What cannot seek, and never ends.
    let image = instance.path("image");
    let program = crate::harness::DMSIM;
    let run = |words: &str| {
        let dir = text(&image).rsplit_once('/').expect("a folder").0;
        let open = format!("open --type plain --cipher aes-xts-plain64 --key-size 256 {words}");
        let script = format!(
            "export DMSIM_DIR={dir}/run; yes | {program} {open} {dir}/image p && \
             {program} table --showkeys p && {program} close p"
        );
        sh("sh", &["-c", &script])
    };
    for words in
        ["--hash plain -d - --keyfile-offset 100001", "-d /proc/self/fd/0 --keyfile-offset 1"]
    {
        let table = run(words);
        assert!(table.contains(&"0a79".repeat(16)), "{words}: {table}");
    }
}

#[test]
fn what_plain_mode_ignores_is_said() {
    let instance = Instance::start();
    File::create(instance.path("image")).and_then(|file| file.set_len(20 << 20)).expect("room");
    write_files(&instance);
    let warnings = |words: &str| {
        let image = instance.path("image");
        let words: Vec<&str> = words.split(' ').collect();
        let words = [&["open", "--type", "plain"], &words[..], &[text(&image), "p"]].concat();
        let stdin = File::open(instance.path("k64")).expect("a file");
        let output = instance.command(&words).stdin(stdin).output().expect("dmsim runs");
        let errors = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.success(), "{words:?}: {errors}");
        instance.dmsim(&["close", "p"]);
        let lines = errors.lines().map(|line| {
            let line = line.strip_prefix("dmsim: warning: ").expect("a warning");
            line.split(": ").next().expect("a word").to_owned()
        });
        lines.collect::<Vec<_>>()
    };
    let said = "-c aes-xts-plain64 -s 256";
    for (words, expected) in [
        ("-h sha512 -d k64", &["--hash is ignored"][..]),
        ("-l 4 -d k64", &["--keyfile-size is ignored"]),
        ("-h plain -l 4 -d -", &["--keyfile-size is ignored"]),
        ("-h sha512 -l 4 -S 1 -q -d k64", &[]),
        ("-h sha256 -l 4 -d -", &[]),
    ] {
        assert_eq!(warnings(&format!("{said} {words}")), expected, "{words}");
    }
    let by_default = warnings("-d k64 -q");
    assert!(by_default.len() == 1 && by_default[0].contains("aes-xts-plain64"), "{by_default:?}");
    let by_default = warnings("-c aes-xts-plain64 -s 256");
    assert!(by_default.len() == 1 && by_default[0].contains("sha256"), "{by_default:?}");
}

#[test]
fn a_device_is_restored_by_the_name_that_was_typed_and_a_key_on_standard_input() {
    let instance = Instance::start();
    File::create(instance.path("image")).and_then(|file| file.set_len(20 << 20)).expect("room");
    std::fs::write(instance.path("k32"), [7; 32]).expect("room for it");
    std::fs::write(instance.path("k64"), [7; 64]).expect("room for it");
    let image = instance.path("image");
    instance.dmsim(&["open", "--type", "plain", "-d", "k32", text(&image), "my disk"]);
    let instance = Instance::start_in(instance.crash(), &[]);
    // How much of a longer file was the key is not on record: no key is made up.
    let told = instance.refused(&["restore", "--key-file", "my disk=k64"]);
    assert!(told.contains("expected a key of 32 bytes, found 64"), "{told}");
    let mut restore = instance.command(&["restore", "--key-file", "my disk=-"]);
    let output = restore.stdin(File::open(instance.path("k32")).expect("a key")).output();
    let output = output.expect("dmsim runs");
    assert!(output.status.success(), "{output:?}");
    let table = instance.dmsim(&["table", "--showkeys", "my disk"]);
    assert!(table.contains(&"07".repeat(32)), "{table}");
}
