//! How a set starts: from a table line and what the metadata devices hold, which legs are in sync,
//! what is to be synchronized, and what is to be written; or why it does not start.
//!
//! The superblock with the highest count of events is believed. What it says of the set (level,
//! layout, chunk, and how far a resync got) counts more than the line, which cannot change a set
//! without a reshape. A leg is rebuilt where the line says so, where that superblock has it as
//! failed, or where its own says that a rebuild did not end. Events that are behind say nothing by
//! themselves, as a set that was cut off while superblocks were written has some.

mod analysis;
mod reshape;
mod takeover;
#[cfg(test)]
mod tests;

use sim_core::{CtrError, Errno, Sector, Sectors};

use crate::lines::raid::{Family, Lengths, Line, Synchronize};
use crate::raid::layout::{Layout, Parity, Raid10};
use crate::raid::superblock::{DONE, Extension, Geometry, Legs, Superblock};
use analysis::{Analysis, Member};
pub use reshape::Reshaping;

/// What there is of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What its metadata device holds.
    pub found: Found,
    /// The length of its data device; none without one.
    pub size: Option<Sectors>,
}

/// What a metadata device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The line has no such device.
    NoDevice,
    /// It cannot be read.
    Unreadable,
    /// No superblock.
    Blank,
    /// A superblock.
    Superblock(Superblock),
}

/// How a set starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// How the set is made.
    pub geometry: Geometry,
    /// How many legs it has by its superblocks: for raid10 perhaps more than the line, which are
    /// missing then.
    pub devices: usize,
    /// How long the set and its legs are while it is loaded.
    pub lengths: Lengths,
    /// How long they are from the first resume on, where they grow.
    pub grown: Option<Lengths>,
    /// The reshape that the superblocks tell of, or that the line asks for: what else is said of the
    /// set is how it is when that is over.
    pub reshape: Option<Reshaping>,
    /// What is with each leg of the line.
    pub legs: Vec<LegStart>,
    /// Where the resync begins; none where the set is in sync.
    pub resync_from: Option<Sector>,
    /// How many events there were.
    pub events: u64,
    /// What is with the bitmap.
    pub bitmap: BitmapStart,
    /// Whether all superblocks are to be written before the first resume, and not only as soon as
    /// a state changes.
    pub write_superblocks: bool,
    /// The offsets of the data on all legs, now and after a reshape; none where each leg's own
    /// superblock has them.
    pub data_offsets: Option<(Sectors, Sectors)>,
}

/// What is with a leg when a set starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegStart {
    /// It has what the set has.
    InSync,
    /// It is rebuilt.
    Recover {
        /// From where on: what lies before has been rebuilt.
        from: Sector,
        /// The events of its superblock, where it had failed and is back: it lacks what has bits
        /// in the bitmap, as long as its events are not less than the bitmap's `events_cleared`.
        /// (The kernel does not compare these.)
        back: Option<u64>,
    },
    /// It cannot be used, as its superblock cannot be read.
    Failed,
    /// It is not there.
    Missing,
    /// The set has less legs than the line. (Its letter is that of a leg behind.)
    Unused,
}

/// What is with the bitmap when a set starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitmapStart {
    /// There is none: raid0, or no metadata devices.
    None,
    /// A new one, with all bits set.
    New,
    /// That of the metadata devices: of the first leg in sync.
    Load,
}

const RUN: &str = "Failed to run raid array";

/// Decides how the set of a line starts, for a target of length `len` and with a candidate for each
/// leg of the line. What the kernel logs goes to `log`.
pub fn decide<D>(
    line: &Line<D>,
    len: Sectors,
    candidates: &[Candidate],
    log: &mut Vec<String>,
) -> Result<Start, CtrError> {
    assert_eq!(line.legs.len(), candidates.len(), "a candidate for each leg");
    let wanted = line.lengths(len).map_err(CtrError::new)?;
    let mut analysis = Analysis::new(line, wanted, candidates);
    analysis.analyse(log)?;
    let Some(leg_len) = analysis.leg_len() else {
        return Err(CtrError::new("Invalid rdev size"));
    };
    let mut start = analysis.plan(leg_len, log)?;
    start.legs = analysis.members.iter().enumerate().map(|(nr, m)| start.leg(nr, m)).collect();
    start.run(line)?;
    if line.params.journal_dev.is_some() {
        start.bitmap = BitmapStart::None;
    }
    start.check_space(line, candidates)?;
    start.check_reshape(line, candidates.iter().map(|candidate| candidate.size))?;
    start.check_bitmap(candidates)?;
    Ok(start)
}

impl Start {
    fn leg(&self, nr: usize, member: &Member) -> LegStart {
        let raid0 = self.geometry.level == Family::Raid0.level();
        match member {
            Member { has_data: false, .. } => LegStart::Missing,
            // As md, which needs its superblock for nothing.
            _ if raid0 => LegStart::InSync,
            Member { faulty: true, .. } => LegStart::Failed,
            _ if nr >= self.most_devices() => LegStart::Unused,
            Member { in_sync: true, .. } => LegStart::InSync,
            Member { recovery, back, .. } => {
                LegStart::Recover { from: Sector(*recovery), back: *back }
            }
        }
    }

    /// Returns how many legs it has, or had before a reshape.
    pub fn most_devices(&self) -> usize {
        self.reshape.map_or(0, |reshape| reshape.old_devices).max(self.devices)
    }

    /// Does what md does with the set as it is put together: refuses one that lacks too much.
    fn run<D>(&mut self, line: &Line<D>) -> Result<(), CtrError> {
        let in_sync = |leg: usize| self.legs.get(leg) == Some(&LegStart::InSync);
        let count = (0..self.legs.len()).filter(|leg| in_sync(*leg)).count();
        match line.kind.family() {
            Family::Raid0 if count < self.devices => Err(refuse_run(self.devices, count)),
            Family::Raid1 if count == 0 => Err(refuse_run(1, count)),
            Family::Raid1 => {
                if count == 1 {
                    // Nothing to compare it with.
                    self.resync_from = None;
                }
                Ok(())
            }
            Family::Raid0 => Ok(()),
            Family::Raid5 | Family::Raid6 => self.run_parity(line, count),
            Family::Raid10 => {
                let Some(raid10) = self.raid10(self.lengths) else {
                    let (layout, devices) = (self.geometry.layout, self.devices);
                    let detail = format!("layout {layout:#x} for {devices} legs");
                    return Err(CtrError::new(RUN).detail(detail));
                };
                // By the layout that the set has, which the line may have otherwise.
                self.lengths = lengths_of(&raid10);
                self.grown = self
                    .grown
                    .and_then(|lengths| self.raid10(lengths))
                    .map(|raid10| lengths_of(&raid10));
                match raid10.has_enough(|leg| !in_sync(leg)) {
                    true => Ok(()),
                    false => Err(refuse_run(self.devices, count).errno(Errno::IO)),
                }
            }
        }
    }

    /// Refuses a set with parity that lacks too many legs, or lacks one while the parity of the others
    /// may be wrong.
    fn run_parity<D>(&self, line: &Line<D>, in_sync: usize) -> Result<(), CtrError> {
        let Some(parity) = self.parity(self.lengths) else {
            let (layout, devices) = (self.geometry.layout, self.devices);
            let detail = format!("layout {layout:#x} for {devices} legs");
            return Err(CtrError::new(RUN).detail(detail));
        };
        let too_few = line.kind.family() == Family::Raid6 && self.devices < 4;
        if too_few {
            let detail = format!("expected 4 legs at least, found {}", self.devices);
            return Err(CtrError::new(RUN).detail(detail));
        }
        let least = parity.legs() - parity.parities();
        if in_sync < least {
            return Err(refuse_run(least, in_sync).errno(Errno::IO));
        }
        let asked = line.params.synchronize == Synchronize::Everything;
        // What is to be rebuilt may be parity alone, which is that of the data then.
        let (layout, parities) = (self.geometry.layout, parity.parities());
        let has_data = (0..self.devices).all(|leg| match self.legs.get(leg) {
            Some(LegStart::InSync) => true,
            Some(LegStart::Recover { .. }) => is_parity_alone(layout, leg, self.devices, parities),
            Some(LegStart::Missing | LegStart::Failed | LegStart::Unused) | None => false,
        });
        if in_sync < parity.legs() && self.resync_from.is_some() && !asked && !has_data {
            let detail = "its parity may be wrong, and without all legs nothing mends it";
            return Err(CtrError::new(RUN).detail(detail).errno(Errno::IO));
        }
        Ok(())
    }

    /// Refuses a set whose bitmap is looked for where there is none: the kernel reads that of the
    /// first leg in sync, even where it has no metadata device.
    fn check_bitmap(&self, candidates: &[Candidate]) -> Result<(), CtrError> {
        let first = self.legs.iter().position(|leg| *leg == LegStart::InSync);
        let (BitmapStart::Load, Some(first)) = (self.bitmap, first) else { return Ok(()) };
        match candidates[first].found {
            Found::NoDevice => {
                let detail = format!("leg {first} has no metadata device");
                Err(CtrError::new(RUN).detail(detail))
            }
            Found::Unreadable | Found::Blank | Found::Superblock(_) => Ok(()),
        }
    }

    /// Refuses a `data_offset` for which the first leg has no room.
    fn check_space<D>(&self, line: &Line<D>, candidates: &[Candidate]) -> Result<(), CtrError> {
        const SPACE: Sectors = Sectors(32);
        let goes_on = self.reshape.is_some_and(|reshape| !reshape.waits);
        let asked = line.params.data_offset.filter(|offset| !offset.is_zero() && !goes_on);
        let (Some(_), Some(size)) = (asked, candidates[0].size) else { return Ok(()) };
        let left = Sectors(size.0.saturating_sub(self.lengths.device.0));
        let is_at_0 = self.data_offsets.is_none_or(|(now, _)| now.is_zero());
        let grows = line.params.delta_disks.is_some_and(|delta| delta > 0);
        let way = if is_at_0 && !grows { "backward" } else { "forward" };
        match left >= SPACE {
            true => Ok(()),
            false => {
                let error = CtrError::new(format!("No space for {way} reshape"));
                let detail = format!("expected {SPACE} sectors behind the data, found {left}");
                Err(error.detail(detail).errno(Errno::NOSPC))
            }
        }
    }

    /// Returns where everything lies once the set has been resumed; none where the superblocks
    /// have a word for the layout that dm-raid does not make.
    pub fn layout(&self) -> Option<Layout> {
        let lengths = self.grown.unwrap_or(self.lengths);
        layout_of(self.geometry, self.devices, lengths.device)
    }

    fn parity(&self, lengths: Lengths) -> Option<Parity> {
        layout_of(self.geometry, self.devices, lengths.device)?.parity().copied()
    }

    fn raid10(&self, lengths: Lengths) -> Option<Raid10> {
        layout_of(self.geometry, self.devices, lengths.device)?.raid10().copied()
    }

    /// Returns the legs that superblocks have as failed: those that are missing too.
    pub fn failed(&self) -> Legs {
        let legs = self.legs.iter().enumerate();
        legs.filter(|(_, leg)| matches!(leg, LegStart::Failed | LegStart::Missing))
            .map(|(nr, _)| nr)
            .collect()
    }

    /// Returns the superblock of a leg as the set starts. Who writes it counts an event first.
    pub fn superblock(&self, leg: usize) -> Superblock {
        let lengths = self.grown.unwrap_or(self.lengths);
        let (data_offset, new_data_offset) = self.data_offsets.unwrap_or_default();
        let recovery_offset = match self.legs[leg] {
            LegStart::Recover { from, .. } => from.0,
            LegStart::InSync | LegStart::Failed | LegStart::Missing | LegStart::Unused => DONE,
        };
        let mut superblock = Superblock {
            unknown_compat: 0,
            devices: self.devices as u32,
            position: leg as u32,
            events: self.events,
            failed: self.failed(),
            recovery_offset,
            resync_offset: self.resync_from.map_or(DONE, |from| from.0),
            geometry: self.geometry,
            extension: Some(Extension {
                unknown_flags: 0,
                reshape: None,
                reshape_position: DONE,
                new_geometry: self.geometry,
                delta_disks: 0,
                array_sectors: lengths.array.0,
                data_offset: data_offset.0,
                new_data_offset: new_data_offset.0,
                device_sectors: lengths.device.0,
                incompat: 0,
            }),
        };
        if let Some(reshape) = &self.reshape {
            reshape.write(&mut superblock);
        }
        superblock
    }
}

/// Lays a set out on so many legs of this length; none where the word for the layout means nothing.
fn layout_of(geometry: Geometry, legs: usize, device: Sectors) -> Option<Layout> {
    let Geometry { level, layout, chunk_sectors } = geometry;
    let chunk = Sectors(chunk_sectors.into());
    match level {
        0 => Some(Layout::Raid0 { legs, chunk, device }),
        1 => Some(Layout::Raid1 { legs, device }),
        10 => Raid10::new(layout, legs, chunk, device).map(Layout::Raid10),
        _ => Parity::new(level, layout, legs, chunk, device).map(Layout::Parity),
    }
}

fn lengths_of(raid10: &Raid10) -> Lengths {
    Lengths { device: raid10.device_len(), array: raid10.len() }
}

/// Tells whether a leg has no data in a layout of md's for sets with parity (`only_parity`).
fn is_parity_alone(layout: u32, leg: usize, devices: usize, parities: usize) -> bool {
    match layout {
        // Parity first, and parity last.
        4 => leg < parities,
        5 => leg + parities >= devices,
        // The last leg has the Q of a RAID-5 on the others.
        16..=19 => leg + 1 == devices,
        _ => false,
    }
}

fn refuse_run(least: usize, found: usize) -> CtrError {
    let detail = format!("expected {least} legs in sync at least, found {found}");
    CtrError::new(RUN).detail(detail)
}

/// Returns where a resync begins; nowhere with `nosync`.
fn resync_from<D>(line: &Line<D>, at: u64) -> Option<Sector> {
    let wanted = line.params.synchronize != Synchronize::Nothing && at != DONE;
    wanted.then_some(Sector(at))
}
