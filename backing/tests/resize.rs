//! An image whose file is grown or cut: its size changes when that is said, and then at once. As a
//! loop device's does by `losetup -c` on Linux 6.12, but that there is always one sector.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::thread;

use backing::{AttachError, Images};
use common::{Tmpfs, ask, attach, numbered, read, sector, truncate, write};
use sim_core::{Allocation, Bio, BlkError, Sector, Sectors};

const MIB: u64 = 2048;

#[test]
fn an_image_has_another_size_when_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", MIB);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    numbered(dir.path(), "image", 2 * MIB);
    assert_eq!(device.size(), Sectors(MIB));
    assert_eq!(read(&*device, MIB, 1), Err(BlkError::Io));
    // Half a sector more is none.
    truncate(&path, 2 * MIB * 512 + 256);
    let resized = images.resize(path.to_str().unwrap()).unwrap();
    assert_eq!((resized.size, device.size()), (Sectors(2 * MIB), Sectors(2 * MIB)));
    for at in [0, MIB - 1, MIB, 2 * MIB - 1] {
        assert_eq!(read(&*device, at, 1).unwrap(), sector(at));
        assert_eq!(write(&*device, at, &[6; 512]), Ok(()));
        assert_eq!(read(&*device, at, 1).unwrap(), [6; 512]);
    }
    let mut lent = 0;
    assert!(device.lend(Sector(MIB), Sectors(8), &mut |bytes| lent = bytes.len()));
    assert_eq!(lent, 4096);
    assert_eq!(read(&*device, 2 * MIB, 1), Err(BlkError::Io));
    truncate(&path, MIB / 2 * 512);
    images.resize("7:4096").unwrap();
    assert_eq!(device.size(), Sectors(MIB / 2));
    assert_eq!(images.list()[0].size, Sectors(MIB / 2));
    assert_eq!(read(&*device, MIB / 2 - 1, 1).unwrap(), sector(MIB / 2 - 1));
    for at in [MIB / 2, MIB, 2 * MIB - 1] {
        assert_eq!(read(&*device, at, 1), Err(BlkError::Io));
        assert_eq!(write(&*device, at, &[1; 512]), Err(BlkError::Io));
        assert!(!device.lend(Sector(at), Sectors(1), &mut |_| panic!("there is nothing there")));
        // Who maps onto the image may ask for what lies behind its end.
        assert_eq!(device.run_at(Sector(at)).0, Allocation::Data);
    }
    assert_eq!(common::submit(&*device, Bio::flush()), Ok(()));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), MIB / 2 * 512);
    assert_eq!(images.list()[0].fault, None);
}

#[test]
fn an_image_that_was_cut_is_of_use_again_when_it_is_resized() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", MIB);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    truncate(&path, 8192);
    assert_eq!(read(&*device, 100, 1), Err(BlkError::Io));
    assert_eq!(read(&*device, 0, 1), Err(BlkError::Io));
    assert!(images.list()[0].fault.is_some());
    assert_eq!(images.resize("7:4096").unwrap().fault, None);
    assert_eq!(device.size(), Sectors(16));
    assert_eq!(read(&*device, 0, 1).unwrap(), sector(0));
    // Cut, used, and made as long as it was: the same size, and what was cut off is zeros.
    truncate(&path, 512);
    assert_eq!(read(&*device, 8, 1), Err(BlkError::Io));
    truncate(&path, 8192);
    assert_eq!(read(&*device, 0, 1), Err(BlkError::Io));
    images.resize("7:4096").unwrap();
    assert_eq!(read(&*device, 0, 1).unwrap(), sector(0));
    assert_eq!(read(&*device, 8, 1).unwrap(), [0; 512]);
}

#[test]
fn what_is_too_small_or_unknown_is_refused_and_all_is_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", MIB);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    truncate(&path, 100);
    assert!(matches!(images.resize("7:4096"), Err(AttachError::TooSmall { size: 100, .. })));
    assert_eq!(device.size(), Sectors(MIB));
    assert!(matches!(images.resize("7:4097"), Err(AttachError::Unknown { .. })));
}

#[test]
fn an_image_is_resized_while_it_is_read() {
    let tmpfs = Tmpfs::new(4096);
    let dir = tempfile::tempdir().unwrap();
    let folders = [Some(dir.path()), tmpfs.as_ref().map(Tmpfs::path)];
    for folder in folders.into_iter().flatten() {
        let path = numbered(folder, "image", MIB);
        let images = Images::new();
        let device = attach(&images, &ask(&path));
        thread::scope(|scope| {
            for from in 0..2 {
                let device = &device;
                scope.spawn(move || {
                    for at in (from..MIB / 2).cycle().take(20_000) {
                        assert_eq!(read(&**device, at, 1).unwrap(), sector(at));
                        // In range or not: an error, never other bytes.
                        let high = MIB / 2 + at;
                        if let Ok(bytes) = read(&**device, high, 1) {
                            assert!(bytes == sector(high) || bytes == [0; 512]);
                        }
                    }
                });
            }
            for turn in 0..200 {
                // Longer only: what is cut while it is read fails, as it does without a resize.
                truncate(&path, (MIB + turn * 8) * 512);
                assert_eq!(images.resize("7:4096").unwrap().size, Sectors(MIB + turn * 8));
            }
        });
    }
}

#[test]
fn an_image_is_resized_only_so_often() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    for turn in 1..=1000 {
        truncate(&path, (8 + turn) * 512);
        images.resize("7:4096").unwrap();
        // Nothing new to see.
        images.resize("7:4096").unwrap();
    }
    truncate(&path, 8192 * 512);
    let told = images.resize("7:4096").unwrap_err().to_string();
    assert!(told.ends_with("resized 1000 times: detach it and attach it again"), "{told}");
    assert_eq!(device.size(), Sectors(1008));
    assert_eq!(read(&*device, 1, 1).unwrap(), sector(1));
}
