//! fio writes and verifies, many requests at a time.

use crate::harness::{Instance, has, sh, text};

const MIB: u64 = 1 << 20;

/// Runs fio on a device of three targets over two images.
fn verified(options: &[&str]) {
    if !has(&["fio"]) {
        return;
    }
    let instance = Instance::start();
    for (file, name) in [("a", "/dev/sda"), ("b", "/dev/sdb")] {
        instance.image(file, name, 64 * MIB);
    }
    // An odd boundary in the middle, and chunks that are no power of two.
    let table = "0 30001 linear /dev/sda 3\n30001 48 striped 2 12 /dev/sda 60000 /dev/sdb 7\n\
                 30049 35487 linear /dev/sdb 65536";
    let device = instance.create("disk", table);
    let file = format!("--filename={}", text(&device));
    let mut args = vec!["--name=verified", &file, "--verify=crc32c", "--verify_fatal=1"];
    args.extend([
        "--minimal",
        "--do_verify=1",
        "--randrepeat=1",
        "--allow_file_create=0",
        "--verify_state_save=0",
    ]);
    args.extend(options);
    sh("fio", &args);
}

#[test]
fn direct_io_at_depth_32_is_verified() {
    verified(&["--rw=randwrite", "--bs=4k", "--direct=1", "--ioengine=libaio", "--iodepth=32"]);
}

#[test]
fn blocks_of_512_bytes_at_depth_32_are_verified() {
    verified(&[
        "--rw=randwrite",
        "--bs=512",
        "--size=6m",
        "--direct=1",
        "--ioengine=libaio",
        "--iodepth=32",
    ]);
}

#[test]
fn mixed_sizes_of_four_jobs_at_once_are_verified() {
    verified(&[
        "--rw=randrw",
        "--bssplit=512/10:1536/10:4k/40:20k/20:128k/15:1m/5",
        "--blockalign=512",
        "--numjobs=4",
        "--size=7m",
        "--offset_increment=8m",
        "--direct=1",
        "--ioengine=libaio",
        "--iodepth=16",
    ]);
}

#[test]
fn a_shared_mapping_is_verified() {
    verified(&["--rw=randwrite", "--bs=4k", "--size=16m", "--ioengine=mmap"]);
}

#[test]
fn buffered_io_is_verified() {
    verified(&["--rw=randwrite", "--bs=3k", "--size=16m", "--ioengine=psync", "--fsync=64"]);
}
