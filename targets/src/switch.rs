//! `switch <#paths> <region sectors> 0 [<dev> <start>]+`: sends each region by the path that a
//! message has set for it; all lead to the same storage.
//!
//! Message `set_region_mappings <mapping>+`, where a mapping is `<region>:<path>`, `:<path>` for the
//! region after the one before, or `R<n>,<m>`: the paths of the last `n` regions once more, for the
//! `m` regions that follow. All numbers are hexadecimal. At first the regions take the paths in turn.
//!
//! As in the kernel, a flush reaches none of the paths, and a discard goes whole by that of its first
//! sector.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use sim_core::{
    Area, Args, Bio, CtrError, DevNumber, Errno, Flat, Mapped, Op, Profile, Refusal, Reply, Sector,
    Sectors, Spots, StatusKind, StatusWriter, Target, TargetLog, TargetType, reply,
};

use crate::lines::switch::Line;
use crate::lines::{self, Place};

/// The most memory for the paths of regions, in bytes: 2^31 regions of two paths.
const MAX_TABLE: u64 = 256 << 20;

/// Several paths to the same storage, and which region goes by which.
pub struct Switch {
    region: Sectors,
    paths: Vec<Area>,
    regions: Regions,
    /// One message at a time.
    message: Mutex<()>,
    log: TargetLog,
}

impl TargetType for Switch {
    const NAME: &'static str = "switch";
    const VERSION: [u32; 3] = [1, 1, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Switch, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let (len, region) = (args.target_len(), line.region);
        let regions = Regions::new(len.0.div_ceil(region.0), line.paths.len() as u64)?;
        let path = |Place { device, start }| Area::new(device, start, len);
        let paths = line.paths.into_iter().map(path).collect();
        Ok(Switch { region, paths, regions, message: Mutex::default(), log: args.log() })
    }
}

impl Target for Switch {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Remapped(self.path(bio.sector), bio.sector, bio)
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                let place = |area: &Area| {
                    Ok(Place { device: lines::device_word(area, out)?, start: area.start })
                };
                let paths = self.paths.iter().map(place).collect::<Result<_, _>>()?;
                write!(out, "{}", Line { region: self.region, paths })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.paths.iter().for_each(each);
    }

    fn profile(&self) -> Profile {
        Profile {
            max_io_len: Some(self.region),
            num_flush_bios: 0,
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            reroutes: true,
            ..Profile::REMAP
        }
    }

    fn flatten(&self, _op: Op, offset: Sector) -> Flat<'_> {
        let left = Sectors(self.region.0 - offset.0 % self.region.0);
        Flat::Device(self.path(offset), offset, left)
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let path = self.regions.path(offset.0 / self.region.0);
        out.at(self.path(offset), offset, format!("path {path}"));
        Some(Sectors(self.region.0 - offset.0 % self.region.0))
    }

    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        Some(self.paths.iter().filter_map(|path| path.sector_of(below, sector)).collect())
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        let _one = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        let set = match words.split_first() {
            Some((first, mappings)) if first.eq_ignore_ascii_case("set_region_mappings") => {
                self.set_regions(mappings)
            }
            Some(_) | None => Err("Unrecognised message received.".to_owned()),
        };
        reply(set.map(|()| None).map_err(|why| self.refuse(&why)))
    }
}

impl Switch {
    fn path(&self, sector: Sector) -> &Area {
        &self.paths[self.regions.path(sector.0 / self.region.0) as usize]
    }

    fn refuse(&self, why: &str) -> Refusal {
        self.log.refusal(Errno::INVAL, why)
    }

    /// Carries out mappings one after the other, up to the first that is wrong.
    fn set_regions(&self, mappings: &[&str]) -> Result<(), String> {
        let mut region = 0;
        for word in mappings {
            let mapping = Mapping::parse(word)
                .ok_or_else(|| format!("invalid set_region_mappings argument: '{word}'"))?;
            region = match mapping {
                Mapping::One { region: Some(region), path } => self.set_one(region, path)?,
                Mapping::One { region: None, path } => self.set_one(region + 1, path)?,
                Mapping::Repeat { cycle, count } => self.repeat(region, cycle, count)?,
            };
        }
        Ok(())
    }

    fn set_one(&self, region: u64, path: u64) -> Result<u64, String> {
        let (regions, paths) = (self.regions.count, self.paths.len() as u64);
        if region >= regions {
            return Err(format!(
                "invalid set_region_mappings region number: {region} >= {regions}"
            ));
        }
        if path >= paths {
            return Err(format!("invalid set_region_mappings device: {path} >= {paths}"));
        }
        self.regions.set(region, path);
        Ok(region)
    }

    /// Gives the `count` regions after `last` the paths of the `cycle` before them, and returns the
    /// last of them.
    fn repeat(&self, last: u64, cycle: u64, count: u64) -> Result<u64, String> {
        // The kernel takes one from zero, too.
        let before = cycle.wrapping_sub(1);
        if before > last {
            return Err(format!("invalid set_region_mappings cycle length: {before} > {last}"));
        }
        let regions = self.regions.count;
        if last.checked_add(count).is_none_or(|end| end >= regions) {
            return Err(format!(
                "invalid set_region_mappings region number: {last} + {count} >= {regions}"
            ));
        }
        for region in last + 1..=last + count {
            self.regions.set(region, self.regions.path(region - cycle));
        }
        Ok(last + count)
    }
}

/// One word of a `set_region_mappings`.
#[derive(Debug, PartialEq, Eq)]
enum Mapping {
    /// Of a region, or of the one after the last.
    One { region: Option<u64>, path: u64 },
    /// The paths of the last regions once more.
    Repeat { cycle: u64, count: u64 },
}

impl Mapping {
    fn parse(word: &str) -> Option<Mapping> {
        if let Some(rest) = word.strip_prefix(['R', 'r']) {
            let (cycle, count) = rest.split_once(',')?;
            return Some(Mapping::Repeat { cycle: hex(cycle)?, count: hex(count)? });
        }
        let (region, path) = word.split_once(':')?;
        let region = if region.is_empty() { None } else { Some(hex(region)?) };
        Some(Mapping::One { region, path: hex(path)? })
    }
}

/// Reads a hexadecimal number of any length, modulo 2^64.
fn hex(digits: &str) -> Option<u64> {
    let digit = |number: u64, digit: char| Some(number << 4 | u64::from(digit.to_digit(16)?));
    (!digits.is_empty()).then(|| digits.chars().try_fold(0, digit)).flatten()
}

/// The path of each region, in as few bits as it takes.
struct Regions {
    count: u64,
    bits: u32,
    words: Vec<AtomicU64>,
}

impl Regions {
    /// Lets the regions take the paths in turn.
    fn new(count: u64, paths: u64) -> Result<Regions, CtrError> {
        let bits = (paths - 1).checked_ilog2().map_or(1, |log| log + 1);
        let (needed, most) = (count.div_ceil((64 / bits).into()), MAX_TABLE / 8);
        let mut words = Vec::new();
        if needed > most || words.try_reserve_exact(needed as usize).is_err() {
            let error = CtrError::new("Cannot allocate region table").errno(Errno::NOMEM).arg(1);
            let most = most.saturating_mul((64 / bits).into());
            return Err(error.detail(format!("{count} regions, of {most} at most")));
        }
        words.resize_with(needed as usize, AtomicU64::default);
        let regions = Regions { count, bits, words };
        (0..count).for_each(|region| regions.set(region, region % paths));
        Ok(regions)
    }

    /// Returns the word that a region is in, and by how much it is shifted there.
    fn place(&self, region: u64) -> (&AtomicU64, u32) {
        let each = u64::from(64 / self.bits);
        (&self.words[(region / each) as usize], (region % each) as u32 * self.bits)
    }

    fn path(&self, region: u64) -> u64 {
        let (word, shift) = self.place(region);
        word.load(Relaxed) >> shift & self.mask()
    }

    /// Sets the path of a region. One at a time: the other regions of the word are written, too.
    fn set(&self, region: u64, path: u64) {
        let (word, shift) = self.place(region);
        let others = word.load(Relaxed) & !(self.mask() << shift);
        word.store(others | path << shift, Relaxed);
    }

    fn mask(&self) -> u64 {
        (1 << self.bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_keep_apart_in_their_words() {
        for paths in [1, 2, 3, 5, 16, 17, 1000] {
            let regions = Regions::new(500, paths).unwrap_or_else(|error| panic!("{error}"));
            for region in (0..500).rev() {
                regions.set(region, (region * 7) % paths);
            }
            let right = |region| regions.path(region) == (region * 7) % paths;
            assert!((0..500).all(right), "{paths} paths");
        }
    }

    #[test]
    fn more_regions_than_there_is_memory_for_are_refused() {
        for (count, paths) in [((1 << 31) + 1, 2), (u64::MAX, 2), (1 << 29, 17)] {
            let error = Regions::new(count, paths).map(drop).expect_err("too many");
            assert_eq!(
                (&*error.kernel, error.errno),
                ("Cannot allocate region table", Errno::NOMEM)
            );
        }
    }

    #[test]
    fn mappings_are_read_as_the_kernel_reads_them() {
        let one = |region, path| Some(Mapping::One { region, path });
        assert_eq!(Mapping::parse("1f:a"), one(Some(31), 10));
        assert_eq!(Mapping::parse(":0"), one(None, 0));
        assert_eq!(Mapping::parse("10000000000000001:2"), one(Some(1), 2));
        assert_eq!(Mapping::parse("r2,10"), Some(Mapping::Repeat { cycle: 2, count: 16 }));
        for bad in ["", "5", "5:", ":", "5:0x", "x:1", "R", "R,3", "R1", "R1,", "R1,g", "5:1:"] {
            assert_eq!(Mapping::parse(bad), None, "{bad}");
        }
    }
}
