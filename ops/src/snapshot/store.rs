//! A store in a file: read and checked without being loaded.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::files::open_image;
use sim_core::{Sector, Sectors};
use targets::snapshot::ChunkSize;
use targets::snapshot::store::format::{
    Damage, ENTRY, Entry, Found, Header, Layout, MAGIC, VERSION,
};
use targets::snapshot::store::scan::{Scan, Scanned};

/// Tells whether a file begins as a store does.
pub fn is_store(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = open_image(path).and_then(|file| file.read_exact_at(&mut magic, 0));
    read.is_ok() && magic == MAGIC.to_le_bytes()
}

/// Something that a store's bytes lie in.
pub(super) struct StoreFile {
    pub(super) file: File,
    pub(super) len: Sectors,
}

/// What the start of a file says, as far as it makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// No magic.
    Zeros,
    Store(Header, Layout),
}

impl StoreFile {
    pub(super) fn open(path: &Path) -> io::Result<StoreFile> {
        let mut file = open_image(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        Ok(StoreFile { file, len: Sectors(len / sim_core::SECTOR_SIZE) })
    }

    /// Reads the header; says what is wrong with it otherwise.
    pub(super) fn start(&self) -> Result<Start, String> {
        let mut bytes = [0; Header::LEN];
        self.file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "too short for a store's header".to_owned(),
            _ => error.to_string(),
        })?;
        let header = match Header::read(&bytes) {
            Found::New => return Ok(Start::Zeros),
            Found::Other => return Err("expected `SnAp` or zeros at the start".to_owned()),
            Found::Store(header) => header,
        };
        // The order of the kernel's checks.
        let chunk = ChunkSize::new(header.chunk_size, &[])
            .map_err(|why| format!("chunk size {}: {why}", header.chunk_size))?;
        if header.version != VERSION {
            let found = header.version;
            return Err(format!("expected version {VERSION} of the store, found {found}"));
        }
        Ok(Start::Store(header, Layout::new(chunk)))
    }

    /// Reads the list of exceptions. Calls `each` with every entry, as it lies there, and `damaged`
    /// with those that cannot be right; says why where the list cannot be read to its end.
    pub(super) fn scan(
        &self,
        layout: Layout,
        each: &mut dyn FnMut(Entry),
        damaged: &mut dyn FnMut(Damage),
    ) -> (Scan, Option<String>) {
        let mut scan = Scan::new(layout, self.len);
        let mut bytes = Vec::new();
        while let Some((sector, len)) = scan.wants() {
            bytes.resize(len.bytes() as usize, 0);
            if let Err(error) = self.file.read_exact_at(&mut bytes, sector.from_start().bytes()) {
                let why = self.past(sector, &error);
                return (scan, Some(why));
            }
            bytes.chunks_exact(ENTRY).map_while(Entry::read).for_each(&mut *each);
            if let Err(why) = scan.take(&bytes, damaged) {
                return (scan, Some(format!("the list of exceptions: {why}")));
            }
        }
        (scan, None)
    }

    fn past(&self, sector: Sector, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => format!(
                "the list goes on at sector {sector}, past the end of the store's {} sectors",
                self.len
            ),
            _ => format!("the list cannot be read at sector {sector}: {error}"),
        }
    }

    /// Returns what the store holds, if nothing is wrong with it.
    pub(super) fn exceptions(&self, layout: Layout) -> Result<Scanned, String> {
        let mut fault = None;
        let (scan, broken) = self.scan(layout, &mut |_| {}, &mut |damage| {
            fault.get_or_insert_with(|| damage.to_string());
        });
        let scanned = scan.finish(&mut |chunk| {
            fault.get_or_insert_with(|| format!("chunk {chunk} of the store is named twice"));
        });
        broken.or(fault).map_or(Ok(scanned), Err)
    }

    /// Returns the exceptions as runs of chunks of the origin, in order.
    pub(super) fn changed(&self, layout: Layout) -> Result<Vec<(u64, u64)>, String> {
        let scanned = self.exceptions(layout)?;
        let mut runs: Vec<_> = scanned.runs().map(|(old, _, len)| (old, len)).collect();
        runs.sort_unstable();
        runs.dedup_by(|next, run| {
            let goes_on = run.0 + run.1 == next.0;
            run.1 += if goes_on { next.1 } else { 0 };
            goes_on
        });
        Ok(runs)
    }
}

/// Returns how large a store has to be so that an origin of this size cannot fill it.
pub(super) fn needed(origin: Sectors, chunk: ChunkSize, transient: bool) -> Sectors {
    let data = chunk.count_in(origin);
    let metadata = match transient {
        true => 0,
        // The header, and the areas: when one is full, the next is made.
        false => 1 + data / Layout::new(chunk).entries() + 1,
    };
    Sectors((data + metadata) * chunk.sectors().0)
}

/// Returns the least that is of any use: room for one chunk.
pub(super) fn least(chunk: ChunkSize, transient: bool) -> Sectors {
    Sectors(chunk.sectors().0 * if transient { 1 } else { 3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(sectors: u64) -> ChunkSize {
        ChunkSize::new(Sectors(sectors), &[]).expect("a chunk size")
    }

    #[test]
    fn what_is_needed_is_what_the_kernel_needs() {
        // Recorded: 256 exceptions fit 2072 sectors, and not 2071.
        assert_eq!(needed(Sectors(256 * 8), chunk(8), false), Sectors(2072));
        assert_eq!(needed(Sectors(255 * 8), chunk(8), false), Sectors(2056));
        assert_eq!(needed(Sectors(255 * 8 + 1), chunk(8), false), Sectors(2072));
        assert_eq!(needed(Sectors(2049), chunk(8), true), Sectors(257 * 8));
    }

    fn store(bytes: &[u8], len: u64) -> (tempfile::TempDir, StoreFile) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("store");
        std::fs::write(&path, bytes).expect("room for it");
        File::options().write(true).open(&path).expect("a file").set_len(len).expect("room");
        let store = StoreFile::open(&path).expect("a file");
        (dir, store)
    }

    #[test]
    fn a_header_that_is_wrong_is_told_of() {
        let header = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
        const MAGIC: u32 = 0x7041_6e53;
        for (words, why) in [
            ([1, 1, 1, 8], "`SnAp`"),
            ([MAGIC, 1, 2, 8], "version 1 of the store, found 2"),
            ([MAGIC, 1, 1, 0], "chunk size 0"),
            ([MAGIC, 1, 1, 7], "power of 2"),
            ([MAGIC, 1, 1, 1 << 22], "too high"),
        ] {
            let (_dir, store) = store(&header(words), 1 << 16);
            let found = store.start().expect_err("a fault");
            assert!(found.contains(why), "{found}");
        }
        assert_eq!(store(&[], 1 << 16).1.start(), Ok(Start::Zeros));
        assert!(store(&[], 8).1.start().is_err());
    }

    #[test]
    fn a_list_that_leads_past_the_end_is_a_fault_and_not_read_for_ever() {
        let mut bytes = vec![0; 4096];
        for index in 0..32u64 {
            let entry = Entry { old: index, new: 2 };
            bytes[512 + 16 * index as usize..][..16].copy_from_slice(&entry.to_bytes());
        }
        let (_dir, store) = store(&bytes, 4096);
        let why = store.exceptions(Layout::new(chunk(1))).err().expect("a fault");
        assert!(why.contains("past the end"), "{why}");
    }
}
