//! A folder in memory that counts, fails, and loses power. As dumb as can be.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::sync::{Arc, Mutex, MutexGuard};

use super::folder::{Folder, LogFile};
use super::keeper::Keeper;

type Names = BTreeMap<String, usize>;

#[derive(Clone, Default)]
pub(crate) struct Inode {
    pub(crate) bytes: Vec<u8>,
    /// How many of them are on the disk for certain.
    pub(crate) durable: usize,
    /// A flush failed: what was to be flushed never will be, whatever later flushes answer.
    lost: bool,
}

#[derive(Clone, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: Names,
    /// What the names were since they were durable, the oldest first.
    older_names: Vec<Names>,
    syncs: u64,
    written: u64,
    operations: u64,
    /// The operation that fails, counted from 1; and all after it, if the power goes with it.
    fails_at: u64,
    power_goes: bool,
}

/// Clones are the same folder.
#[derive(Clone, Default)]
pub(crate) struct Simulated(Arc<Mutex<Disk>>);

struct SimulatedFile {
    folder: Simulated,
    inode: usize,
}

impl Simulated {
    /// Makes a folder with one file, which is on the disk.
    pub(super) fn with(name: &str, bytes: &[u8]) -> Simulated {
        let folder = Simulated::default();
        let inode = Inode { bytes: bytes.to_vec(), durable: bytes.len(), lost: false };
        folder.disk().inodes.push(inode);
        folder.disk().names.insert(name.to_owned(), 0);
        folder
    }

    /// Makes a folder of its own of what is in this one.
    pub(crate) fn copy(&self) -> Simulated {
        let Disk { inodes, names, .. } = self.disk().clone();
        Simulated(Arc::new(Mutex::new(Disk { inodes, names, ..Disk::default() })))
    }

    /// Opens a record that is in the folder, or a new one.
    pub(crate) fn record(&self, margin: u64) -> Keeper {
        let (keeper, damage) = Keeper::open_in(Box::new(self.clone()), None, margin).unwrap();
        assert_eq!(damage, None, "a power cut damages nothing that was flushed");
        keeper
    }

    pub(super) fn file(&self, name: &str) -> Option<Inode> {
        let disk = self.disk();
        disk.names.get(name).map(|inode| disk.inodes[*inode].clone())
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.file(name).expect("a file").bytes
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.disk().names.keys().cloned().collect()
    }

    pub(super) fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    pub(super) fn written(&self) -> u64 {
        self.disk().written
    }

    pub(crate) fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Lets the `n`th operation from now fail, and with `power_goes` all after it.
    pub(crate) fn fail(&self, n: u64, power_goes: bool) {
        let mut disk = self.disk();
        (disk.fails_at, disk.power_goes) = (disk.operations + n, power_goes);
    }

    /// Lists the folders that a power cut may leave: old and new names, with all of what was not
    /// flushed, half of it, or nothing.
    pub(crate) fn after_a_cut(&self) -> Vec<Simulated> {
        let disk = self.disk();
        let mut left = Vec::new();
        for names in disk.older_names.iter().chain([&disk.names]) {
            for part in 0..3 {
                let inodes = disk.inodes.iter().map(|inode| {
                    let len = inode.durable + (inode.bytes.len() - inode.durable) * part / 2;
                    Inode { bytes: inode.bytes[..len].to_vec(), durable: len, lost: false }
                });
                let (inodes, names) = (inodes.collect(), names.clone());
                let disk = Disk { inodes, names, ..Disk::default() };
                left.push(Simulated(Arc::new(Mutex::new(disk))));
            }
        }
        left
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Begins an operation that changes something.
    fn begin(&self) -> (MutexGuard<'_, Disk>, bool) {
        let mut disk = self.disk();
        disk.operations += 1;
        let (now, at) = (disk.operations, disk.fails_at);
        let fails = now == at || (disk.power_goes && at > 0 && now > at);
        (disk, fails)
    }

    fn change(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let (disk, fails) = self.begin();
        if fails { Err(io::Error::other("it was told to fail")) } else { Ok(disk) }
    }

    fn handle(&self, inode: usize) -> Box<dyn LogFile> {
        Box::new(SimulatedFile { folder: self.clone(), inode })
    }
}

impl Disk {
    fn rename(&mut self, change: impl FnOnce(&mut Names)) {
        self.older_names.push(self.names.clone());
        change(&mut self.names);
    }
}

impl Folder for Simulated {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn LogFile>>> {
        let inode = self.disk().names.get(name).copied();
        Ok(inode.map(|inode| self.handle(inode)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut disk = self.change()?;
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.rename(|names| {
            names.insert(name.to_owned(), inode);
        });
        drop(disk);
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change()?.rename(|names| {
            let inode = names.remove(from).expect("a file");
            names.insert(to.to_owned(), inode);
        });
        Ok(())
    }

    fn keep_as(&self, name: &str, other: &str) -> io::Result<()> {
        self.change()?.rename(|names| {
            let old = names.insert(other.to_owned(), names[name]);
            assert_eq!(old, None);
        });
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.disk().names.contains_key(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.change()?.older_names.clear();
        Ok(())
    }

    fn shown(&self, name: &str) -> String {
        format!("/simulated/{name}")
    }
}

impl LogFile for SimulatedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut disk, fails) = self.folder.begin();
        // A disk that is full takes some of it.
        let taken = if fails { bytes.len() / 2 } else { bytes.len() };
        disk.inodes[self.inode].bytes.extend(&bytes[..taken]);
        disk.written += taken as u64;
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.folder.change()?;
        let inode = &mut disk.inodes[self.inode];
        let len = usize::try_from(len).unwrap();
        inode.bytes.truncate(len);
        inode.durable = inode.durable.min(len);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut disk, fails) = self.folder.begin();
        disk.syncs += 1;
        let inode = &mut disk.inodes[self.inode];
        inode.lost |= fails;
        if !inode.lost {
            inode.durable = inode.bytes.len();
        }
        if fails { Err(io::Error::other("it was told to fail")) } else { Ok(()) }
    }

    fn read_at(&self, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let disk = self.folder.disk();
        let (at, len) = (usize::try_from(at).unwrap(), usize::try_from(len).unwrap());
        Ok(disk.inodes[self.inode].bytes[at..at + len].to_vec())
    }

    fn reader(&self) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(Box::new(io::Cursor::new(self.folder.disk().inodes[self.inode].bytes.clone())))
    }

    fn is_called(&self, name: &str) -> bool {
        self.folder.disk().names.get(name) == Some(&self.inode)
    }
}
