//! A machine's udev is kept from block nodes: with files that make it look as if one ran, in a mount namespace.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::harness::{DMSIM, SOON, has, text, tool};
use crate::start;
use crate::users::went_well;

/// Runs a script as root in a mount namespace whose `/run` is that of a machine with udev, and a udevadm that writes
/// down what it is asked for and never ends.
fn with_udev(script: &str) -> Option<(TempDir, String)> {
    // Nothing of it is used but whether it can be.
    start(&["dmsetup", "unshare"])?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let udevadm = dir.path().join("udevadm");
    std::fs::write(&udevadm, "#!/bin/sh\necho \"$@\" >> \"$CALLS\"; exec sleep 60\n")
        .expect("a file");
    std::fs::set_permissions(&udevadm, PermissionsExt::from_mode(0o755)).expect("ours");
    let prepare = "set -e; mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/udev /run/lock; touch /run/udev/control
        rules() { cat /run/udev/rules.d/* 2> /dev/null | grep -c nowatch || true; }";
    let mut sh = Command::new("unshare");
    sh.args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(format!("{prepare}\n{script}"));
    let path = std::env::var("PATH").unwrap_or_default();
    sh.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", text(dir.path())));
    sh.env("CALLS", dir.path().join("calls")).env("dmsim", DMSIM).current_dir(dir.path());
    sh.env("DMSIM_DIR", dir.path().join("run")).env("SHELL", "/bin/true");
    let printed = went_well(&sh.output().expect("it runs")).0;
    Some((dir, printed))
}

#[test]
fn a_rule_is_there_as_long_as_the_nodes_are() {
    let begun = Instant::now();
    let script = r#"
        truncate -s 8M a.img; "$dmsim" start; rules
        "$dmsim" shell --disk a.img; rules; cat "$CALLS"
        "$dmsim" --dir "$PWD/other" start; "$dmsim" --dir "$PWD/other" shell -- true; rules
        "$dmsim" --dir "$PWD/other" stop; rules
        "$dmsim" stop; rules
    "#;
    let Some((_dir, printed)) = with_udev(script) else { return };
    let lines: Vec<&str> = printed.lines().collect();
    let [before, says, .., during, call, both, other, after] = lines[..] else {
        panic!("{printed}")
    };
    assert!(
        printed.contains("udev leaves its block nodes alone, by /run/udev/rules.d/10-dmsim-"),
        "{says}"
    );
    assert_eq!([before, during, both, other, after], ["0", "1", "2", "1", "0"], "{printed}");
    assert_eq!(call, "control --reload");
    assert!(begun.elapsed() < SOON, "a udev that does not answer is not waited for");
}

#[test]
fn a_rule_that_a_killed_daemon_has_left_goes_with_the_next_one() {
    let script = r#"
        "$dmsim" start --foreground > /dev/null 2>&1 & daemon=$!
        while ! "$dmsim" version > /dev/null 2>&1; do sleep 0.05; done
        "$dmsim" shell -- true; kill -9 $daemon; wait $daemon || true; rules
        echo '# somebody else is' > /run/udev/rules.d/10-other.rules
        "$dmsim" start; rules; ls /run/udev/rules.d; "$dmsim" stop
        rm -r /run/udev; "$dmsim" start; "$dmsim" shell -- true; test ! -e /run/udev; "$dmsim" stop
    "#;
    let Some((_dir, printed)) = with_udev(script) else { return };
    assert_eq!(printed, "1\n0\n10-other.rules\n");
}

/// What udev's own rules make of a node, by `udevadm test`.
#[test]
fn udev_neither_watches_nor_probes_a_node() {
    let Some(udevadm) = tool("udevadm").filter(|_| has(&["mkfs.ext4"])) else { return };
    let script = format!(
        r#"
        truncate -s 8M a.img; "$dmsim" shell --disk a.img -- mkfs.ext4 -q /dev/mapper/a
        node=$("$dmsim" shell -- sh -c 'dirname $(readlink /sys/block/dm-*/stat)')
        {0} test --action=add "$node" 2>&1
        rm /run/udev/rules.d/*; echo without; {0} test --action=add "$node" 2>&1; "$dmsim" stop"#,
        text(&udevadm)
    );
    let Some((_dir, printed)) = with_udev(&script) else { return };
    let (with, without) = printed.split_once("\nwithout\n").expect("both");
    if !without.contains("ID_FS_TYPE=ext4") {
        println!("skipped: udev has no rules here that probe");
        return;
    }
    assert!(!with.contains("ID_FS_TYPE") && !with.contains("by-uuid"), "{with}");
    for expected in ["SYSTEMD_READY=0", "DM_UDEV_DISABLE_OTHER_RULES_FLAG=1", "UDISKS_IGNORE=1"] {
        assert!(with.contains(expected), "{with}");
    }
}
