//! A device that is written and read all the time, whatever happens to it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use super::content::Pattern;
use daemon::{About, Fault};

const BLOCK: usize = 4096;

/// Files that are written, renamed and removed in turn.
const FILES: u64 = 24;
const LONGEST: u64 = 60_000;

/// Threads that use a device, or a file system on it, until they are told to end.
pub(super) struct Load {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<u64, Fault>>>,
}

impl Load {
    /// Starts without threads.
    pub(super) fn new() -> Load {
        Load { ended: Arc::default(), threads: Vec::new() }
    }

    /// Writes and reads blocks of a file, and holds every block read against the last one written.
    pub(super) fn use_blocks(
        &mut self,
        path: &Path,
        blocks: std::ops::Range<u64>,
    ) -> Result<(), Fault> {
        let file = File::options().read(true).write(true).open(path).about(path.display())?;
        let ended = self.ended.clone();
        self.threads.push(thread::spawn(move || use_blocks(&file, blocks, &ended)));
        Ok(())
    }

    /// Writes, renames, reads and removes files below a directory.
    pub(super) fn use_files(&mut self, dir: &Path) -> Result<(), Fault> {
        fs::create_dir(dir).about(dir.display())?;
        let (dir, ended) = (dir.to_owned(), self.ended.clone());
        self.threads.push(thread::spawn(move || use_files(&dir, &ended)));
        Ok(())
    }

    /// Ends it; returns how much was done, or what has gone wrong.
    pub(super) fn end(&mut self) -> Result<u64, Fault> {
        self.ended.store(true, SeqCst);
        let mut done = 0;
        for thread in self.threads.drain(..) {
            done += thread.join().map_err(|_| Fault::new("load", "a thread panicked"))??;
        }
        Ok(done)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Where the demonstration fails elsewhere, that is what it tells.
        let _told_already = self.end();
    }
}

/// Returns how many blocks were written and read.
fn use_blocks(file: &File, blocks: std::ops::Range<u64>, ended: &AtomicBool) -> Result<u64, Fault> {
    // What each block was filled from last; zero is never used, as nothing was written then.
    let mut last = vec![0; (blocks.end - blocks.start) as usize];
    let (mut random, mut bios) = (Pattern(blocks.start + 7), 0);
    let (mut data, mut expected) = ([0; BLOCK], [0; BLOCK]);
    while !ended.load(SeqCst) {
        let index = (random.next() % last.len() as u64) as usize;
        let at = (blocks.start + index as u64) * BLOCK as u64;
        if last[index] == 0 || random.next().is_multiple_of(2) {
            last[index] = random.next() | 1;
            Pattern(last[index]).fill(&mut data);
            file.write_all_at(&data, at).about(format!("write at {at}"))?;
        } else {
            Pattern(last[index]).fill(&mut expected);
            file.read_exact_at(&mut data, at).about(format!("read at {at}"))?;
            if data != expected {
                return Err(Fault::new(format!("read at {at}"), "not what was written"));
            }
        }
        bios += 1;
    }
    Ok(bios)
}

/// Returns how many files were written and read.
fn use_files(dir: &Path, ended: &AtomicBool) -> Result<u64, Fault> {
    let (mut random, mut files) = (Pattern(11), 0);
    while !ended.load(SeqCst) {
        let path = dir.join(format!("file-{}", random.next() % FILES));
        let new = path.with_extension("new");
        let mut data = vec![0; (random.next() % LONGEST) as usize];
        random.fill(&mut data);
        let file = File::create(&new).about(new.display())?;
        file.write_all_at(&data, 0).about(new.display())?;
        if random.next().is_multiple_of(4) {
            file.sync_all().about(new.display())?;
        }
        fs::rename(&new, &path).about(path.display())?;
        if fs::read(&path).about(path.display())? != data {
            return Err(Fault::new(path.display(), "not what was written"));
        }
        if random.next().is_multiple_of(3) {
            fs::remove_file(&path).about(path.display())?;
        }
        files += 1;
    }
    Ok(files)
}
