//! The versions that a sector may have: while the device runs, and after a power cut.

use std::sync::Arc;

use crate::SECTOR;
use crate::disk::journal::Event;
use crate::story;

/// For each sector every version there was, and when.
///
/// After a power cut a sector may have any version between the last completed flush and the last
/// write issued: all but those that a durable version has replaced. While the device runs it has
/// the last version that ended, or one that was under way at the same time. A write that failed
/// may have happened or not.
///
/// All of this is about sectors. A device whose blocks are longer than the sectors of the disk
/// below may also have anything in a block that was torn: see [`in_blocks_of`](Self::in_blocks_of).
#[derive(Clone, Debug)]
pub struct Legal {
    /// Sectors in a block.
    block: u64,
    sectors: Vec<Vec<Version>>,
    /// Counts events.
    now: u64,
    /// Flushes under way: id, when submitted.
    flushes: Vec<(u64, u64)>,
    /// Writes under way or ended since the last flush: id, first sector, length.
    open: Vec<(u64, u64, u64)>,
}

#[derive(Clone, Debug)]
struct Version {
    id: u64,
    bytes: Bytes,
    issued: u64,
    /// When the bio ended; never, as long as it is under way.
    ended: u64,
    ok: bool,
    durable: bool,
}

#[derive(Clone, Debug)]
enum Bytes {
    Anything,
    /// One sector of the data of a bio.
    Of(Arc<[u8]>, usize),
}

const NEVER: u64 = u64::MAX;

impl Version {
    fn is(&self, bytes: &[u8]) -> bool {
        match &self.bytes {
            Bytes::Anything => true,
            Bytes::Of(data, at) => data[*at..*at + SECTOR] == *bytes,
        }
    }
}

impl Legal {
    /// Starts with this content, all of it durable.
    pub fn new(content: &[u8]) -> Legal {
        let data: Arc<[u8]> = content.into();
        let version = |at: usize| Version {
            id: 0,
            bytes: Bytes::Of(data.clone(), at * SECTOR),
            issued: 0,
            ended: 0,
            ok: true,
            durable: true,
        };
        let sectors = (0..content.len() / SECTOR).map(|at| vec![version(at)]).collect();
        Legal { block: 1, sectors, now: 0, flushes: Vec::new(), open: Vec::new() }
    }

    /// Says how many sectors the device writes as one: a block of which more than one version may
    /// be on the disk may have parts of both, and then reads as anything where the device makes
    /// something of the block as a whole, as encryption does. A block with one version has that.
    #[must_use]
    pub fn in_blocks_of(mut self, sectors: u64) -> Legal {
        self.block = sectors.max(1);
        self
    }

    /// Returns the number of sectors.
    pub fn size(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// Returns the time, as [`read`](Self::read) takes it.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Takes notice of an event.
    pub fn apply(&mut self, event: &Event) {
        self.now += 1;
        match event {
            Event::Write { id, sector, len, data } => self.issue(*id, *sector, *len, data),
            Event::Flush { id } => self.flushes.push((*id, self.now)),
            Event::End { id, ok, fua } => {
                self.end(*id, *ok, *fua);
                if let Some(at) = self.flushes.iter().position(|(flush, _)| flush == id) {
                    let (_, issued) = self.flushes.swap_remove(at);
                    if *ok {
                        self.flushed(issued);
                    }
                }
            }
        }
    }

    fn issue(&mut self, id: u64, sector: u64, len: u64, data: &Option<Arc<[u8]>>) {
        self.open.push((id, sector, len));
        for at in 0..len {
            let bytes = match data {
                Some(data) => Bytes::Of(data.clone(), at as usize * SECTOR),
                None => Bytes::Anything,
            };
            let (issued, ended) = (self.now, NEVER);
            let version = Version { id, bytes, issued, ended, ok: false, durable: false };
            self.sectors[(sector + at) as usize].push(version);
        }
    }

    fn end(&mut self, id: u64, ok: bool, fua: bool) {
        let Some(&(_, sector, len)) = self.open.iter().find(|(open, ..)| *open == id) else {
            return;
        };
        for versions in &mut self.sectors[sector as usize..(sector + len) as usize] {
            let version = versions.iter_mut().rfind(|version| version.id == id);
            let version = version.expect("a version for each sector of an open write");
            (version.ended, version.ok, version.durable) = (self.now, ok, ok && fua);
        }
    }

    /// Makes durable what had ended at `time`.
    fn flushed(&mut self, time: u64) {
        for (_, sector, len) in &self.open {
            for versions in &mut self.sectors[*sector as usize..(sector + len) as usize] {
                for version in versions.iter_mut().filter(|version| version.ended < time) {
                    version.durable |= version.ok;
                }
            }
        }
        let sectors = &self.sectors;
        self.open.retain(|(id, sector, _)| {
            let versions = &sectors[*sector as usize];
            versions.iter().rev().any(|version| version.id == *id && version.ended >= time)
        });
    }

    /// Tells whether a sector may read as `bytes` after a power cut now.
    pub fn after_power_cut(&self, sector: u64, bytes: &[u8]) -> bool {
        self.allows(sector, bytes, |new, old| new.durable && old.ended < new.issued)
    }

    /// Holds the content of the whole device after a power cut now against what may be there.
    ///
    /// # Errors
    /// The first sector that is wrong, with what it has and what it may have.
    pub fn check_power_cut(&self, content: &[u8]) -> Result<(), String> {
        let mut sectors = (0..).zip(content.chunks_exact(SECTOR));
        let wrong = sectors.find(|(sector, bytes)| !self.after_power_cut(*sector, bytes));
        wrong.map_or(Ok(()), |(sector, bytes)| Err(self.explain(sector, bytes)))
    }

    /// Tells whether a sector ever had these bytes, or was to have them.
    pub fn was(&self, sector: u64, bytes: &[u8]) -> bool {
        self.sectors[sector as usize].iter().any(|version| version.is(bytes))
    }

    /// Tells whether a read of a sector that was submitted at `since` and ends now may give
    /// `bytes`.
    pub fn read(&self, sector: u64, since: u64, bytes: &[u8]) -> bool {
        self.allows(sector, bytes, |new, old| {
            new.ok && new.ended <= since && old.ended < new.issued
        })
    }

    /// Tells whether a sector may have `bytes`, where `replaces` says which versions are gone.
    fn allows(
        &self,
        sector: u64,
        bytes: &[u8],
        replaces: impl Fn(&Version, &Version) -> bool,
    ) -> bool {
        let left = |sector: u64| {
            let versions = &self.sectors[sector as usize];
            let replaced = |old: &Version| versions.iter().any(|new| replaces(new, old));
            versions.iter().rev().filter(move |version| !replaced(version))
        };
        if left(sector).any(|version| version.is(bytes)) {
            return true;
        }
        let first = sector - sector % self.block;
        let mut block = first..(first + self.block).min(self.size());
        self.block > 1 && block.any(|sector| left(sector).count() > 1)
    }

    /// Says which versions a sector has, and which of them `bytes` is, for a message.
    pub fn explain(&self, sector: u64, bytes: &[u8]) -> String {
        story::blame(sector);
        let versions = &self.sectors[sector as usize];
        let name = |version: &Version| match (version.id, version.ended, version.ok) {
            (0, _, _) => "the first content".to_owned(),
            (id, NEVER, _) => format!("bio {id} (under way)"),
            (id, _, false) => format!("bio {id} (failed)"),
            (id, _, true) if version.durable => format!("bio {id} (durable)"),
            (id, _, true) => format!("bio {id} (ended)"),
        };
        let found = versions.iter().rev().find(|version| version.is(bytes)).map(name);
        let known: Vec<String> = versions.iter().map(name).collect();
        let found = found.unwrap_or_else(|| "what nobody wrote there".to_owned());
        format!("sector {sector} has {found}, of: {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(byte: u8) -> [u8; SECTOR] {
        [byte; SECTOR]
    }

    fn write(legal: &mut Legal, id: u64, byte: u8) {
        let data = Some(bytes(byte)[..].into());
        legal.apply(&Event::Write { id, sector: 0, len: 1, data });
    }

    fn end(legal: &mut Legal, id: u64, ok: bool, fua: bool) {
        legal.apply(&Event::End { id, ok, fua });
    }

    fn cut(legal: &Legal) -> Vec<u8> {
        (0..9).filter(|byte| legal.after_power_cut(0, &bytes(*byte))).collect()
    }

    fn reads(legal: &Legal) -> Vec<u8> {
        (0..9).filter(|byte| legal.read(0, legal.now(), &bytes(*byte))).collect()
    }

    #[test]
    fn a_power_cut_leaves_anything_from_the_last_flush_to_the_last_write_issued() {
        let mut legal = Legal::new(&bytes(0));
        write(&mut legal, 1, 1);
        assert_eq!((cut(&legal), reads(&legal)), (vec![0, 1], vec![0, 1]));
        end(&mut legal, 1, true, false);
        assert_eq!((cut(&legal), reads(&legal)), (vec![0, 1], vec![1]));
        legal.apply(&Event::Flush { id: 2 });
        write(&mut legal, 3, 3);
        end(&mut legal, 3, true, false);
        end(&mut legal, 2, true, false);
        // The flush covers what had ended when it was submitted.
        assert_eq!((cut(&legal), reads(&legal)), (vec![1, 3], vec![3]));
        write(&mut legal, 4, 4);
        end(&mut legal, 4, true, true);
        assert_eq!(cut(&legal), [4]);
    }

    #[test]
    fn a_write_that_failed_may_have_happened() {
        let mut legal = Legal::new(&bytes(0));
        write(&mut legal, 1, 1);
        end(&mut legal, 1, false, true);
        legal.apply(&Event::Flush { id: 2 });
        end(&mut legal, 2, true, false);
        assert_eq!((cut(&legal), reads(&legal)), (vec![0, 1], vec![0, 1]));
        write(&mut legal, 3, 3);
        end(&mut legal, 3, true, true);
        assert_eq!(cut(&legal), [3]);
    }

    #[test]
    fn a_block_with_two_versions_may_be_torn_and_one_with_a_single_version_may_not() {
        let content = [bytes(0), bytes(0), bytes(0), bytes(0)].concat();
        let mut legal = Legal::new(&content).in_blocks_of(2);
        write(&mut legal, 1, 1);
        let junk = bytes(77);
        for (sector, may) in [(0, true), (1, true), (2, false), (3, false)] {
            assert_eq!(legal.after_power_cut(sector, &junk), may, "sector {sector}");
            assert_eq!(legal.read(sector, legal.now(), &junk), may, "sector {sector}");
        }
        end(&mut legal, 1, true, true);
        assert!((0..4).all(|sector| !legal.after_power_cut(sector, &junk)));
    }

    #[test]
    fn two_writes_at_the_same_time_may_end_up_in_either_order() {
        let mut legal = Legal::new(&bytes(0));
        write(&mut legal, 1, 1);
        write(&mut legal, 2, 2);
        end(&mut legal, 1, true, true);
        end(&mut legal, 2, true, false);
        assert_eq!((cut(&legal), reads(&legal)), (vec![1, 2], vec![1, 2]));
    }
}
