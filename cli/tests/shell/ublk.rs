//! Block nodes on ublk disks. No machine of CI has the driver: the tests say that they skip there, and are
//! run by hand in a guest that has it (docs/src/shell.md).

use std::path::Path;

use crate::harness::{Instance, text, wait_until};
use crate::{Waits, disks, run};

/// Tells whether nodes are on ublk disks here.
pub(crate) fn is_there() -> bool {
    Path::new("/dev/ublk-control").exists()
}

/// Tells whether a test that is about loop devices has none, and says so.
pub(crate) fn is_instead_of_loops() -> bool {
    if is_there() {
        println!("skipped: nodes are on ublk disks here");
    }
    is_there()
}

fn start(programs: &[&str]) -> Option<Instance> {
    if !is_there() {
        println!("skipped: no /dev/ublk-control");
        return None;
    }
    crate::start(programs)
}

fn number(instance: &Instance, name: &str) -> String {
    run(instance, &format!("stat -c %Hr:%Lr /dev/mapper/{name}"))
}

#[test]
fn a_daemon_that_is_killed_costs_a_mounted_file_system_no_error() {
    let Some(instance) = start(&["dmsetup", "mkfs.ext4", "e2fsck"]) else { return };
    disks(&instance, &[("a", 64)]);
    let folder = tempfile::tempdir().expect("a folder to mount at");
    let at = text(folder.path());
    let holds = Waits::run(
        &instance,
        &format!(
            "dmsetup create d --uuid U --table '0 131072 linear /dev/mapper/a 0'
            mkfs.ext4 -q /dev/mapper/d; mount /dev/mapper/d {at}; echo
            for i in $(seq 100); do
                head -c 20000 /dev/urandom > of; dd if=of of={at}/$i bs=4k conv=fsync 2> /dev/null
                cmp of {at}/$i
            done
            read x || true; ls {at} | wc -l; umount {at}; echo end"
        ),
    );
    let before = number(&instance, "d");
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    assert!(instance.refused(&["stop"]).contains("block nodes of `d`"));
    instance.dmsim(&["restore"]);
    assert_eq!(number(&instance, "d"), before);
    // With lost+found.
    assert_eq!(holds.end(), "101\nend\n");
    run(&instance, "e2fsck -fn /dev/mapper/d > /dev/null; dmsetup remove d");
    instance.dmsim(&["stop"]);
}

#[test]
fn a_device_that_is_not_restored_is_let_go_of_by_force() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    run(
        &instance,
        "dmsetup create d --table '0 2048 zero'; dmsetup create unused --table '0 8 zero'",
    );
    let holds = Waits::run(
        &instance,
        "exec 3< /dev/mapper/d; echo; read x || true
        head -c 512 <&3 | wc -c; echo end",
    );
    let dir = instance.crash();
    let instance = Instance::start_in(dir, &[]);
    instance.refused(&["stop"]);
    instance.dmsim(&["stop", "--force"]);
    assert_eq!(holds.end(), "0\nend\n");
    drop(instance);
}

#[test]
fn a_disk_that_is_removed_leaves_nothing() {
    let Some(instance) = start(&["dmsetup"]) else { return };
    let disks = || {
        let entries = std::fs::read_dir("/sys/class/ublk-char").expect("the driver's devices");
        entries.count()
    };
    let before = disks();
    run(&instance, "for i in 1 2 3; do dmsetup create d$i --table '0 2048 zero'; done");
    assert_eq!(disks(), before + 3);
    run(
        &instance,
        "exec 3< /dev/mapper/d1; fails dmsetup remove d1 2> /dev/null; dmsetup remove d2",
    );
    run(&instance, "dmsetup remove_all");
    wait_until("they are gone", || disks() == before);
    instance.dmsim(&["stop"]);
}
