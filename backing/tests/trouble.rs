//! What goes wrong below an image: it is cut, or its file system is full.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use backing::{Attach, Images};
use common::{Tmpfs, ask, attach, numbered, read, sector, submit, truncate, write};
use sim_core::{Bio, BlkError, Errno, Sector, Sectors};

const SECTORS: u64 = 2048;

/// Reads within which a thread must have seen that its image was cut: seconds of them.
const MANY: u64 = 50_000_000;

/// Cuts an image of [`SECTORS`] to `len` bytes and expects `touch` to see the end of it.
fn check_cut(dir: &Path, len: u64, touch: impl FnOnce(&dyn sim_core::BlockDevice)) {
    let path = numbered(dir, "image", SECTORS);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    assert_eq!(read(&*device, 0, SECTORS).unwrap()[..512], sector(0));
    truncate(&path, len);
    touch(&*device);
    // For good: also when the file is long again.
    truncate(&path, SECTORS * 512);
    assert_eq!(read(&*device, 0, 1), Err(BlkError::Io));
    assert_eq!(write(&*device, 0, &[0; 512]), Err(BlkError::Io));
    assert_eq!(submit(&*device, Bio::flush()), Err(BlkError::Io));
    assert!(!device.lend(Sector(0), Sectors(8), &mut |_| panic!("lent on a bad image")));
    let fault = images.list()[0].fault.clone().unwrap();
    assert!(fault.starts_with("image was truncated or cannot be read"), "{fault}");
    let failed = images.flush_all().unwrap_err();
    assert!(failed.path.ends_with("image"));
    assert_eq!((failed.errno, failed.fault), (Errno::IO, Some(fault)));
}

#[test]
fn a_read_of_what_was_cut_off_fails() {
    let dir = tempfile::tempdir().unwrap();
    for len in [0, 4096, 4096 + 512] {
        check_cut(dir.path(), len, |device| {
            assert_eq!(read(device, 1024, 8), Err(BlkError::Io));
        });
        // From what is left into what is not.
        check_cut(dir.path(), len, |device| {
            assert_eq!(read(device, 0, 32), Err(BlkError::Io));
        });
    }
}

#[test]
fn a_page_that_was_cut_in_its_middle_is_not_read_as_zeros() {
    let dir = tempfile::tempdir().unwrap();
    // Sector 9 is gone, but its page is not: no signal comes for it.
    check_cut(dir.path(), 4096 + 512, |device| {
        assert_eq!(read(device, 9, 1), Err(BlkError::Io));
    });
    // The same in the last page, which has nothing behind it.
    check_cut(dir.path(), (SECTORS - 1) * 512, |device| {
        assert_eq!(read(device, SECTORS - 2, 1).unwrap(), sector(SECTORS - 2));
        assert_eq!(read(device, SECTORS - 1, 1), Err(BlkError::Io));
    });
}

#[test]
fn a_write_does_not_make_a_cut_file_long_again() {
    let dir = tempfile::tempdir().unwrap();
    for (len, at) in [(4096, 1024), (4096, 0), (4096, SECTORS - 1), (1047552, SECTORS - 1)] {
        check_cut(dir.path(), len, |device| {
            assert_eq!(write(device, at, &[1; 512]), Err(BlkError::Io));
            assert_eq!(fs::metadata(dir.path().join("image")).unwrap().len(), len);
        });
        check_cut(dir.path(), len, |device| {
            assert_eq!(submit(device, Bio::discard(Sector(at), Sectors(1))), Err(BlkError::Io));
        });
        check_cut(dir.path(), len, |device| {
            let zeroes = Bio::write_zeroes(Sector(at), Sectors(1));
            assert_eq!(submit(device, zeroes), Err(BlkError::Io));
            assert_eq!(fs::metadata(dir.path().join("image")).unwrap().len(), len);
        });
    }
}

#[test]
fn a_cut_image_lends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    check_cut(dir.path(), 4096, |device| {
        assert!(!device.lend(Sector(0), Sectors(8), &mut |_| panic!("lent what is cut")));
    });
}

#[test]
fn an_image_cut_under_readers_and_writers_fails_them_and_never_shows_zeros() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let path = numbered(dir.path(), "image", SECTORS);
        let images = Images::new();
        let device = attach(&images, &ask(&path));
        let found_out = thread::scope(|threads| {
            let reads_until_it_fails = |own: u64| {
                let device = &*device;
                move || {
                    let mut at = own * 8;
                    for _ in 0..MANY {
                        match read(device, at, 1) {
                            // What comes before the error is right.
                            Ok(bytes) => assert_eq!(bytes, sector(at), "sector {at}"),
                            Err(error) => return error == BlkError::Io,
                        }
                        if own == 0 && write(device, at, &sector(at)).is_err() {
                            return true;
                        }
                        at = (at * 7 + 13) % (SECTORS - 8);
                    }
                    false
                }
            };
            let running = [0, 1, 2, 3].map(|own| threads.spawn(reads_until_it_fails(own)));
            thread::sleep(Duration::from_millis(2));
            truncate(&path, 512 * 512);
            running.map(|thread| thread.join().unwrap())
        });
        assert_eq!(found_out, [true; 4]);
        assert!(images.list()[0].fault.is_some());
    }
}

#[test]
fn other_images_go_on_when_one_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, good) = (numbered(dir.path(), "bad", 64), numbered(dir.path(), "good", 64));
    let images = Images::new();
    let (bad_device, good_device) = (attach(&images, &ask(&bad)), attach(&images, &ask(&good)));
    truncate(&bad, 0);
    assert_eq!(read(&*bad_device, 0, 8), Err(BlkError::Io));
    assert_eq!(read(&*good_device, 0, 1).unwrap(), sector(0));
    assert_eq!(write(&*good_device, 0, &[5; 512]), Ok(()));
    assert_eq!(images.flush_all().unwrap_err().path, bad.canonicalize().unwrap());
}

#[test]
fn a_full_file_system_fails_the_write_and_nothing_else() {
    let Some(tmpfs) = Tmpfs::new(512) else { return };
    let path = tmpfs.path().join("image");
    let images = Images::new();
    let device = attach(&images, &Attach { create: Some(4 << 20), ..ask(&path) });
    let mut written = 0;
    let result = loop {
        match write(&*device, written * 8, &[7; 4096]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1024, "the file system is full before that");
    };
    assert_eq!(result, BlkError::NoSpace);
    assert_eq!(submit(&*device, Bio::flush()), Ok(()));
    // Holes are read without taking room that is not there.
    assert!(read(&*device, 4096, 1024).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(read(&*device, 0, 8).unwrap(), [7; 4096]);
    let zeroes = Bio::write_zeroes(Sector(4096), Sectors(4096));
    assert_eq!(submit(&*device, zeroes), Ok(()));
    assert_eq!(images.list()[0].fault, None);
    // And what is given up can be written elsewhere.
    assert_eq!(submit(&*device, Bio::discard(Sector(0), Sectors(8))), Ok(()));
    assert_eq!(write(&*device, 8184, &[7; 4096]), Ok(()));
}

#[test]
fn an_image_that_does_not_fit_is_not_preallocated_and_leaves_nothing() {
    let Some(tmpfs) = Tmpfs::new(512) else { return };
    let path = tmpfs.path().join("image");
    let made = Attach { create: Some(4 << 20), preallocate: true, ..ask(&path) };
    let error = Images::new().attach(&made).unwrap_err();
    assert_eq!(error.errno(), Errno::NOSPC);
    assert!(!path.exists());
}

#[test]
fn reading_an_image_in_memory_takes_no_more_memory() {
    use std::os::unix::fs::MetadataExt;
    let Some(tmpfs) = Tmpfs::new(8192) else { return };
    let images = Images::new();
    for (name, preallocate) in [("sparse", false), ("full", true)] {
        let path = tmpfs.path().join(name);
        let made = Attach { create: Some(2 << 20), preallocate, ..ask(&path) };
        let device = attach(&images, &made);
        let room = || fs::metadata(&path).unwrap().blocks();
        let before = room();
        assert!(read(&*device, 0, 2048).unwrap().iter().all(|byte| *byte == 0));
        assert_eq!(room(), before, "{name}");
        assert_eq!(device.lend(Sector(0), Sectors(8), &mut |_| {}), preallocate);
        assert_eq!(submit(&*device, Bio::discard(Sector(0), Sectors(4096))), Ok(()));
        assert!(read(&*device, 0, 2048).unwrap().iter().all(|byte| *byte == 0));
        assert!(!device.lend(Sector(0), Sectors(8), &mut |_| panic!("a hole in memory is lent")));
        assert_eq!(room(), 0, "{name}");
    }
}
