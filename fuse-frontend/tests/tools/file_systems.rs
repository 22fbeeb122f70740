//! File systems made on a device's file, and copied onto it and from it: each is clean afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use backing::Memory;
use fuse_frontend::Options;
use sim_core::{BlockDevice, DevNumber, Sectors};

use super::common::mounted::{Mounted, mount};
use super::common::{MIB, pattern};
use super::shell::{is_installed, run, said};
use super::{KEY, Node};

/// How large the device is, in MiB: what the largest file system needs.
const SIZE: u64 = 320;

/// What has to be installed, and a command whose success tells that all is well.
pub(crate) const FILE_SYSTEMS: &[(&str, &str)] = &[
    ("mkfs.ext4", "mkfs.ext4 -q -F $DST && e2fsck -fn $DST"),
    ("mkfs.ext4", "mkfs.ext4 -q -F -O ^has_journal -E nodiscard $DST && e2fsck -fn $DST"),
    ("mkfs.ext4", "mkfs.ext4 -q -F -E offset=1048576 $DST 100M && e2fsck -fn $DST?offset=1048576"),
    ("mkfs.ext4", "mkfs.ext4 -q -F $DST 100M && resize2fs $DST 200M && e2fsck -fn $DST"),
    ("mkfs.xfs", "mkfs.xfs -q -f $DST && xfs_repair -nf $DST"),
    ("mkfs.btrfs", "mkfs.btrfs -q -f $DST && btrfs check $DST"),
    ("mkfs.vfat", "mkfs.vfat -F 32 $DST && fsck.vfat -n $DST"),
    ("mkfs.exfat", "mkfs.exfat $DST && fsck.exfat -n $DST"),
    ("mkfs.f2fs", "mkfs.f2fs -q -f $DST && fsck.f2fs --dry-run $DST"),
    ("mkntfs", "mkntfs -q -F -Q $DST && ntfsfix -n $DST"),
    ("mkntfs", "mkntfs -q -F $DST 100000 && ntfsresize -i -f $DST"),
    ("mkfs.nilfs2", "mkfs.nilfs2 -q -f $DST && nilfs-tune -l $DST"),
    ("mkudffs", "mkudffs $DST && udfinfo $DST"),
    ("mkfs.jfs", "mkfs.jfs -q $DST && fsck.jfs -n -f $DST"),
    ("mkfs.minix", "mkfs.minix $DST && fsck.minix -f $DST"),
    ("mkswap", "mkswap -f $DST && swaplabel -L new $DST"),
    ("e2image", "mkfs.ext4 -q $DIR/fs 3M; e2image -ra $DIR/fs $DST && e2fsck -fn $DST"),
    (
        "partclone.extfs",
        "mkfs.ext4 -q $DIR/fs 3M; partclone.extfs -c -q -L $DIR/log -s $DIR/fs -O $DIR/clone && \
         partclone.restore -q -L $DIR/log -s $DIR/clone -O $DST && e2fsck -fn $DST",
    ),
    (
        "partclone.extfs",
        "mkfs.ext4 -q -F $DST 3M; partclone.extfs -c -q -L $DIR/log -s $DST -O $DIR/clone && \
         truncate -s 3M $DIR/fs && \
         partclone.restore -q -C -L $DIR/log -s $DIR/clone -O $DIR/fs && e2fsck -fn $DIR/fs",
    ),
];

/// How many at the end sleep for seconds.
const SLOW: usize = 2;

/// Runs rows, one after the other, over what the one before has left.
fn check(on: &str, path: &Path, file: &File, rows: &[(&'static str, &str)]) {
    let old = pattern(2 * MIB as usize);
    for at in (0..SIZE).step_by(16) {
        file.write_all_at(&old, at * MIB).unwrap();
    }
    let wrong =
        rows.iter().filter(|(program, _)| is_installed(program)).filter_map(|(_, script)| {
            let dir = tempfile::tempdir().unwrap();
            let output = run(script, &dir, &[("DST", path)]);
            (!output.status.success()).then(|| format!("{script}: {}", said(&output)))
        });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{on}:\n{}", wrong.join("\n"));
}

fn mounted(cache: bool, table: &str) -> Option<Mounted> {
    let mounted = mount(&Options { cache, ..Options::default() })?;
    for (minor, name) in [(2, "large"), (3, "store")] {
        let number = DevNumber { major: 7, minor };
        let memory = Memory::new(number, name, Sectors(SIZE * MIB / 512), 512);
        mounted.world.devices.add(name, memory as std::sync::Arc<dyn BlockDevice>);
    }
    mounted.world.create("d", table);
    Some(mounted)
}

#[test]
fn file_systems_are_clean_on_a_devices_file() {
    let sectors = SIZE * MIB / 512;
    let crypt = format!("0 {sectors} crypt aes-xts-plain64 {KEY} 0 large 0");
    let snapshot = format!("0 {sectors} snapshot large store N 8");
    let linear = format!("0 {sectors} linear large 0");
    let (quick, _) = FILE_SYSTEMS.split_last_chunk::<SLOW>().unwrap();
    for (cache, table, rows) in
        [(false, &linear, FILE_SYSTEMS), (true, &crypt, quick), (true, &snapshot, quick)]
    {
        let Some(mounted) = mounted(cache, table) else { return };
        check(table, &mounted.path("d"), &mounted.open("d"), rows);
    }
}

#[test]
fn file_systems_are_clean_on_a_block_node() {
    let Some(node) = Node::new(SIZE * MIB) else { return };
    let place = node.place();
    check("a block node", &place.path, &place.file, FILE_SYSTEMS);
}
