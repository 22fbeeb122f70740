//! Bios on attached images: what is read, written, zeroed and given up, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;

use backing::{AttachError, Images};
use common::{ask, attach, numbered, read, sector, submit, write};
use sim_core::{Access, Allocation, Backing, Bio, BlkError, Limits, Sector, Sectors};

#[test]
fn what_is_written_is_read_and_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 1000);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    assert_eq!(read(&*device, 999, 1).unwrap(), sector(999));
    assert_eq!(write(&*device, 500, &[9; 1024]), Ok(()));
    assert_eq!(read(&*device, 501, 2).unwrap(), [vec![9; 512], sector(502)].concat());
    assert_eq!(submit(&*device, Bio::write(Sector(999), &[8; 512]).with_fua()), Ok(()));
    assert_eq!(submit(&*device, Bio::flush()), Ok(()));
    let file = fs::read(&path).unwrap();
    assert_eq!(file.len(), 512_000);
    assert_eq!((file[500 * 512], file[999 * 512]), (9, 8));
    assert_eq!(images.flush_all(), Ok(()));
}

#[test]
fn a_size_that_is_no_multiple_of_a_sector_is_rounded_down() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, vec![3; 4096 * 3 + 512 * 5 + 77]).unwrap();
    for (sector_size, sectors) in [(512, 29), (4096, 24)] {
        let images = Images::new();
        let device = attach(&images, &backing::Attach { sector_size, ..ask(&path) });
        assert_eq!(device.size(), Sectors(sectors));
        let last = sectors - u64::from(sector_size) / 512;
        let block = vec![4; sector_size as usize];
        assert_eq!(write(&*device, last, &block), Ok(()));
        assert_eq!(read(&*device, last, sectors - last).unwrap(), block);
        assert_eq!(read(&*device, sectors, sectors - last), Err(BlkError::Io));
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096 * 3 + 512 * 5 + 77);
    assert_eq!(fs::read(&path).unwrap().last(), Some(&3));
}

#[test]
fn an_image_smaller_than_a_sector_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    for (len, sector_size) in [(0, 512), (511, 512), (4095, 4096)] {
        fs::write(&path, vec![0; len]).unwrap();
        let refused = Images::new().attach(&backing::Attach { sector_size, ..ask(&path) });
        let error = refused.unwrap_err();
        assert!(matches!(error, AttachError::TooSmall { .. }), "{error}");
        let expected = format!("expected at least one sector of {sector_size} bytes, found {len}");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn bios_off_the_grid_of_logical_blocks_fail() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 64);
    let images = Images::new();
    let device = attach(&images, &backing::Attach { sector_size: 4096, ..ask(&path) });
    assert_eq!(device.limits(), Limits::image(4096));
    assert!(read(&*device, 8, 8).is_ok());
    assert_eq!(read(&*device, 1, 8), Err(BlkError::Io));
    assert_eq!(read(&*device, 8, 1), Err(BlkError::Io));
    assert_eq!(write(&*device, 4, &[0; 4096]), Err(BlkError::Io));
    assert_eq!(submit(&*device, Bio::discard(Sector(8), Sectors(4))), Err(BlkError::Io));
    assert_eq!(submit(&*device, Bio::write_zeroes(Sector(8), Sectors(8))), Ok(()));
    assert!(!device.lend(Sector(1), Sectors(8), &mut |_| panic!("off the grid")));
}

#[test]
fn bios_past_the_end_fail_and_leave_the_file_as_long_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 64);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    for at in [57, 64, 1 << 40, u64::MAX - 7, u64::MAX] {
        assert_eq!(read(&*device, at, 8), Err(BlkError::Io), "{at}");
        assert_eq!(write(&*device, at, &[0; 4096]), Err(BlkError::Io), "{at}");
        let discard = Bio::discard(Sector(at), Sectors(8));
        assert_eq!(submit(&*device, discard), Err(BlkError::Io), "{at}");
        assert!(!device.lend(Sector(at), Sectors(8), &mut |_| panic!("past the end")));
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 64 * 512);
    assert_eq!(images.list()[0].fault, None);
}

#[test]
fn a_read_only_image_takes_reads_and_flushes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 64);
    let images = Images::new();
    let device = attach(&images, &backing::Attach { access: Access::ReadOnly, ..ask(&path) });
    assert_eq!(device.access(), Access::ReadOnly);
    assert!(!device.limits().write_cache);
    assert_eq!(read(&*device, 63, 1).unwrap(), sector(63));
    assert_eq!(write(&*device, 0, &[0; 512]), Err(BlkError::Io));
    assert_eq!(submit(&*device, Bio::discard(Sector(0), Sectors(8))), Err(BlkError::Io));
    assert_eq!(submit(&*device, Bio::write_zeroes(Sector(0), Sectors(8))), Err(BlkError::Io));
    assert_eq!(submit(&*device, Bio::flush()), Ok(()));
    assert_eq!(images.flush_all(), Ok(()));
    assert_eq!(fs::read(&path).unwrap()[..512], sector(0));
}

#[test]
fn a_discard_gives_room_back_and_zeroing_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 4096);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    let room = || fs::metadata(&path).unwrap().blocks();
    assert_eq!(submit(&*device, Bio::flush()), Ok(()));
    let before = room();
    assert_eq!(submit(&*device, Bio::write_zeroes(Sector(1024), Sectors(1024))), Ok(()));
    let zeroed = room();
    assert_eq!(submit(&*device, Bio::discard(Sector(2048), Sectors(1024))), Ok(()));
    assert!(room() + 1000 <= zeroed && zeroed <= before, "{before} {zeroed} {}", room());
    assert!(read(&*device, 1024, 2048).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(read(&*device, 1023, 1).unwrap(), sector(1023));
    assert_eq!(read(&*device, 3072, 1).unwrap(), sector(3072));
    assert_eq!(submit(&*device, Bio::discard(Sector(1), Sectors(1))), Ok(()));
    assert_eq!(read(&*device, 0, 1).unwrap(), sector(0));
    assert_eq!(read(&*device, 2, 1).unwrap(), sector(2));
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096 * 512);
}

#[test]
fn holes_are_told_from_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let images = Images::new();
    let made = backing::Attach { create: Some((8 << 20) + 512), ..ask(&path) };
    let device = attach(&images, &made);
    let (hole, data) = (Allocation::Hole, Allocation::Data);
    assert_eq!(device.run_at(Sector(0)), (hole, Sectors(16385)));
    assert_eq!(write(&*device, 2048, &[1; 1 << 20]), Ok(()));
    assert_eq!(device.run_at(Sector(3)), (hole, Sectors(2045)));
    assert_eq!(device.run_at(Sector(2050)), (data, Sectors(2046)));
    assert_eq!(device.run_at(Sector(4096)), (hole, Sectors(12289)));
    assert_eq!(device.run_at(Sector(16384)), (hole, Sectors(1)));
    // What is cut off is not a hole: it would be shown as zeros.
    common::truncate(&path, 2 << 20);
    assert_eq!(device.run_at(Sector(4096)), (data, Sectors(12289)));
}

#[test]
fn a_preallocated_image_has_room_for_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::new();
    for (name, preallocate, blocks) in [("sparse", false, 0), ("full", true, 2048)] {
        let path = dir.path().join(name);
        let made = backing::Attach { create: Some(1 << 20), preallocate, ..ask(&path) };
        let device = attach(&images, &made);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (1 << 20, 0o600));
        assert!((blocks..=blocks + 64).contains(&metadata.blocks()), "{name}");
        assert!(read(&*device, 0, 2048).unwrap().iter().all(|byte| *byte == 0));
    }
}

#[test]
fn lent_pages_are_those_of_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 64);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    let mut file = tempfile::tempfile().unwrap();
    let lent = device.lend(Sector(3), Sectors(2), &mut |bytes| {
        std::io::Write::write_all(&mut file, bytes).unwrap();
    });
    assert!(lent);
    let mut back = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut back).unwrap();
    assert_eq!(back, [sector(3), sector(4)].concat());
}

#[test]
fn many_threads_read_and_write_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 4096);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    thread::scope(|threads| {
        for own in 0..8u64 {
            let device = &device;
            threads.spawn(move || {
                for round in 0..400u64 {
                    let at = own * 512 + round % 512;
                    assert_eq!(read(&**device, at, 1).unwrap(), sector(at));
                    assert_eq!(write(&**device, at, &sector(at + round)), Ok(()));
                    assert_eq!(read(&**device, at, 1).unwrap(), sector(at + round));
                    if round % 100 == 0 {
                        assert_eq!(submit(&**device, Bio::flush()), Ok(()));
                    }
                }
            });
        }
    });
    assert!(images.by_number(device.number()).is_ok());
}
