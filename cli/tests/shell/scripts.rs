//! Scripts that were written for the kernel, unchanged, under the machine's dmsetup and under ours.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::DMSIM;
use crate::{disks, run, start};

/// Runs a script that makes a device longer, snapshots and renames it, all of it while it is mounted; after
/// `before`, in the shell.
fn runs_unchanged(before: &str) {
    let Some(instance) = start(&["dmsetup", "mkfs.ext4", "e2fsck", "blockdev"]) else { return };
    disks(&instance, &[("a", 64), ("b", 64)]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shell/old.sh");
    let work = instance.path("");
    symlink(DMSIM, work.join("dmsetup")).expect("a link");
    let (work, script) = (work.display(), script.display());
    let line = format!("cd {work}; {before}; sh {script} /dev/mapper/a /dev/mapper/b");
    assert_eq!(run(&instance, &line), "second\nthird\n");
    instance.dmsim(&["stop"]);
}

#[test]
fn a_script_that_grows_snapshots_and_renames_what_is_mounted_runs_unchanged() {
    runs_unchanged("! test dmsetup -ef \"$(command -v dmsetup)\"");
}

#[test]
fn the_same_script_runs_under_our_dmsetup() {
    runs_unchanged("PATH=$PWD:$PATH; test dmsetup -ef \"$(command -v dmsetup)\"");
}
