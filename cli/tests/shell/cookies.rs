//! Udev's cookies, held against what the real dmsetup did with them: the machine's udev is played, in
//! namespaces of the test's own, so that no cookie of the machine is touched.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{DMSIM, can_mount, has, text};
use crate::{FAILS, run, start};

/// What the script prints of the real dmsetup, on Linux 6.12.
const RECORDED: &str = include_str!("../cookies/recorded");

const SCRIPT: &str = include_str!("../cookies/script.sh");

/// Runs a script as root, where `dmsetup` is ours and `/run` is empty; returns what it printed.
fn alone(script: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    symlink(DMSIM, dir.path().join("dmsetup")).expect("a link");
    let mut sh = Command::new("unshare");
    sh.args(["--mount", "--ipc", "--propagation", "private", "sh", "-c"]);
    sh.arg(format!("mount -t tmpfs tmpfs /run\n{script}\n\"$dmsim\" stop > /dev/null"));
    let path = std::env::var("PATH").unwrap_or_default();
    sh.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", text(dir.path())));
    sh.env("DMSIM_DIR", dir.path().join("run")).env("dmsim", DMSIM).current_dir(dir.path());
    let output = sh.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn cookies_count_as_recorded() {
    if !can_mount() || !has(&["unshare", "perl"]) {
        return;
    }
    let printed = alone(SCRIPT);
    for (at, (ours, recorded)) in printed.lines().zip(RECORDED.lines()).enumerate() {
        let before: Vec<&str> = RECORDED.lines().take(at).collect();
        let command = before.iter().rfind(|line| line.starts_with('$'));
        assert_eq!(ours, recorded, "line {} after {command:?}", at + 1);
    }
    assert_eq!(printed.lines().count(), RECORDED.lines().count());
}

#[test]
fn ours_and_the_real_program_understand_each_others_cookies() {
    let Some(instance) = start(&["dmsetup", "unshare"]) else { return };
    let bin = instance.path("bin");
    std::fs::create_dir(&bin).expect("a folder");
    symlink(DMSIM, bin.join("dmsetup")).expect("a link");
    let script = format!(
        r#"ours={}
        unset DM_DISABLE_UDEV; : > /run/udev/control
        value() {{ "$@" udevcookies | awk -v cookie=$(printf 0x%x $c) '$1 == cookie {{ print $3 }}'; }}
        c=$($ours udevcreatecookie); test "$(value dmsetup)" = 1
        dmsetup create d --udevcookie $c --table '0 8 zero'; test "$(value $ours)" = 1
        $ours rename d e --udevcookie $c; test "$(value dmsetup)" = 1
        fails $ours remove e --udevcookie 0xd4d0000; DM_UDEV_COOKIE=$c $ours remove e
        dmsetup udevcomplete $c; test "$(value $ours)" = 0
        $ours udevcomplete_all -y; test -z "$(value dmsetup)"
        c=$(dmsetup udevcreatecookie); test "$(value $ours)" = 1
        $ours udevreleasecookie $c; test -z "$(value dmsetup)"
        rm /run/udev/control"#,
        text(&bin.join("dmsetup"))
    );
    let script = script.replace('\'', "'\\''");
    run(&instance, &format!("unshare --ipc sh -ec '{}{script}'", FAILS.replace('\'', "'\\''")));
    instance.dmsim(&["stop"]);
}
