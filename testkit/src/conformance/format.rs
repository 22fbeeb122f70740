//! A part about what lies on the disks: the fields of an on-disk format hold what nobody would write.

use std::collections::BTreeSet;
use std::sync::Arc;

use sim_core::{Op, Sector};

use super::corrupt::come_up;
use super::ground::DISKS;
use super::lives::rewind;
use super::suite::Suite;
use crate::{Rng, SECTOR, Schedule, SimDisk, World, story};

/// How often the disks of one run are changed.
const TIMES: usize = 30;

/// How many bytes choose the changes of one time.
const BYTES: usize = 48;

/// The most changes of one time.
const MOST: usize = 6;

/// The seed chooses what is changed.
pub(super) fn format(suite: &Suite, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed ^ 0xf0a);
    let used = Used::new(suite, seed)?;
    for _ in 0..TIMES {
        let bytes: Vec<u8> = (0..BYTES).map(|_| rng.number() as u8).collect();
        used.try_changes(&bytes)?;
    }
    Ok(())
}

/// The bytes choose all.
pub(super) fn format_by(suite: &Suite, bytes: &[u8]) -> Result<(), String> {
    let (seed, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    Used::new(suite, u64::from(*seed))?.try_changes(bytes)
}

/// The disks of a device that was used, and then let go of.
struct Used<'a> {
    suite: &'a Suite,
    seed: u64,
    disks: Vec<Arc<SimDisk>>,
    before: Vec<usize>,
    /// The sectors that are read when the device comes up: there the format is.
    read: Vec<(usize, u64)>,
}

impl Used<'_> {
    fn new(suite: &Suite, seed: u64) -> Result<Used<'_>, String> {
        let rig = suite.start(seed)?;
        let steps = rig.steps(&mut Rng::new(seed), 14);
        rig.run_well(&steps, 1 + seed as usize % 2)?;
        let (disks, shape) = (rig.disks.clone(), rig.shape);
        drop(rig);
        let before = disks.iter().map(|disk| disk.checkpoint()).collect::<Vec<_>>();
        let world = World::with(&Schedule::Random(seed), suite.registry.clone(), &disks);
        disks.iter().for_each(|disk| disk.watch());
        let rig = suite.over(world, &disks, suite.new_traffic(), shape)?;
        let mut read = BTreeSet::new();
        for (at, disk) in disks.iter().enumerate() {
            for io in disk.take_ios().into_iter().filter(|io| io.op == Op::Read) {
                read.extend((0..io.len.0).map(|offset| (at, io.sector.0 + offset)));
            }
        }
        drop(rig);
        rewind(&disks, &before);
        Ok(Used { suite, seed, disks, before, read: read.into_iter().collect() })
    }

    /// Changes the disks, brings the device up and uses it, and changes them back. Anything may be
    /// refused. Nothing panics, and nothing hangs.
    fn try_changes(&self, bytes: &[u8]) -> Result<(), String> {
        if self.read.is_empty() {
            return Ok(());
        }
        let told = story::point();
        let mut bytes = Bytes(bytes.iter());
        let mut changes = Vec::new();
        while !bytes.0.as_slice().is_empty() && changes.len() < MOST {
            changes.push(self.change(&mut bytes));
        }
        for (disk, name) in self.disks.iter().zip(DISKS) {
            if let Some(seal) = self.suite.seals.get(name) {
                let mut content = disk.content();
                seal(&mut content);
                disk.fill(Sector::ZERO, &content);
            }
        }
        let what = changes.join("; ");
        story::heading(format_args!("changed now: {what}"));
        come_up(self.suite, self.seed, &self.disks, None)
            .map_err(|why| format!("with {what}: {why}"))?;
        story::back_to(told);
        rewind(&self.disks, &self.before);
        Ok(())
    }

    /// Chooses a sector of the format.
    fn place(&self, bytes: &mut Bytes<'_>) -> (usize, Sector) {
        let (disk, sector) = self.read[bytes.below(self.read.len())];
        (disk, Sector(sector))
    }

    /// Makes one change, and says which.
    fn change(&self, bytes: &mut Bytes<'_>) -> String {
        let kind = bytes.below(16);
        let (disk, sector) = self.place(bytes);
        let name = DISKS[disk];
        let mut content = self.disks[disk].sector(sector);
        let told = match kind {
            0 => {
                let (other, from) = self.place(bytes);
                content = self.disks[other].sector(from);
                format!(
                    "sector {sector} of disk {name} is a copy of sector {from} of {}",
                    DISKS[other]
                )
            }
            1 => {
                let byte = [0, 0xff, b' ', bytes.next()][bytes.below(4)];
                content.fill(byte);
                format!("sector {sector} of disk {name} is full of {byte:#04x}")
            }
            2 => {
                let at = bytes.below(SECTOR);
                content[at] = bytes.next();
                format!("byte {at} of sector {sector} of disk {name} is {:#04x}", content[at])
            }
            _ => {
                let field = Field::chosen(bytes);
                let value = match bytes.below(4) {
                    0 => field.read(&content).wrapping_add(1),
                    1 => field.read(&content).wrapping_sub(1),
                    2 => field.value(bytes),
                    _ => {
                        let (other, from) = self.place(bytes);
                        let from = self.disks[other].sector(from);
                        Field::chosen(bytes).read(&from)
                    }
                };
                field.write(&mut content, value);
                format!("{field} of sector {sector} of disk {name} is {:#x}", field.read(&content))
            }
        };
        self.disks[disk].fill(sector, &content);
        told
    }
}

/// A number in a sector.
struct Field {
    at: usize,
    width: usize,
    is_big_endian: bool,
}

impl Field {
    /// Most fields are among the first words of a sector, and lie on a multiple of their width.
    fn chosen(bytes: &mut Bytes<'_>) -> Field {
        let width = [1, 2, 4, 4, 8, 8, 8, 8][bytes.below(8)];
        let within = [64, 64, 128, SECTOR][bytes.below(4)];
        let at = bytes.below(within / width) * width;
        Field { at, width, is_big_endian: bytes.below(4) == 0 }
    }

    fn read(&self, sector: &[u8]) -> u64 {
        let bytes = &sector[self.at..self.at + self.width];
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self.is_big_endian {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        }
    }

    fn write(&self, sector: &mut [u8], value: u64) {
        let bytes = &mut sector[self.at..self.at + self.width];
        match self.is_big_endian {
            true => bytes.copy_from_slice(&value.to_be_bytes()[8 - self.width..]),
            false => bytes.copy_from_slice(&value.to_le_bytes()[..self.width]),
        }
    }

    /// Chooses a number that code does not expect: the ends of ranges, of this width and of narrower
    /// ones, and what overflows when it is multiplied by the length of a sector or a block.
    fn value(&self, bytes: &mut Bytes<'_>) -> u64 {
        let most = u64::MAX >> (64 - 8 * self.width as u32);
        let all = [0, 1, 2, 3, most, most - 1, most / 2, most / 2 + 1, most >> 9, (most >> 9) + 1];
        match bytes.below(all.len() + 2) {
            at if at < all.len() => all[at],
            _ => u64::from(bytes.next()),
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = if self.is_big_endian { "big-endian" } else { "little-endian" };
        write!(f, "the {order} number of {} bytes at {}", self.width, self.at)
    }
}

/// Bytes that choose; zeros when there are no more.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    /// Returns a number below `count`, which is not zero.
    fn below(&mut self, count: usize) -> usize {
        let wide = if count > 256 { usize::from(self.next()) << 8 } else { 0 };
        (wide | usize::from(self.next())) % count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_as_it_was_written() {
        let mut bytes = Bytes([].iter());
        assert_eq!((bytes.below(3), bytes.next()), (0, 0));
        for width in [1, 2, 4, 8] {
            for is_big_endian in [false, true] {
                let field = Field { at: 8, width, is_big_endian };
                let mut sector = [0; SECTOR];
                field.write(&mut sector, 0x0102_0304_0506_0708);
                let shown = 0x0102_0304_0506_0708 & (u64::MAX >> (64 - 8 * width));
                assert_eq!(field.read(&sector), shown, "{field}");
                assert!(sector[8 + width..].iter().all(|byte| *byte == 0), "{field}");
            }
        }
        let big = Field { at: 0, width: 4, is_big_endian: true };
        assert_eq!(big.read(&[1, 2, 3, 4]), 0x0102_0304);
    }
}
