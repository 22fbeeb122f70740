//! What goes into the demonstration's file system, and whether it came back.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use daemon::{About, Fault};

/// Directories, files in each, and the longest file.
const DIRS: u64 = 12;
const FILES: u64 = 20;
const LONGEST: u64 = 300_000;

/// A tree of files: for each path what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content(BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Dir,
    File { len: u64, digest: Vec<u8> },
    Link(PathBuf),
}

impl Content {
    /// Makes a tree, always the same.
    pub(super) fn make(root: &Path) -> Result<Content, Fault> {
        let mut random = Pattern(1);
        for dir in 0..DIRS {
            let dir = root.join(format!("dir-{dir}/below"));
            fs::create_dir_all(&dir).about(dir.display())?;
            for file in 0..FILES {
                let path = dir.join(format!("file-{file}"));
                let mut data = vec![0; (random.next() % LONGEST) as usize];
                random.fill(&mut data);
                fs::write(&path, data).about(path.display())?;
            }
            let link = dir.join("link");
            std::os::unix::fs::symlink("file-0", &link).about(link.display())?;
        }
        Content::read(root)
    }

    /// Reads a tree.
    pub(super) fn read(root: &Path) -> Result<Content, Fault> {
        let mut found = BTreeMap::new();
        let mut next = vec![PathBuf::new()];
        while let Some(dir) = next.pop() {
            let entries = fs::read_dir(root.join(&dir)).about(dir.display())?;
            for entry in entries {
                let entry = entry.about(dir.display())?;
                let path = dir.join(entry.file_name());
                // Every ext4 has the first; the second is the load's.
                if ["lost+found", "busy"].iter().any(|other| path == Path::new(other)) {
                    continue;
                }
                let here = read_entry(&entry.path()).about(path.display())?;
                if here == Entry::Dir {
                    next.push(path.clone());
                }
                found.insert(path, here);
            }
        }
        Ok(Content(found))
    }

    /// Holds what came back against what went in.
    pub(super) fn check(&self, found: &Content) -> Result<Option<String>, Fault> {
        let differs = |path: &&PathBuf| self.0.get(*path) != found.0.get(*path);
        match self.0.keys().chain(found.0.keys()).find(differs) {
            Some(path) => Err(Fault::new(path.display(), "not what was written")),
            None => Ok(Some(format!("{self}: all as written"))),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lens = self.0.values().filter_map(|entry| match entry {
            Entry::File { len, .. } => Some(*len),
            Entry::Dir | Entry::Link(_) => None,
        });
        let bytes: u64 = lens.clone().sum();
        write!(f, "{} files, {:.1} MiB", lens.count(), bytes as f64 / f64::from(1 << 20))
    }
}

fn read_entry(path: &Path) -> std::io::Result<Entry> {
    let kind = path.symlink_metadata()?.file_type();
    if kind.is_dir() {
        return Ok(Entry::Dir);
    }
    if kind.is_symlink() {
        return Ok(Entry::Link(fs::read_link(path)?));
    }
    let data = fs::read(path)?;
    Ok(Entry::File { len: data.len() as u64, digest: Sha256::digest(&data).to_vec() })
}

/// Copies a tree.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    for (path, entry) in Content::read(from)?.0 {
        let (source, copy) = (from.join(&path), to.join(&path));
        // Sorted by path: a directory comes before what is in it.
        match entry {
            Entry::Dir => fs::create_dir(&copy),
            Entry::File { .. } => fs::copy(&source, &copy).map(drop),
            Entry::Link(link) => std::os::unix::fs::symlink(link, &copy),
        }
        .about(copy.display())?;
    }
    Ok(())
}

/// Returns the digest of a whole device.
pub(super) fn digest(device: &Path) -> Result<String, Fault> {
    let mut file = File::open(device).about(device.display())?;
    let (mut chunk, mut digest) = (vec![0; 1 << 20], Sha256::new());
    loop {
        match file.read(&mut chunk).about(device.display())? {
            0 => break,
            len => digest.update(&chunk[..len]),
        }
    }
    let digits = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(format!("sha256 {digits}"))
}

/// Numbers that look random and are always the same (SplitMix64).
pub(super) struct Pattern(pub(super) u64);

impl Pattern {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn fill(&mut self, data: &mut [u8]) {
        for piece in data.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            piece.copy_from_slice(&number[..piece.len()]);
        }
    }
}
