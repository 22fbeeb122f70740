//! The members of arrays that mdadm and Linux made, recorded: all of their bytes that are not zero.
//!
//! Names are what the array is, a dash, and the version of its superblocks: `raid5-1.2`. `stale-5-1.2`
//! lost its last member, and was written then; `staleb` has a bitmap. `dirty` is as it was while it was
//! written, `dirty2` the same array afterwards. `spare` has one, `rebuild` was rebuilding its second
//! member, and `resync` was synchronizing.
//!
//! The sets of BIOSes ([`bios_images`]) are full of a pattern ([`bios_pattern`]): `imsm5`, `ddf10`, and after
//! a dash what is the matter with it. `failed` lost a member (a raid6 two), and was written then;
//! `initialized` and `rebuilt` are as they were while that went on, `dirty` while it was written; `spare` has
//! one, and `two` has the volumes `sys`, a raid5, and `fast`, a raid0. In the other DDF sets, the letters
//! after the level are its layout.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A member.
#[derive(Clone, Debug)]
pub struct MdImage {
    /// Its length in bytes.
    pub len: u64,
    /// What is not zero, and where it begins.
    pub runs: Vec<(u64, Vec<u8>)>,
}

const MD: &str = include_str!("recorded.txt");
const BIOS: &str = include_str!("bios.txt");

/// Returns the members of a recorded array, in the order of their places; none by an unknown name.
pub fn md_images(name: &str) -> Vec<MdImage> {
    images(MD, name)
}

/// Returns the disks of a recorded set of a BIOS, in the order of their serial numbers, which in Intel's
/// are `/dev/loop0` and so on.
pub fn bios_images(name: &str) -> Vec<MdImage> {
    images(BIOS, name)
}

fn images(recorded: &'static str, name: &str) -> Vec<MdImage> {
    lines(recorded).filter(|(array, _)| *array == name).map(|(_, line)| parse(line)).collect()
}

/// Returns the lines of members, each with the name of its array.
fn lines(recorded: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = recorded.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some((line.split(' ').next()?.rsplit_once('.')?.0, line)))
}

/// Returns the names of the recorded arrays.
pub fn md_arrays() -> Vec<&'static str> {
    names(MD)
}

/// Returns the names of the recorded sets of BIOSes.
pub fn bios_arrays() -> Vec<&'static str> {
    names(BIOS)
}

fn names(recorded: &'static str) -> Vec<&'static str> {
    let mut names: Vec<&str> = lines(recorded).map(|(array, _)| array).collect();
    names.dedup();
    names
}

/// Returns what a block of 4 KiB of a volume is full of that was written: the first 128 of each volume,
/// and the last 16. In a set that was written after a disk had failed, the first 32 have one more.
pub fn bios_pattern(block: u64) -> u8 {
    ((block * 7 + 1) % 251 + 1) as u8
}

/// Writes the members of a recorded array as sparse files, and returns these.
pub fn write_md_images(name: &str, folder: &Path) -> io::Result<Vec<PathBuf>> {
    write(md_images(name), name, folder)
}

/// As [`write_md_images`], of a set of a BIOS.
pub fn write_bios_images(name: &str, folder: &Path) -> io::Result<Vec<PathBuf>> {
    write(bios_images(name), name, folder)
}

fn write(images: Vec<MdImage>, name: &str, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let images = images.into_iter().enumerate();
    images
        .map(|(nr, image)| {
            let path = folder.join(format!("{name}.{nr}"));
            let file = File::create_new(&path)?;
            file.set_len(image.len)?;
            image.runs.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at))?;
            Ok(path)
        })
        .collect()
}

impl MdImage {
    /// Returns `len` bytes from `at` on.
    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (start, run) in &self.runs {
            for (nr, byte) in (*start..).zip(run) {
                if let Some(slot) = nr.checked_sub(at).and_then(|nr| bytes.get_mut(nr as usize)) {
                    *slot = *byte;
                }
            }
        }
        bytes
    }
}

fn parse(line: &str) -> MdImage {
    let mut words = line.split(' ').skip(1);
    let len = words.next().expect("a length").parse().expect("a number");
    let run = |word: &str| {
        let (at, bytes) = word.split_once(':').expect("a place");
        let bytes = bytes.split(',').flat_map(|part| match part.split_once('*') {
            Some((byte, count)) => hex(byte).repeat(count.parse().expect("a count")),
            None => hex(part),
        });
        (at.parse().expect("a number"), bytes.collect())
    };
    MdImage { len, runs: words.map(run).collect() }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).expect("a digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
