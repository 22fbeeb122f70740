//! The members of arrays that mdadm and Linux made, recorded: all of their bytes that are not zero.
//!
//! Names are what the array is, a dash, and the version of its superblocks: `raid5-1.2`. `stale-5-1.2`
//! lost its last member, and was written then; `staleb` has a bitmap. `dirty` is as it was while it was
//! written, `dirty2` the same array afterwards. `spare` has one, `rebuild` was rebuilding its second
//! member, and `resync` was synchronizing.

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

/// Returns the members of a recorded array, in the order of their places; none by an unknown name.
pub fn md_images(name: &str) -> Vec<MdImage> {
    let lines = include_str!("recorded.txt").lines().filter(|line| !line.starts_with('#'));
    let own = lines.filter(|line| {
        let whole = line.split(' ').next().expect("a word");
        whole.rsplit_once('.').is_some_and(|(array, _)| array == name)
    });
    own.map(parse).collect()
}

/// Returns the names of the recorded arrays.
pub fn md_arrays() -> Vec<&'static str> {
    let lines = include_str!("recorded.txt").lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<&str> = lines
        .filter_map(|line| line.split(' ').next()?.rsplit_once('.').map(|(array, _)| array))
        .collect();
    names.dedup();
    names
}

/// Writes the members of a recorded array as sparse files, and returns these.
pub fn write_md_images(name: &str, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let images = md_images(name).into_iter().enumerate();
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
