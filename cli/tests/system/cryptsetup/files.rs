//! Key files of containers: each row is run by cryptsetup and by dmsim, which have to agree.

use std::os::unix::fs::FileExt;
use std::process::Command;

use super::{CHEAP, empty};
use crate::harness::{DMSIM, Instance, has, sh, text};

/// Scripts that try a passphrase; `$P` is the program with `open --test-passphrase` of the container.
const ROWS: &[&str] = &[
    "$P -d lines",
    "$P -d - < lines",
    "cat lines | $P -d -",
    "$P < lines",
    "cat lines | $P",
    "$P -d first",
    "$P < first",
    "printf 'first line\\n' | $P -d -",
    "$P -d lines --keyfile-size 10",
    "$P -d lines -l 11",
    "cat lines | $P -d - -l 10",
    "cat lines | $P -l 10",
    "cat lines | $P -l 11",
    "$P -d lines --keyfile-offset 6 -l 4",
    "$P -d - --keyfile-offset 6 -l 4 < lines",
    "cat lines | $P -d - --keyfile-offset 6 -l 4",
    "cat lines | $P --keyfile-offset 6",
    "cat lines | $P --keyfile-offset 6 -l 4",
    "cat lines | $P --keyfile-offset 11",
    "$P --keyfile-offset 11 < lines",
    "$P -d lines --keyfile-offset 24",
    "$P -d lines --keyfile-offset 25",
    "cat lines | $P -d - --keyfile-offset 24",
    "cat lines | $P -d - --keyfile-offset 99",
    "$P -d large",
    "$P -d large -l 9437184",
    "cat large | $P -d - -l 9437184",
    "$P -d - -l 9437184 < large",
    "$P -d large -l 9437185",
    "$P -d large -l 4294967295",
    "$P -d large -l 4294967296",
    "$P -d large -l -1",
    "$P -d large -l 0",
    "$P -d largest",
    "$P -d far --keyfile-offset 15000000000",
    "$P -d - --keyfile-offset 15000000000 < far",
    "$P -d far --keyfile-offset 15000000001",
    "$P -d far --keyfile-offset 15000000000 -l 3",
    "$P -d far --keyfile-offset 18446744073709551615",
    "cat first | $P -d - --keyfile-offset 18446744073709551615",
    "$P -d empty",
    "$P -d - < empty",
    "$P < empty",
    "$P -d /dev/null",
    "printf '\\n' | $P",
    "printf '\\n' | $P -d -",
    "$P -d /dev/zero -l 16",
    "$P -d /dev/urandom -l 20000000",
    "yes | $P -d - -l 5",
    "$P -d /dev/zero --keyfile-offset 1000000 -l 64",
    "$P -d long",
    "$P < long",
    "cat long | $P -d -",
    "$P -d .",
    "$P -d nosuch",
    "mkfifo fifo; cat first > fifo & $P -d fifo; S=$?; rm fifo; exit $S",
    "mkfifo fifo; cat lines > fifo & $P -d fifo --keyfile-offset 6 -l 4; S=$?; rm fifo; exit $S",
    // The second program finds the second line.
    "{ $P && $P; } < lines",
    "{ $P && $P && $P; } < lines",
    "cat lines | { $P && $P; }",
    "{ read -r line; $P -d -; } < lines",
    "{ read -r line; $P -d - --keyfile-offset 7; } < lines",
    "$P -d first -S 1",
    "$P -d first -S 2",
    "$P -d first -S 7",
    "$P -d first -S 99",
    "$P -d first --hash sha512 --key-size 512 --cipher aes-cbc-plain",
    "$P -d first --offset 8",
    "$P -d first --skip 8",
    "$P -d first --sector-size 4096",
    "$P -d first --disable-keyring --disable-locks --disable-external-tokens -q -v",
    "$P -d first --type luks",
    "$P -d first --type luks1",
    "$P -d first --type luks2",
    "$P -d first --type bitlk",
    "$P -d first --type plain",
    "$P -d first --tcrypt-hidden",
    "$P -d first -y -T 2 -t 5",
];

/// Rows of the same kind, and whether cryptsetup 2.6.1 opens; it takes 6 s and more for each, as its
/// buffer grows by 4 KiB at a time.
const SLOW_ROWS: &[(&str, bool)] = &[
    ("cat large | $P -d -", false),
    ("cat largest | $P -d -", true),
    ("$P -d /dev/zero", false),
    ("$P -d /dev/urandom", false),
];

/// How many rows are run with LUKS1, where keys are read by the same rules.
const LUKS1_ROWS: usize = 12;

/// Makes the files of the rows, and a container with all passphrases that they should have.
fn prepare(instance: &Instance, kind: &str) -> String {
    let large: Vec<u8> = (0..9u32 << 20).map(|at| (at % 251) as u8).collect();
    let long = vec![b'x'; 600];
    let files: [(&str, &[u8]); 7] = [
        ("lines", b"first line\nsecond line\n+"),
        ("first", b"first line"),
        ("large", &large),
        ("largest", &large[..8 << 20]),
        ("empty", b""),
        ("long", &long),
        ("second", b"second line"),
    ];
    for (name, content) in files {
        std::fs::write(instance.path(name), content).expect("room for it");
    }
    let far = std::fs::File::create(instance.path("far")).expect("a new file");
    far.write_all_at(b"line", 15_000_000_000).expect("room for it");
    let image = empty(instance, kind, 64 << 20);
    let add = |words: &[&str]| {
        let verb = if words.is_empty() { "luksFormat" } else { "luksAddKey" };
        let key = text(&instance.path("lines")).to_owned();
        let words = [words, &[text(&image)]].concat();
        let cost = if kind == "luks1" { &CHEAP[2..] } else { CHEAP };
        let format: &[&str] = if verb == "luksFormat" { &["--type", kind] } else { &[] };
        let all = [&["-q", verb, "--key-file", &key][..], format, cost, &words].concat();
        sh("cryptsetup", &all);
    };
    add(&[]);
    for (name, size) in
        [("first", ""), ("second", ""), ("large", "9437184"), ("largest", ""), ("empty", "")]
    {
        let file = instance.path(name);
        let sized = ["--new-keyfile-size", size];
        let sized: &[&str] = if size.is_empty() { &[] } else { &sized };
        add(&[sized, &["--new-keyfile", text(&file)]].concat());
    }
    let (far, long) = (instance.path("far"), instance.path("long"));
    add(&["--new-keyfile", text(&far), "--new-keyfile-offset", "15000000000"]);
    add(&["--new-keyfile", text(&long)]);
    text(&image).to_owned()
}

#[test]
fn luks_takes_the_keys_that_cryptsetup_takes() {
    if !has(&["cryptsetup", "mkfifo", "yes"]) {
        return;
    }
    for (kind, rows) in [("luks1", &ROWS[..LUKS1_ROWS]), ("luks2", ROWS)] {
        let instance = Instance::start();
        let image = prepare(&instance, kind);
        let run = |program: &str, script: &str| {
            let mut shell = Command::new("sh");
            let program = format!("{program} open --test-passphrase {image}");
            shell.args(["-c", &script.replace("$P", &program)]);
            shell.current_dir(instance.path("."));
            shell.env("DMSIM_DIR", instance.path("run")).stdin(std::process::Stdio::null());
            let output = shell.output().expect("a shell");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for script in rows {
            let (theirs, said_by_theirs) = run("cryptsetup", script);
            let (ours, said) = run(DMSIM, script);
            assert_eq!(
                ours, theirs,
                "{kind}: {script}\ncryptsetup: {said_by_theirs}\ndmsim: {said}"
            );
            assert!(ours || said.starts_with("dmsim: "), "{script}: {said}");
        }
        for (script, opens) in SLOW_ROWS {
            let (ours, said) = run(DMSIM, script);
            assert_eq!(ours, *opens, "{kind}: {script}: {said}");
        }
    }
}
