//! `dmsim check`: compares the legs of a mirror region by region, and repairs what differs.
//!
//! The legs are read beside the mirror, which goes on meanwhile. What differs then may just be on
//! its way: it is read again while the mirror is suspended, a moment at a time.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Serialize;
use sim_core::{Access, DevNumber, SECTOR_SIZE, Sector, Sectors};

use super::leg;
use super::line::Line;
use super::options::Check;
use super::{behind, mirror};
use crate::client::Client;
use crate::fault::{About, Fault};
use crate::instance::Instance;
use crate::machine::{Bar, Machine, fresh, go_on, on_signals, path_of, resume, suspend_held};
use crate::output::print;
use crate::size::print_size;

/// How much is read at a time, in bytes.
const PIECE: u64 = 1 << 20;

/// How long the mirror is suspended at a time, but for the region that is read when that is over.
const AT_A_TIME: Duration = Duration::from_millis(50);

/// What a check has found; lengths are in sectors.
#[derive(Debug, Serialize)]
struct Found {
    name: String,
    regions: u64,
    region_size: u64,
    legs: Vec<LegFile>,
    differing: Vec<Differing>,
    differing_regions: u64,
    out_of_sync: Vec<Run>,
    out_of_sync_regions: u64,
    repaired: bool,
}

#[derive(Debug, Serialize)]
struct LegFile {
    dev: String,
    file: PathBuf,
}

/// A run of regions in which the same legs differ.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Differing {
    region: u64,
    regions: u64,
    start: u64,
    len: u64,
    legs: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Run {
    region: u64,
    regions: u64,
}

/// `dmsim check`.
pub(crate) fn check(instance: &Instance, options: &Check) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let interrupted = on_signals()?;
    let (device, line) = mirror(&mut client, &options.name)?;
    let from = match &options.from {
        Some(word) => Some(leg::leg(&mut client, device.name(), &line, word)?),
        None => None,
    };
    let access = if options.repair { Access::ReadWrite } else { Access::ReadOnly };
    let legs = Legs::open(&mut client, &line, device.size(), access)?;
    let name = device.name();
    let suspended = device.status.suspended;
    let found = Checking { name, legs: &legs, from, repair: options.repair, suspended }
        .run(&mut client, &interrupted)?;
    let found = legs.report(name, &line, found, options.repair);
    let differs = !found.differing.is_empty() && !found.repaired;
    let text = match options.json {
        true => serde_json::to_string_pretty(&found).about("json")? + "\n",
        false => found.text(from.unwrap_or(0)),
    };
    print(&text)?;
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The legs, to be read beside the mirror.
struct Legs {
    files: Vec<(DevNumber, PathBuf, File, Sector)>,
    region: Sectors,
    size: Sectors,
}

impl Legs {
    fn open(
        machine: &mut dyn Machine,
        line: &Line,
        size: Sectors,
        access: Access,
    ) -> Result<Legs, Fault> {
        let mut files = Vec::new();
        for leg in &line.legs {
            let dev = leg.dev().ok_or_else(|| Fault::new(&leg.word, "expected major:minor"))?;
            let path = path_of(machine, dev)?;
            let file = fresh(&path, access)?;
            files.push((dev, path, file, leg.start));
        }
        Ok(Legs { files, region: line.region, size })
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

    fn report(&self, name: &str, line: &Line, found: Regions, repair: bool) -> Found {
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
        let run = |run: &Range<u64>| Run { region: run.start, regions: run.end - run.start };
        let out_of_sync: Vec<Run> = found.out_of_sync.iter().map(run).collect();
        let file = |(dev, file, _, _): &(DevNumber, PathBuf, File, Sector)| LegFile {
            dev: dev.to_string(),
            file: file.clone(),
        };
        Found {
            name: name.to_owned(),
            regions: self.regions(),
            region_size: line.region.0,
            legs: self.files.iter().map(file).collect(),
            differing_regions: differing.iter().map(|run| run.regions).sum(),
            differing,
            out_of_sync_regions: out_of_sync.iter().map(|run| run.regions).sum(),
            out_of_sync,
            repaired: repair,
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
    /// The leg that others are compared with, where it is not the first.
    from: Option<usize>,
    repair: bool,
    /// Nobody writes: it was suspended before.
    suspended: bool,
}

impl Checking<'_> {
    fn run(&self, machine: &mut dyn Machine, interrupted: &AtomicBool) -> Result<Regions, Fault> {
        let candidates = self.candidates(interrupted)?;
        let mut regions = Regions::default();
        let mut left = &candidates[..];
        while !left.is_empty() {
            go_on(self.name, interrupted)?;
            if !self.suspended {
                suspend_held(machine, self.name)?;
            }
            let looked = self.look_again(machine, &mut left, &mut regions);
            let resumed = if self.suspended { Ok(()) } else { resume(machine, self.name) };
            looked.and(resumed)?;
        }
        regions.out_of_sync = behind(machine, self.name)?.regions();
        Ok(regions)
    }

    /// Lists the regions that seem to differ.
    fn candidates(&self, interrupted: &AtomicBool) -> Result<Vec<u64>, Fault> {
        let (mut bar, mut candidates) = (Bar::new(&format!("{} compared", self.name)), Vec::new());
        for region in 0..self.legs.regions() {
            go_on(self.name, interrupted)?;
            if !self.legs.differ(region, self.from.unwrap_or(0))?.is_empty() {
                candidates.push(region);
            }
            bar.show(self.legs.range(region).end / SECTOR_SIZE, self.legs.size.0);
        }
        Ok(candidates)
    }

    /// Looks at regions again while nobody writes, as long as a moment takes.
    fn look_again(
        &self,
        machine: &mut dyn Machine,
        left: &mut &[u64],
        regions: &mut Regions,
    ) -> Result<(), Fault> {
        let since = Instant::now();
        let unsynced = behind(machine, self.name)?.regions();
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
            if self.repair {
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

impl Found {
    fn text(&self, from: usize) -> String {
        let size = print_size(self.region_size * SECTOR_SIZE);
        let mut text = format!(
            "{}: {} legs, {} regions of {size}\n",
            self.name,
            self.legs.len(),
            self.regions
        );
        let mut add = |line: String| writeln!(text, "{line}").expect("a string takes all");
        for run in &self.differing {
            let Differing { region, regions, start, len, legs } = run;
            let legs: Vec<&str> = legs.iter().map(|leg| &*self.legs[*leg].dev).collect();
            let legs = match legs[..] {
                [leg] => format!("leg {leg} differs"),
                _ => format!("legs {} differ", legs.join(", ")),
            };
            let from = &self.legs[from].dev;
            add(format!("{}, sectors {start}+{len}: {legs} from {from}", runs(*region, *regions)));
        }
        for Run { region, regions } in &self.out_of_sync {
            add(format!("{}: not in sync", runs(*region, *regions)));
        }
        let repaired = if self.repaired { ", and are repaired" } else { "" };
        add(match (self.differing_regions, self.out_of_sync_regions) {
            (0, 0) => "no region differs".to_owned(),
            (0, out) => format!("no region differs, {out} are not in sync"),
            (differ, 0) => format!("{differ} regions differ{repaired}"),
            (differ, out) => format!("{differ} regions differ{repaired}; {out} are not in sync"),
        });
        text
    }
}

fn runs(region: u64, regions: u64) -> String {
    match regions {
        1 => format!("region {region}"),
        more => format!("regions {region}-{}", region + more - 1),
    }
}
