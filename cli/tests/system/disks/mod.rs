//! Images of whole disks, and what lies on them.

mod damaged;
mod groups;
mod open;
mod partitions;
mod sets;

use std::path::Path;

use crate::harness::{Instance, can_mount, has};

const MIB: u64 = 1 << 20;

/// Makes a sparse image.
fn empty(path: &Path, bytes: u64) {
    std::fs::File::create(path).and_then(|file| file.set_len(bytes)).expect("room for it");
}

/// Whether groups can be made here: LVM2 wants block devices, which a shell has for root alone.
fn can_make_groups() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "only root can make volume groups");
    if !root {
        println!("skipped: only root can make volume groups");
    }
    root && can_mount() && has(&["lvm", "mkfs.ext4", "mkswap"])
}

/// Runs a script where mapped devices are block devices.
fn in_shell(instance: &Instance, script: &str) {
    let output = instance.run(&["shell", "--", "sh", "-ec", script]);
    assert!(output.status.success(), "{script}: {output:?}");
}
