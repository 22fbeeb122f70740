//! Metadata that nobody meant: it ends in words, and what is written after all lies where metadata does.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sim_core::{SECTOR_SIZE, Sector, Sectors};
use testkit::{MdImage, bios_images};

use super::{Candidate, Fault, Member, Mode, change, choose};
use crate::bios::{ddf, read, read_whole};
use crate::parts::bytes::{be16, be32, le32, put};

/// What is wrong with a word of the metadata.
#[derive(Clone, Debug)]
struct Change {
    /// Which of the words, counted round: of all, or of those that are not 0 and not -1.
    nr: usize,
    of_all: bool,
    /// In both copies of DDF's, where they are in the recorded sets.
    twice: bool,
    value: u32,
}

/// A disk: how long it is, and its metadata, by where its sectors begin.
#[derive(Clone, Debug)]
struct Disk {
    len: u64,
    sectors: BTreeMap<u64, Vec<u8>>,
}

/// Where the copies of DDF's metadata begin in the recorded sets.
const FIRST: u64 = 16 << 20;
const SECOND: u64 = 32 << 20;

/// The ends of what is counted.
const EDGES: [u32; 11] =
    [0, 1, 2, 0x7f, 0xff, 0x100, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];

/// Returns words as they are found where something was counted wrongly, or chance.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![3 => prop::sample::select(&EDGES), 1 => any::<u32>()]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (any::<usize>(), any::<bool>(), any::<bool>(), word());
    let change = change.prop_map(|(nr, of_all, twice, value)| Change { nr, of_all, twice, value });
    prop::collection::vec(change, 1..4)
}

/// Returns the disks of recorded sets, by their names: what lies from a byte on is metadata.
fn recorded(names: &[&'static str], from: impl Fn(u64) -> u64) -> Vec<Vec<Disk>> {
    let disk = |image: MdImage| {
        let mut disk = Disk { len: image.len, sectors: BTreeMap::new() };
        for (start, run) in image.runs.iter().filter(|(at, _)| *at >= from(image.len)) {
            for (at, byte) in (*start..).zip(run) {
                let sector = disk.sectors.entry(at / 512 * 512).or_insert_with(|| vec![0; 512]);
                sector[(at % 512) as usize] = *byte;
            }
        }
        disk
    };
    let disks = |name: &&str| -> Vec<Disk> { bios_images(name).into_iter().map(disk).collect() };
    let all: Vec<Vec<Disk>> = names.iter().map(disks).collect();
    assert!(all.iter().flatten().all(|disk| !disk.sectors.is_empty()), "{names:?} have metadata");
    all
}

impl Disk {
    fn read(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        let end = at + len as u64;
        let mut bytes = vec![0; len];
        for (sector, found) in self.sectors.range(at..end) {
            bytes[(sector - at) as usize..][..512].copy_from_slice(found);
        }
        (end <= self.len).then_some(bytes)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        for (at, bytes) in (at..).step_by(512).zip(bytes.chunks(512)) {
            self.sectors.insert(at, bytes.to_vec());
        }
    }

    fn spoil(&mut self, changes: &[Change]) {
        let words = self.sectors.iter().flat_map(|(at, bytes)| {
            (0..128).map(move |word| (*at, word * 4, le32(bytes, word * 4)))
        });
        let all: Vec<(u64, usize, u32)> = words.collect();
        let some: Vec<_> =
            all.iter().copied().filter(|(.., word)| ![0, u32::MAX].contains(word)).collect();
        for Change { nr, of_all, twice, value } in changes {
            let words = if *of_all { &all } else { &some };
            let (sector, at, _) = words[nr % words.len()];
            let other = sector + SECOND - FIRST;
            let places = [sector, if *twice { other } else { sector }];
            for sector in places {
                if let Some(bytes) = self.sectors.get_mut(&sector) {
                    put(bytes, at, &value.to_be_bytes());
                }
            }
        }
    }

    fn member(&self) -> Result<Option<Member>, Fault> {
        let piece = |at: Sector, len: Sectors| self.read(at.0 * SECTOR_SIZE, len.bytes() as usize);
        read_whole(|pieces| read(Sectors::in_bytes(self.len), pieces), piece)
    }

    fn seal_intel(&mut self) {
        let at = self.len - 2048;
        let mut end = self.read(at, 2048).expect("it lies within");
        seal_intel(&mut end);
        self.write(at, &end);
    }

    /// Makes the checksums of whatever begins as a section of DDF's does right, as long as the anchor says
    /// that these are.
    fn seal_ddf(&mut self) {
        let anchor = self.sectors[&(self.len - 512)].clone();
        for at in self.sectors.keys().copied().collect::<Vec<u64>>() {
            let sectors = match be32(&self.sectors[&at], 0) {
                0xde11_de11 | 0x3333_3333 => 1,
                0x2222_2222 => be32(&anchor, 204),
                0xdddd_dddd => be32(&anchor, 212),
                0xeeee_eeee => be16(&anchor, 134).into(),
                _ => continue,
            };
            let Some(mut part) = self.read(at, sectors.clamp(1, 1024) as usize * 512) else {
                continue;
            };
            let sum = ddf::checksum(&part);
            put(&mut part, 4, &sum.to_be_bytes());
            self.write(at, &part);
        }
    }
}

/// Makes the checksum of Intel's table right.
pub(super) fn seal_intel(disk: &mut [u8]) {
    let anchor = disk.len() - 1024;
    let size = le32(disk, anchor + 0x24) as usize;
    if !(216..=1024).contains(&size) {
        return;
    }
    let mut table = disk[anchor..anchor + 512].to_vec();
    table.extend_from_slice(&disk[anchor - 512..anchor]);
    table[0x20..0x24].fill(0);
    let words = table[..size].chunks_exact(4);
    let sum = words.fold(0_u32, |sum, word| sum.wrapping_add(le32(word, 0)));
    disk[anchor + 0x20..anchor + 0x24].copy_from_slice(&sum.to_le_bytes());
}

/// Does with disks whatever can be done.
fn use_all(disks: &[Disk]) {
    let found = disks.iter().map(Disk::member).collect::<Result<Vec<_>, _>>();
    let Ok(found) = found else { return };
    let candidate = |(nr, member): (usize, Option<Member>)| {
        let serial = Some(format!("/dev/loop{nr}"));
        Some(Candidate { member: member?, len: Sectors::in_bytes(disks[nr].len), serial })
    };
    let candidates: Vec<Candidate> = found.into_iter().enumerate().filter_map(candidate).collect();
    for volume in [None, Some("vol0"), Some("sys"), Some("fast")] {
        let Ok(chosen) = choose(&candidates, volume) else { continue };
        let _ = (chosen.span(), chosen.about());
        let Ok(said) = chosen.assembly(Mode::Force) else { continue };
        assert!(chosen.volume.len <= said.layout.len(), "a volume past its disks");
        let writer = chosen.writer(&candidates);
        for (place, taken) in said.places.iter().enumerate() {
            let (Some(_), None) = (taken.member(), &chosen.read_only) else { continue };
            for lost in [&[][..], &[0], &[1]] {
                let change = change(&chosen, said.events + 1, true, lost);
                for (at, bytes) in writer.stages(&change, place).into_iter().flatten() {
                    let end = at.0 + bytes.len() as u64 / SECTOR_SIZE;
                    assert!(end * SECTOR_SIZE <= disks[0].len, "written up to {end}");
                }
            }
        }
    }
}

/// Changes sets by chance, and uses each.
fn spoil(sets: &[Vec<Disk>], seal: fn(&mut Disk)) {
    let asked = prop::collection::vec(any::<bool>(), 8);
    let seals = prop::bool::weighted(0.9);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1000));
    let cases = (0..sets.len(), changes(), asked, seals);
    let result = runner.run(&cases, |(set, changes, asked, seals)| {
        let mut disks = sets[set].clone();
        for (disk, _) in disks.iter_mut().zip(asked).filter(|(_, asked)| *asked) {
            disk.spoil(&changes);
            if seals {
                seal(disk);
            }
        }
        use_all(&disks);
        Ok(())
    });
    result.unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn of_intel_s_ends_in_words() {
    let sets = recorded(&["imsm5", "imsm10", "imsm5-initialized", "imsm-two"], |len| len - 2048);
    spoil(&sets, Disk::seal_intel);
}

#[test]
fn of_ddf_ends_in_words() {
    let sets = recorded(&["ddf1", "ddf5", "ddf6-failed", "ddf10", "ddf-two"], |_| FIRST);
    spoil(&sets, Disk::seal_ddf);
}
