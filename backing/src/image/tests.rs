use std::fs;
use std::sync::Weak;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::*;
use crate::{Attach, block_on};

const MIB: u64 = 1 << 20;

/// An image file of `len` bytes that no list knows of. Its bytes are all `0xa5`.
fn image(len: u64, sync: SyncFile) -> (tempfile::TempDir, Image) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    fs::write(&path, vec![0xa5; len as usize]).unwrap();
    let access = Access::ReadWrite;
    let ask = Attach { access, ..Attach::as_it_is(&path) };
    let number = DevNumber { major: 7, minor: 0 };
    let label = Label {
        number,
        name: None,
        kernel_name: "loop0".to_owned(),
        access,
        sector_size: 512,
        on_the_spot: false,
    };
    let place = Place::new(Weak::<crate::Images>::new(), number);
    (dir, Image::with_sync(label, Opened::new(&ask).unwrap(), sync, place))
}

fn syncs() -> SyncFile {
    Box::new(|| Ok(()))
}

fn read(image: &Image, sector: u64, sectors: u64) -> Result<Vec<u8>, BlkError> {
    let mut buffer = vec![0x11; Sectors(sectors).bytes() as usize];
    let result = image.try_now(Bio::read(Sector(sector), &mut buffer));
    result.expect("a read is ready at once").map(|()| buffer)
}

fn is_all(bytes: &[u8], byte: u8) -> bool {
    bytes.iter().all(|b| *b == byte)
}

#[test]
fn a_path_that_leads_to_another_file_or_to_none_is_noticed() {
    use crate::Lost;
    let (dir, image) = image(MIB, syncs());
    let (path, aside) = (dir.path().join("image"), dir.path().join("aside"));
    let lost = || image.attached().lost;
    assert_eq!(lost(), None);
    fs::rename(&path, &aside).unwrap();
    assert_eq!(lost(), Some(Lost::Moved));
    fs::write(&path, "another").unwrap();
    assert_eq!(lost(), Some(Lost::Replaced));
    fs::rename(&aside, &path).unwrap();
    assert_eq!(lost(), None);
    fs::remove_file(&path).unwrap();
    assert_eq!(lost(), Some(Lost::Deleted));
}

#[test]
fn a_failed_flush_fails_everything_after_it() {
    let mut results = [Ok(()), Err(io::Error::from_raw_os_error(libc::EIO))].into_iter();
    let sync = Box::new(move || results.next().expect("no sync after the one that failed"));
    let (_dir, image) = image(MIB, sync);
    assert_eq!(block_on(image.submit(Bio::flush())), Ok(()));
    assert_eq!(image.attached().fault, None);
    assert_eq!(block_on(image.submit(Bio::flush())), Err(BlkError::Io));
    assert_eq!(block_on(image.submit(Bio::flush())), Err(BlkError::Io));
    assert_eq!(read(&image, 0, 8), Err(BlkError::Io));
    let write = image.try_now(Bio::write(Sector(0), &[0; 512]));
    assert_eq!(write.unwrap(), Err(BlkError::Io));
    assert!(!image.lend(Sector(0), Sectors(8), &mut |_| panic!("lent on a bad image")));
    let fault = image.attached().fault.unwrap();
    assert!(fault.starts_with("flush failed (Input/output error)"), "{fault}");
}

#[test]
fn a_write_with_fua_or_preflush_waits_for_the_flusher() {
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let sync = Box::new(move || {
        counted.fetch_add(1, SeqCst);
        Ok(())
    });
    let (_dir, image) = image(MIB, sync);
    let data = [7; 512];
    let mut both = Bio::write(Sector(1), &data).with_fua();
    both.flags.preflush = true;
    let Err(both) = image.try_now(both) else { panic!("it could wait") };
    assert_eq!(block_on(image.submit(both)), Ok(()));
    assert_eq!(count.load(SeqCst), 2);
    assert_eq!(read(&image, 1, 1).unwrap(), data);
    assert!(image.try_now(Bio::flush()).is_err());
}

#[test]
fn zeros_are_written_where_the_file_system_has_no_holes() {
    let (_dir, image) = image(4 * MIB, syncs());
    image.file_system.no_punch.store(true, Relaxed);
    image.file_system.no_zero_range.store(true, Relaxed);
    let (len, end) = (Sectors(5000), Sector(5003));
    assert_eq!(block_on(image.submit(Bio::write_zeroes(Sector(3), len))), Ok(()));
    assert!(is_all(&read(&image, 3, len.0).unwrap(), 0));
    assert_eq!(block_on(image.submit(Bio::discard(end, Sectors(10)))), Ok(()));
    assert!(is_all(&read(&image, end.0, 10).unwrap(), 0));
    assert!(is_all(&read(&image, 0, 3).unwrap(), 0xa5));
    assert!(is_all(&read(&image, 5013, 10).unwrap(), 0xa5));
    let room = fs::metadata(&image.path).unwrap();
    assert_eq!(room.len(), 4 * MIB);
}

#[test]
fn a_long_write_of_zeros_lets_others_run() {
    let (_dir, image) = image(4 * MIB, syncs());
    image.file_system.no_zero_range.store(true, Relaxed);
    image.file_system.no_punch.store(true, Relaxed);
    let mut zeroing = image.submit(Bio::write_zeroes(Sector(0), Sectors(8192)));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(zeroing.as_mut().poll(&mut context).is_pending());
    assert_eq!(block_on(zeroing), Ok(()));
    assert!(is_all(&read(&image, 0, 8192).unwrap(), 0));
}

#[test]
fn an_image_that_cannot_be_mapped_is_read_all_the_same() {
    let (_dir, image) = image(MIB, syncs());
    image.now().unmap();
    assert!(is_all(&read(&image, 0, 2048).unwrap(), 0xa5));
    assert!(!image.lend(Sector(0), Sectors(8), &mut |_| panic!("nothing to lend")));
    File::options().write(true).open(&image.path).unwrap().set_len(4096).unwrap();
    assert!(is_all(&read(&image, 0, 8).unwrap(), 0xa5));
    assert_eq!(read(&image, 8, 8), Err(BlkError::Io));
    assert!(image.attached().fault.unwrap().contains("truncated"));
}

#[test]
fn lent_pages_that_go_are_never_seen_as_zeros() {
    let (_dir, image) = image(MIB, syncs());
    let (pipe, mut other_end) = io::pipe().unwrap();
    let lent = std::thread::scope(|threads| {
        image.lend(Sector(1024), Sectors(8), &mut |bytes| {
            File::options().write(true).open(&image.path).unwrap().set_len(4096).unwrap();
            // The guard of this read would map zeros over the pages that are lent.
            let reader = threads.spawn(|| read(&image, 1024, 8));
            while image.now().health.is_good() {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!reader.is_finished(), "the reader waits for the reply");
            let written = rustix::io::write(&other_end, bytes);
            assert_eq!(written, Err(rustix::io::Errno::FAULT));
        })
    });
    assert!(lent);
    assert_eq!(read(&image, 0, 8), Err(BlkError::Io));
    // The pipe holds nothing.
    io::Write::write_all(&mut other_end, b"end").unwrap();
    drop(other_end);
    assert_eq!(io::read_to_string(pipe).unwrap(), "end");
}

#[test]
fn a_reservation_takes_room_in_a_sparse_file_and_changes_nothing() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, image) = image(MIB, syncs());
    let blocks = || image.file.metadata().unwrap().blocks();
    assert_eq!(block_on(image.submit(Bio::discard(Sector(0), Sectors(1024)))), Ok(()));
    let before = blocks();
    match block_on(image.reserve(Sector(8), Sectors(512))) {
        Err(BlkError::NotSupported) => {
            return println!("skipped: the file system reserves nothing");
        }
        reserved => assert_eq!(reserved, Ok(())),
    }
    assert!(blocks() >= before + 512, "{before} blocks, and {} afterwards", blocks());
    assert!(is_all(&read(&image, 0, 1024).unwrap(), 0));
    assert!(is_all(&read(&image, 1024, 1024).unwrap(), 0xa5));
    assert_eq!(block_on(image.reserve(Sector(2040), Sectors(9))), Err(BlkError::Io));
    // A file that was cut stays cut.
    File::options().write(true).open(&image.path).unwrap().set_len(4096).unwrap();
    assert_eq!(block_on(image.reserve(Sector(0), Sectors(8))), Err(BlkError::Io));
    assert_eq!(image.file.metadata().unwrap().len(), 4096);
}
