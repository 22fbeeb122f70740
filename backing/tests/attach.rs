//! Attaching, finding and detaching images.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use backing::{Attach, AttachError, Images, block_on};
use common::{Tmpfs, ask, attach, numbered, read, sector};
use rustix::fs::{FlockOperation, flock};
use sim_core::{Access, Backing, BlockDevice, DevNumber, Errno, OpenDevice, Sectors};

fn named(path: &Path, name: &str) -> Attach {
    Attach { name: Some(name.to_owned()), ..ask(path) }
}

fn number(text: &str) -> DevNumber {
    text.parse().unwrap()
}

fn find(images: &Arc<Images>, word: &str) -> Result<Arc<dyn BlockDevice>, Errno> {
    block_on(images.by_word(word, "/"))
}

#[test]
fn numbers_come_from_names_and_the_rest_take_the_lowest_that_no_name_wants() {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::new();
    let table = [
        (Some("/dev/sdb"), "8:16", "sdb"),
        (None, "7:4096", "loop4096"),
        (Some("/dev/loop1"), "7:1", "loop1"),
        (Some("/dev/hda"), "7:4097", "loop4097"),
        (Some("/dev/loop0"), "7:0", "loop0"),
        (Some("/dev/vda2"), "254:2", "vda2"),
    ];
    for (index, (name, expected, kernel_name)) in table.into_iter().enumerate() {
        let path = numbered(dir.path(), &index.to_string(), 8);
        let attached =
            images.attach(&Attach { name: name.map(str::to_owned), ..ask(&path) }).unwrap();
        assert_eq!(attached.number, number(expected));
        assert_eq!(attached.kernel_name, kernel_name);
        let word = name.unwrap_or(path.to_str().unwrap());
        assert_eq!(find(&images, word).unwrap().number(), number(expected));
        assert_eq!(images.by_number(number(expected)).unwrap().name(), kernel_name);
    }
    let numbers: Vec<_> = images.list().iter().map(|a| a.number.to_string()).collect();
    assert_eq!(numbers, ["7:0", "7:1", "7:4096", "7:4097", "8:16", "254:2"]);
    images.detach("loop4096").unwrap();
    assert_eq!(images.attach(&ask(&dir.path().join("1"))).unwrap().number, number("7:4096"));
    // What was asked for by its number and given back is not given out.
    images.detach("loop0").unwrap();
    let next = images.attach(&ask(&numbered(dir.path(), "next", 8))).unwrap();
    assert_eq!(next.number, number("7:4098"));
    assert_eq!(images.by_number(number("7:9")).err(), Some(Errno::NXIO));
}

#[test]
fn a_restored_image_has_the_number_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let images = Images::new();
    let ask = |text| Attach { number: Some(number(text)), ..ask(&path) };
    for bad in ["253:0", "0:1", "7:1048576"] {
        let error = images.attach(&ask(bad)).unwrap_err();
        assert!(matches!(error, AttachError::BadNumber { .. }), "{error}");
    }
    assert_eq!(images.attach(&ask("7:5")).unwrap().kernel_name, "loop5");
    let other = numbered(dir.path(), "other", 8);
    let error = images.attach(&Attach { path: other, ..ask("7:5") }).unwrap_err();
    assert_eq!(
        (error.errno(), error.to_string().as_str()),
        (Errno::BUSY, "number 7:5: used by another device already")
    );
}

#[test]
fn a_name_is_used_once_and_must_reach_the_images() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (numbered(dir.path(), "a", 8), numbered(dir.path(), "b", 8));
    let images = Images::new();
    images.attach(&named(&a, "disk")).unwrap();
    let error = images.attach(&named(&b, "disk")).unwrap_err();
    assert_eq!(error.to_string(), "name `disk`: used by 7:4096 already");
    for bad in ["", "8:16", "/dev/mapper/x", "/dev/dm-0", "two words"] {
        let error = images.attach(&named(&b, bad)).unwrap_err();
        assert!(matches!(error, AttachError::BadName { .. }), "{error}");
    }
}

#[test]
fn an_attached_name_comes_before_the_file_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let (file, image) = (numbered(dir.path(), "file", 8), numbered(dir.path(), "image", 16));
    let images = Images::new();
    images.attach(&named(&image, file.to_str().unwrap())).unwrap();
    assert_eq!(find(&images, file.to_str().unwrap()).unwrap().size(), Sectors(16));
}

#[test]
fn detach_takes_a_name_a_number_a_kernel_name_or_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let images = Images::new();
    let words = ["disk", "7:4096", "loop4096", "/dev/loop4096", path.to_str().unwrap()];
    for word in words {
        images.attach(&named(&path, "disk")).unwrap();
        images.detach(word).unwrap();
        assert!(images.list().is_empty(), "{word}");
        let error = images.detach(word).unwrap_err();
        assert_eq!(error.to_string(), format!("`{word}`: not attached"));
    }
}

#[test]
fn an_image_whose_file_was_removed_works_and_is_detached_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8).canonicalize().unwrap();
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&*device, 7, 1).unwrap(), sector(7));
    assert_eq!(common::write(&*device, 0, &[1; 512]), Ok(()));
    assert_eq!(images.flush_all(), Ok(()));
    images.detach(path.to_str().unwrap()).unwrap();
}

#[test]
fn an_image_in_use_is_not_detached() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    let open = OpenDevice::new(device.clone(), Access::ReadWrite).unwrap();
    let error = images.detach("7:4096").unwrap_err();
    assert_eq!(error.to_string(), "loop4096 (7:4096): in use by 1 table");
    assert_eq!(images.list()[0].users, 1);
    drop(open);
    images.detach("7:4096").unwrap();
    // Whoever found it before cannot open it any more.
    assert_eq!(device.open(Access::ReadWrite), Err(Errno::NXIO));
    assert_eq!(images.by_number(number("7:4096")).err(), Some(Errno::NXIO));
}

#[test]
fn an_image_is_attached_on_the_spot_and_goes_with_its_last_user() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let images = Images::new();
    let base = dir.path().to_str().unwrap();
    let first = block_on(images.by_word("image", base)).unwrap();
    let second = block_on(images.by_word(path.to_str().unwrap(), "/")).unwrap();
    assert_eq!(first.number(), second.number());
    let open = [first, second].map(|device| OpenDevice::new(device, Access::ReadWrite).unwrap());
    let attached = images.list().pop().unwrap();
    assert!(attached.on_the_spot && attached.users == 2);
    assert_eq!(attached.path, path.canonicalize().unwrap());
    assert!(images.detach("7:4096").is_err());
    drop(open);
    assert!(images.list().is_empty());
    // The lock is gone too.
    let file = fs::File::open(&path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[test]
fn an_image_that_is_found_but_never_opened_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let images = Images::new();
    drop(find(&images, path.to_str().unwrap()).unwrap());
    assert!(images.list().is_empty());
    images.attach(&ask(&path)).unwrap();
}

#[test]
fn what_is_no_image_is_refused_by_its_errno() {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::new();
    let base = dir.path().to_str().unwrap();
    std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let table = [
        ("missing", Errno::NOENT),
        (".", Errno::NOTBLK),
        ("/dev/null", Errno::NOTBLK),
        ("socket", Errno::NOTBLK),
        ("empty/x", Errno::NOTDIR),
        ("empty", Errno::INVAL),
    ];
    for (word, errno) in table {
        assert_eq!(block_on(images.by_word(word, base)).err(), Some(errno), "{word}");
        let error = images.attach(&ask(&dir.path().join(word))).unwrap_err();
        assert_eq!(error.errno(), errno, "{error}");
    }
    let error = images.attach(&ask(dir.path())).unwrap_err().to_string();
    assert!(
        error.ends_with("expected a regular file or a block device, found a directory"),
        "{error}"
    );
}

#[test]
fn an_image_locked_elsewhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let theirs = fs::File::open(&path).unwrap();
    flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
    let images = Images::new();
    let error = images.attach(&ask(&path)).unwrap_err();
    assert!(matches!(error, AttachError::Locked { .. }), "{error}");
    assert_eq!(find(&images, path.to_str().unwrap()).err(), Some(Errno::BUSY));
    // Two instances in one process are two instances.
    drop(theirs);
    let other = Images::new();
    images.attach(&ask(&path)).unwrap();
    assert_eq!(find(&other, path.to_str().unwrap()).err(), Some(Errno::BUSY));
    let read_only = Attach { access: Access::ReadOnly, ..ask(&path) };
    assert_eq!(other.attach(&read_only).unwrap_err().errno(), Errno::BUSY);
}

#[test]
fn an_inode_has_one_writer_whatever_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let (link, hard) = (dir.path().join("link"), dir.path().join("hard"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let images = Images::new();
    images.attach(&ask(&path)).unwrap();
    for other in [&path, &link, &hard] {
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let error = images.attach(&Attach { access, ..ask(other) }).unwrap_err();
            assert!(
                error
                    .to_string()
                    .ends_with("attached already as loop4096 (7:4096); an image has one writer"),
                "{error}"
            );
        }
        // A table that names it means the image that is attached.
        assert_eq!(find(&images, other.to_str().unwrap()).unwrap().number(), number("7:4096"));
    }
}

#[test]
fn readers_may_share_an_inode() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 8);
    let images = Images::new();
    let read_only = Attach { access: Access::ReadOnly, ..ask(&path) };
    images.attach(&read_only).unwrap();
    images.attach(&read_only).unwrap();
    assert_eq!(images.attach(&ask(&path)).unwrap_err().errno(), Errno::BUSY);
}

#[test]
fn an_image_that_cannot_be_written_is_attached_on_the_spot_for_reading() {
    let Some(tmpfs) = Tmpfs::new(512) else { return };
    let path = numbered(tmpfs.path(), "image", 8);
    tmpfs.remount_read_only();
    let images = Images::new();
    assert_eq!(images.attach(&ask(&path)).unwrap_err().errno(), Errno::ROFS);
    let device = find(&images, path.to_str().unwrap()).unwrap();
    assert_eq!(device.access(), Access::ReadOnly);
    assert_eq!(read(&*device, 7, 1).unwrap(), sector(7));
}

#[test]
fn a_file_is_made_only_where_there_is_none_and_stays_only_when_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (there, new) = (numbered(dir.path(), "there", 8), dir.path().join("new"));
    let images = Images::new();
    let made = |path: &Path, bytes| Attach { create: Some(bytes), ..ask(path) };
    assert_eq!(images.attach(&made(&there, 4096)).unwrap_err().errno(), Errno::EXIST);
    assert_eq!(fs::metadata(&there).unwrap().len(), 4096);
    let refused = [
        made(&new, 100),
        made(&new, u64::MAX),
        Attach { access: Access::ReadOnly, ..made(&new, 4096) },
        Attach { sector_size: 1024, ..made(&new, 4096) },
        Attach { name: Some("8:0".to_owned()), ..made(&new, 4096) },
    ];
    for ask in refused {
        let error = images.attach(&ask).unwrap_err();
        assert!(!new.exists(), "{error}");
    }
    assert_eq!(images.attach(&made(&new, 8192)).unwrap().size, Sectors(16));
}

#[test]
fn an_image_that_is_slow_to_go_keeps_only_those_waiting_who_want_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let images = Images::new();
    let (slow, other) = (numbered(dir.path(), "slow", 8), numbered(dir.path(), "other", 8));
    let device = attach(&images, &ask(&slow));
    let attached = images.list().remove(0);
    images.detach(&attached.number.to_string()).unwrap();
    let begun = std::time::Instant::now();
    attach(&images, &ask(&other));
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "it waited for another image");
    // Whoever wants the same file waits until it is free.
    let waits = std::thread::spawn({
        let (images, slow) = (images.clone(), slow.clone());
        move || images.attach(&ask(&slow)).map(drop)
    });
    std::thread::sleep(std::time::Duration::from_millis(50));
    drop(device);
    assert!(waits.join().unwrap().is_ok());
}

#[test]
fn a_path_that_is_no_text_is_refused_and_lost_is_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let images = Images::new();
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"y\xff.img"));
    numbered(dir.path(), "plain", 8);
    fs::rename(dir.path().join("plain"), &odd).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&odd, &link).unwrap();
    for path in [&odd, &link] {
        let error = images.attach(&ask(path)).unwrap_err();
        assert!(error.to_string().contains("expected a path in UTF-8"), "{error}");
    }
    let new = dir.path().join(std::ffi::OsStr::from_bytes(b"new\xff"));
    images.attach(&Attach { create: Some(4096), ..ask(&new) }).unwrap_err();
    assert!(!new.exists() && images.list().is_empty());
}
