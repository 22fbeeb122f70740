//! `dmsim check`: compares the legs of a mirror region by region, and repairs what differs.
//!
//! The legs are read beside the mirror, which goes on meanwhile. What differs then may just be on
//! its way: it is read again while the mirror is suspended, a moment at a time.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daemon::{About, Fault, mangle};
use serde::Serialize;
use sim_core::{Access, DevNumber, SECTOR_SIZE, Sector, Sectors};

use super::leg;
use super::state::{Line, behind, mirror};
use crate::commands::{resume, suspend_held};
use crate::device_mapper::DeviceMapper;
use crate::files::{fresh, path_of};
use crate::size::in_bytes;
use crate::watch::{Watch, go_on};

/// How much is read at a time, in bytes.
const PIECE: u64 = 1 << 20;

/// How long the mirror is suspended at a time, but for the region that is read when that is over.
const AT_A_TIME: Duration = Duration::from_millis(50);

/// What a comparison has found; lengths are in sectors, but for sizes as JSON, which are in bytes.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The mirror.
    pub name: String,
    /// So many regions it has.
    pub regions: u64,
    /// How large one is.
    #[serde(rename = "region_size_bytes", serialize_with = "in_bytes")]
    pub region_size: u64,
    /// Its legs, in the order of the table.
    pub legs: Vec<LegFile>,
    /// Regions that are in sync, and differ.
    pub differing: Vec<Differing>,
    /// How many these are.
    pub differing_regions: u64,
    /// Regions that are not in sync, as the mirror knows itself.
    pub out_of_sync: Vec<OutOfSync>,
    /// How many these are.
    pub out_of_sync_regions: u64,
    /// Those that differed were copied from the leg that is right.
    pub repaired: bool,
    /// The place of the leg that others were compared with.
    #[serde(skip)]
    pub from: usize,
}

/// Where a leg lies.
#[derive(Debug, Serialize)]
pub struct LegFile {
    /// Its number.
    #[serde(flatten)]
    pub dev: DevNumber,
    /// The file in which its bytes can be read.
    pub file: PathBuf,
}

/// A run of regions in which the same legs differ.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Differing {
    /// The first.
    pub region: u64,
    /// How many.
    pub regions: u64,
    /// Where they begin.
    pub start: u64,
    /// How long they are.
    pub len: u64,
    /// The places of the legs.
    pub legs: Vec<usize>,
}

/// A run of regions that are not in sync.
#[derive(Debug, Serialize)]
pub struct OutOfSync {
    /// The first.
    pub region: u64,
    /// How many.
    pub regions: u64,
}

/// Compares the legs of a mirror region by region; nothing is held up for more than a moment at a
/// time. Where a leg is named that is right, regions that differ are copied from it.
///
/// # Errors
/// Where it is no mirror, a leg cannot be read, or `watch` interrupts it.
pub fn check(
    dm: &mut dyn DeviceMapper,
    name: &str,
    repair_from: Option<&str>,
    watch: &dyn Watch,
) -> Result<Comparison, Fault> {
    let (device, line) = mirror(dm, name)?;
    let from = match repair_from {
        Some(word) => Some(leg::leg(dm, device.name(), &line, word)?),
        None => None,
    };
    let access = if from.is_some() { Access::ReadWrite } else { Access::ReadOnly };
    let legs = Legs::open(dm, &line, device.size(), access)?;
    let name = device.name();
    let suspended = device.status.suspended;
    let found = Checking { name, legs: &legs, from, suspended }.run(dm, watch)?;
    Ok(legs.report(name, &line, found, from))
}

/// The legs, to be read beside the mirror.
struct Legs {
    files: Vec<(DevNumber, PathBuf, File, Sector)>,
    region: Sectors,
    size: Sectors,
}

impl Legs {
    fn open(
        dm: &mut dyn DeviceMapper,
        line: &Line,
        size: Sectors,
        access: Access,
    ) -> Result<Legs, Fault> {
        let mut files = Vec::new();
        for leg in &line.legs {
            let dev = leg
                .device
                .number()
                .ok_or_else(|| Fault::new(&leg.device, "expected major:minor"))?;
            let path = path_of(dm, dev)?;
            let file = fresh(&path, access)?;
            files.push((dev, path, file, leg.start));
        }
        Ok(Legs { files, region: line.log.region, size })
    }

    fn regions(&self) -> u64 {
        self.size.0.div_ceil(self.region.0)
    }

    /// Returns the bytes of a region, from the start of the mirror on.
    fn range(&self, region: u64) -> Range<u64> {
        let start = Sectors(region * self.region.0);
        start.bytes()..(start + self.region).min(self.size).bytes()
    }

    fn read(&self, leg: usize, at: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        let (_, path, file, start) = &self.files[leg];
        file.read_exact_at(buffer, start.from_start().bytes() + at).about(path.display())
    }

    /// Returns the legs that have a region otherwise than this one.
    fn differ(&self, region: u64, from: usize) -> Result<Vec<usize>, Fault> {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        let mut differ = Vec::new();
        let range = self.range(region);
        for at in range.clone().step_by(PIECE as usize) {
            let len = PIECE.min(range.end - at) as usize;
            own.resize(len, 0);
            other.resize(len, 0);
            self.read(from, at, &mut own)?;
            for leg in (0..self.files.len()).filter(|leg| *leg != from) {
                if differ.contains(&leg) {
                    continue;
                }
                self.read(leg, at, &mut other)?;
                if own != other {
                    differ.push(leg);
                }
            }
        }
        differ.sort_unstable();
        Ok(differ)
    }

    /// Copies a region from one leg to some others.
    fn copy(&self, region: u64, from: usize, to: &[usize]) -> Result<(), Fault> {
        let (mut data, range) = (Vec::new(), self.range(region));
        for at in range.clone().step_by(PIECE as usize) {
            data.resize(PIECE.min(range.end - at) as usize, 0);
            self.read(from, at, &mut data)?;
            for leg in to {
                let (_, path, file, start) = &self.files[*leg];
                let at = start.from_start().bytes() + at;
                file.write_all_at(&data, at).about(path.display())?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Fault> {
        let sync = |file: &File| -> io::Result<()> { file.sync_data() };
        self.files.iter().try_for_each(|(_, path, file, _)| sync(file).about(path.display()))
    }

    fn report(&self, name: &str, line: &Line, found: Regions, from: Option<usize>) -> Comparison {
        let mut differing: Vec<Differing> = Vec::new();
        for (region, legs) in found.differ {
            let range = self.range(region);
            let len = (range.end - range.start) / SECTOR_SIZE;
            match differing.last_mut() {
                Some(run) if run.region + run.regions == region && run.legs == legs => {
                    run.regions += 1;
                    run.len += len;
                }
                Some(_) | None => {
                    let start = range.start / SECTOR_SIZE;
                    differing.push(Differing { region, regions: 1, start, len, legs });
                }
            }
        }
        let run = |run: &Range<u64>| OutOfSync { region: run.start, regions: run.end - run.start };
        let out_of_sync: Vec<OutOfSync> = found.out_of_sync.iter().map(run).collect();
        let file = |(dev, file, _, _): &(DevNumber, PathBuf, File, Sector)| LegFile {
            dev: *dev,
            file: file.clone(),
        };
        Comparison {
            name: mangle::decode(name),
            regions: self.regions(),
            region_size: line.log.region.0,
            legs: self.files.iter().map(file).collect(),
            differing_regions: differing.iter().map(|run| run.regions).sum(),
            differing,
            out_of_sync_regions: out_of_sync.iter().map(|run| run.regions).sum(),
            out_of_sync,
            repaired: from.is_some(),
            from: from.unwrap_or(0),
        }
    }
}

/// What is known of regions, in order.
#[derive(Default)]
struct Regions {
    /// In sync, and differ: with the legs that do.
    differ: Vec<(u64, Vec<usize>)>,
    out_of_sync: Vec<Range<u64>>,
}

struct Checking<'a> {
    name: &'a str,
    legs: &'a Legs,
    /// The leg that others are compared with, and repaired from; else the first is compared with.
    from: Option<usize>,
    /// Nobody writes: it was suspended before.
    suspended: bool,
}

impl Checking<'_> {
    fn run(&self, dm: &mut dyn DeviceMapper, watch: &dyn Watch) -> Result<Regions, Fault> {
        let candidates = self.candidates(watch)?;
        let mut regions = Regions::default();
        let mut left = &candidates[..];
        while !left.is_empty() {
            go_on(self.name, watch)?;
            if !self.suspended {
                suspend_held(dm, self.name)?;
            }
            let looked = self.look_again(dm, &mut left, &mut regions);
            let resumed = if self.suspended { Ok(()) } else { resume(dm, self.name) };
            looked.and(resumed)?;
        }
        regions.out_of_sync = behind(dm, self.name)?.regions();
        Ok(regions)
    }

    /// Lists the regions that seem to differ.
    fn candidates(&self, watch: &dyn Watch) -> Result<Vec<u64>, Fault> {
        let mut progress = watch.begin(&format!("{} compared", self.name));
        let mut candidates = Vec::new();
        for region in 0..self.legs.regions() {
            go_on(self.name, watch)?;
            if !self.legs.differ(region, self.from.unwrap_or(0))?.is_empty() {
                candidates.push(region);
            }
            progress.show(self.legs.range(region).end / SECTOR_SIZE, self.legs.size.0);
        }
        Ok(candidates)
    }

    /// Looks at regions again while nobody writes, as long as a moment takes.
    fn look_again(
        &self,
        dm: &mut dyn DeviceMapper,
        left: &mut &[u64],
        regions: &mut Regions,
    ) -> Result<(), Fault> {
        let since = Instant::now();
        let unsynced = behind(dm, self.name)?.regions();
        let mut unsynced = unsynced.iter().peekable();
        let mut written = false;
        while let Some((region, rest)) = left.split_first() {
            *left = rest;
            while unsynced.next_if(|run| run.end <= *region).is_some() {}
            if unsynced.peek().is_some_and(|run| run.contains(region)) {
                continue;
            }
            let from = self.from.unwrap_or(0);
            let differ = self.legs.differ(*region, from)?;
            if differ.is_empty() {
                continue;
            }
            if self.from.is_some() {
                self.legs.copy(*region, from, &differ)?;
                written = true;
            }
            regions.differ.push((*region, differ));
            if since.elapsed() >= AT_A_TIME {
                break;
            }
        }
        if written { self.legs.sync() } else { Ok(()) }
    }
}
