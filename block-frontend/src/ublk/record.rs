//! Which disk is whose, for a daemon that comes after one that was killed.
//!
//! A folder with a file for each disk, called by its number, and one with 64 bits that each disk of the
//! instance has with the driver: so a number that is another's by now is not taken for ours. What is
//! written is there as soon as it is in the kernel: disks do not outlive that.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sim_core::DevNumber;

/// The file of what all disks have in common.
const OWN: &str = "own";

/// Whose node a disk is: what a mapped device is known by after its daemon was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its minor number.
    pub minor: u32,
    /// Its uuid.
    pub uuid: Option<String>,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// Tells whether this is the same device, later: one with a uuid may have another name by now.
    pub(super) fn is(&self, later: &Owner) -> bool {
        self.minor == later.minor
            && self.uuid == later.uuid
            && (self.uuid.is_some() || self.name == later.name)
    }
}

/// What is on record of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) owner: Owner,
    /// The number of the node.
    pub(super) dev: DevNumber,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Record {
    dir: PathBuf,
    /// What each disk has with the driver.
    pub(super) own: u64,
}

impl Record {
    /// Opens the folder, and makes it where it is not there.
    pub(super) fn open(dir: &Path) -> io::Result<Record> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join(OWN);
        let known = fs::read_to_string(&path).ok();
        let known = known.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        let own = match known.filter(|own| *own != 0) {
            Some(own) => own,
            None => {
                let mut bytes = [0; 8];
                File::open("/dev/urandom")?.read_exact(&mut bytes)?;
                // None is what disks of others have.
                let own = u64::from_ne_bytes(bytes).max(1);
                replace(&path, format!("{own:016x}\n").as_bytes())?;
                own
            }
        };
        Ok(Record { dir: dir.to_owned(), own })
    }

    /// Tells whether a folder may have disks on record.
    pub(super) fn has_entries(dir: &Path) -> bool {
        fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| number(&entry).is_some())
    }

    /// Lists what is on record. What cannot be read belongs to nobody.
    pub(super) fn entries(&self) -> io::Result<HashMap<u32, Option<Entry>>> {
        let mut entries = HashMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(id) = number(&entry) {
                let read = fs::read(entry.path()).ok();
                let read = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                entries.insert(id, read);
            }
        }
        Ok(entries)
    }

    /// Puts a disk on record, or changes what is there.
    pub(super) fn put(&self, id: u32, entry: &Entry) -> io::Result<()> {
        replace(&self.dir.join(id.to_string()), &serde_json::to_vec(entry)?)
    }

    /// Takes a disk off the record, be it there or not.
    pub(super) fn remove(&self, id: u32) -> io::Result<()> {
        match fs::remove_file(self.dir.join(id.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn number(entry: &fs::DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.parse().ok()
}

/// Replaces a file as a whole: a daemon that is killed here leaves the one or the other.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(minor: u32, uuid: Option<&str>, name: &str) -> Owner {
        Owner { minor, uuid: uuid.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn a_record_reads_back_what_was_put_last() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("ublk");
        assert!(!Record::has_entries(&dir));
        let record = Record::open(&dir).unwrap();
        assert!(!Record::has_entries(&dir));
        let dev = DevNumber { major: 259, minor: 7 };
        let first = Entry { owner: owner(3, None, "\"a\\x2f b\"\n"), dev };
        let second = Entry { owner: owner(4, Some("LVM-x"), "c"), dev };
        record.put(9, &second).unwrap();
        record.put(0, &second).unwrap();
        record.put(0, &first).unwrap();
        record.put(12, &first).unwrap();
        record.remove(12).unwrap();
        record.remove(12).unwrap();
        assert!(Record::has_entries(&dir));
        let again = Record::open(&dir).unwrap();
        assert_eq!(again.own, record.own);
        let due = HashMap::from([(9, Some(second)), (0, Some(first))]);
        assert_eq!(again.entries().unwrap(), due);
    }

    #[test]
    fn instances_are_told_apart() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_ne!(Record::open(a.path()).unwrap().own, Record::open(b.path()).unwrap().own);
    }

    #[test]
    fn a_damaged_entry_is_nobodys_and_keeps_no_other_from_being_read() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::open(dir.path()).unwrap();
        let entry = Entry { owner: owner(1, None, "a"), dev: DevNumber { major: 259, minor: 0 } };
        record.put(1, &entry).unwrap();
        fs::write(dir.path().join("2"), "{\"owner\":").unwrap();
        let due = HashMap::from([(1, Some(entry)), (2, None)]);
        assert_eq!(record.entries().unwrap(), due);
    }

    #[test]
    fn a_device_is_known_by_its_uuid_or_else_by_its_name() {
        let known = owner(1, Some("u"), "a");
        assert!(known.is(&owner(1, Some("u"), "renamed")));
        assert!(!known.is(&owner(2, Some("u"), "a")));
        assert!(!known.is(&owner(1, Some("v"), "a")));
        assert!(!known.is(&owner(1, None, "a")));
        let plain = owner(1, None, "a");
        assert!(plain.is(&owner(1, None, "a")));
        assert!(!plain.is(&owner(1, None, "b")));
    }
}
