//! Reshapes: what a line asks for is set up, and what a superblock tells of goes on.
//!
//! The line that asks for a reshape only sets it up: the set is used as it was. The next line lets it
//! run. A raid1 is only given legs, or loses some: nothing moves.

use sim_core::{CtrError, Errno, Sector, Sectors};

use super::analysis::{Analysis, Member};
use super::{RUN, Start, layout_of};
use crate::lines::raid::{Family, Line};
use crate::raid::layout::{Format, Layout, Moving, Raid10};
use crate::raid::superblock::{Extension, Geometry, Reshape, Superblock};

/// A reshape that a set starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshaping {
    /// How the set was made before.
    pub old: Geometry,
    /// How many legs it had.
    pub old_devices: usize,
    /// Which way it goes.
    pub way: Reshape,
    /// How far it is.
    pub position: Sector,
    /// The line asks for it: the next one lets it run.
    pub waits: bool,
    /// How long the set is said to be meanwhile.
    pub array: Sectors,
    /// How much of each leg is in use.
    pub device: Sectors,
}

impl Reshaping {
    /// Returns what the freshest superblock says of one.
    pub(super) fn found(superblock: &Superblock, extension: &Extension) -> Option<Reshaping> {
        let way = extension.reshape?;
        let room = match way {
            // As the kernel counts: the room is in use, too.
            Reshape::Forwards => extension.data_offset.abs_diff(extension.new_data_offset),
            Reshape::Backwards => 0,
        };
        let old = i64::from(superblock.devices) - i64::from(extension.delta_disks);
        Some(Reshaping {
            old: superblock.geometry,
            old_devices: usize::try_from(old).unwrap_or(0),
            way,
            position: Sector(extension.reshape_position),
            waits: false,
            array: Sectors(extension.array_sectors),
            device: Sectors(extension.device_sectors.saturating_sub(room)),
        })
    }

    fn old_layout(&self, offset: Sectors) -> Option<Layout> {
        layout_of(self.old, self.old_devices, self.device).map(|layout| layout.at(offset))
    }

    /// Writes what superblocks say of it while it is not over.
    pub(super) fn write(&self, superblock: &mut Superblock) {
        superblock.geometry = self.old;
        let Some(extension) = &mut superblock.extension else { return };
        extension.reshape = Some(self.way);
        extension.reshape_position = self.position.0;
        extension.delta_disks = superblock.devices as i32 - self.old_devices as i32;
        extension.array_sectors = self.array.0;
        extension.device_sectors = match self.way {
            Reshape::Forwards => self.device.0 + extension.data_offset,
            Reshape::Backwards => self.device.0,
        };
    }
}

impl Member {
    /// Tells whether it is there, and in sync.
    pub(super) fn is_good(&self) -> bool {
        self.has_data && self.in_sync && !self.faulty
    }
}

impl<D> Analysis<'_, D> {
    /// Refuses a line that asks for another reshape than the one that there is. (The kernel refuses
    /// the line that asked for this one too, and then nothing that was cut off goes on by itself.)
    pub(super) fn check_reshaping(
        &self,
        found: &Superblock,
        log: &mut Vec<String>,
    ) -> Result<(), CtrError> {
        let asked = self.line.params.delta_disks;
        let going = found.extension.as_ref().map_or(0, |extension| extension.delta_disks);
        if asked.is_some_and(|asked| asked != going) {
            log.push("Reshape requested but raid set is still reshaping".to_owned());
            return Err(CtrError::new(super::analysis::INVALID));
        }
        Ok(())
    }

    /// Says why a leg is not rebuilt while data moves.
    pub(super) fn refuse_rebuild(&self) -> Option<String> {
        let at = self.reshape.filter(|_| !self.line.params.rebuild.is_empty())?.position;
        Some(format!(
            "'rebuild' specified while raid set is being reshaped (reshape_position={at})"
        ))
    }

    /// Goes on with a reshape that the superblocks tell of.
    pub(super) fn go_on(&self, going: Reshaping, mut start: Start) -> Result<Start, CtrError> {
        if self.line.params.journal_dev.is_some() {
            let why = "Can't reshape a journaled raid4/5/6 set";
            return Err(CtrError::new(why).errno(Errno::PERM));
        }
        if self.wanted.device != going.device {
            let why = "Can't resize a reshaping raid set";
            let detail = format!("expected legs of {}, found {}", going.device, self.wanted.device);
            return Err(CtrError::new(why).detail(detail).errno(Errno::PERM));
        }
        start.reshape = Some(going);
        start.resync_from = None;
        start.write_superblocks = true;
        start.data_offsets = Some((Sectors(self.data_offset), Sectors(self.new_data_offset)));
        start.moving().map(|_| start)
    }

    /// Sets up the reshape that the line asks for, with room.
    pub(super) fn set_up(
        &self,
        mut start: Start,
        offset: Sectors,
        log: &mut Vec<String>,
    ) -> Result<Start, CtrError> {
        if self.line.params.journal_dev.is_some() {
            let why = "Can't reshape a journaled raid4/5/6 set";
            return Err(CtrError::new(why).errno(Errno::PERM));
        }
        let delta = self.line.params.delta_disks.unwrap_or(0);
        let mut new = self.asked;
        self.check_raid10()?;
        if delta != 0 && new.layout != self.geometry.layout {
            log.push(format!("Ignoring invalid layout change with delta_disks={delta}"));
            new.layout = self.geometry.layout;
        }
        let (way, offsets) = match delta {
            1.. => (Reshape::Forwards, (offset, Sectors::ZERO)),
            0 if self.data_offset != 0 => {
                (Reshape::Forwards, (Sectors(self.data_offset), Sectors::ZERO))
            }
            ..=0 => (Reshape::Backwards, (Sectors::ZERO, offset)),
        };
        let is_whole = |nr: usize| self.members.get(nr).is_some_and(|member| member.is_good());
        if !(0..self.devices).all(is_whole) {
            let why = "Can't reshape degraded raid set";
            return Err(CtrError::new(why).errno(Errno::PERM));
        }
        let after = self.devices as i64 + i64::from(delta);
        let legs = after.max(self.devices as i64);
        if self.members.len() as i64 != legs {
            let detail = format!("expected {legs} legs, found {}", self.members.len());
            return Err(CtrError::new("Reshape not supported").detail(detail));
        }
        start.geometry = new;
        start.devices = usize::try_from(after).unwrap_or(0);
        start.data_offsets = Some(offsets);
        start.resync_from = None;
        start.write_superblocks = true;
        let array = if delta < 0 { self.wanted.array } else { self.array };
        let mut asked = Reshaping {
            old: self.geometry,
            old_devices: self.devices,
            way,
            position: Sector::ZERO,
            waits: true,
            array,
            device: self.wanted.device,
        };
        start.reshape = Some(asked);
        let moving = start.moving()?;
        let room = moving.least_room();
        if offset < room {
            let way = if way == Reshape::Forwards { "forward" } else { "backward" };
            let why = format!("No space for {way} reshape");
            let detail = format!("expected {room} sectors of room, found {offset}");
            return Err(CtrError::new(why).detail(detail).errno(Errno::NOSPC));
        }
        if delta >= 0 && moving.new.len() < moving.old.len() {
            let detail = format!("expected {} sectors at least", moving.old.len());
            return Err(CtrError::new("Reshape not supported").detail(detail));
        }
        asked.position = moving.start();
        start.reshape = Some(asked);
        Ok(start)
    }
}

impl<D> Analysis<'_, D> {
    /// Refuses what raid10 cannot become.
    fn check_raid10(&self) -> Result<(), CtrError> {
        if self.line.kind.family() != Family::Raid10 {
            return Ok(());
        }
        let [old, new] = [self.geometry, self.asked].map(|geometry| Raid10::parse(geometry.layout));
        let chunk = u64::from(self.asked.chunk_sectors);
        let why = match (old, new) {
            (Some((Format::Far, ..)), _) => "far copies do not move",
            (Some((_, old, _)), Some((_, new, _))) if old != new => {
                "expected as many copies as there are"
            }
            _ if !self.array.0.is_multiple_of(chunk) => "expected the set to have whole chunks",
            _ => return Ok(()),
        };
        Err(CtrError::new("Reshape check failed").detail(why))
    }

    /// Adds the legs that a line has more than a raid1: they are rebuilt. One that is there already
    /// was told by this very line.
    pub(super) fn add_legs(&mut self, mut start: Start, delta: i32) -> Result<Start, CtrError> {
        let is_told = self.members.iter().all(|member| !member.is_new);
        if is_told && self.devices == self.members.len() {
            return Ok(start);
        }
        let is_whole = |nr: usize| self.members.get(nr).is_some_and(|member| member.is_good());
        if delta < 0 || !(0..self.devices).all(is_whole) {
            let why = "Can't reshape degraded raid set";
            return Err(CtrError::new(why).errno(Errno::PERM));
        }
        let legs = self.devices as i64 + i64::from(delta);
        if self.members.len() as i64 != legs {
            let detail = format!("expected {legs} legs, found {}", self.members.len());
            return Err(CtrError::new("Reshape not supported").detail(detail));
        }
        for member in self.members.iter_mut().filter(|member| member.is_new) {
            (member.in_sync, member.recovery) = (false, 0);
        }
        start.devices = self.members.len();
        start.resync_from = None;
        start.write_superblocks = true;
        Ok(start)
    }
}

impl Start {
    /// Returns what moves where.
    pub(in crate::raid) fn moving(&self) -> Result<Moving, CtrError> {
        let refuse = |detail: &str| CtrError::new(RUN).detail(detail.to_owned());
        let reshape = self.reshape.ok_or_else(|| refuse("expected a reshape"))?;
        let (before, after) = self.data_offsets.unwrap_or_default();
        let old = reshape.old_layout(before);
        let new = self.layout().map(|layout| layout.at(after));
        let (old, new) = old.zip(new).ok_or_else(|| refuse("it knows no such layout"))?;
        let moving = Moving { old, new, way: reshape.way };
        if old.raid10().is_some() && new.len() < old.len() {
            return Err(refuse("the set would be shorter than what moves"));
        }
        match reshape.waits || moving.fits(reshape.position) {
            true => Ok(moving),
            false => Err(refuse("the position of the reshape is in the middle of a stripe")),
        }
    }

    /// Refuses a reshape for which legs lack room, or that lacks legs.
    pub(super) fn check_reshape<D>(
        &self,
        line: &Line<D>,
        sizes: impl Iterator<Item = Option<Sectors>>,
    ) -> Result<(), CtrError> {
        let Some(reshape) = self.reshape else { return Ok(()) };
        let moving = self.moving()?;
        let in_sync = |leg: usize| self.legs.get(leg) == Some(&super::LegStart::InSync);
        if !moving.old.has_all(|leg| !in_sync(leg)) {
            let legs = moving.old.legs();
            let least = moving.old.parity().map_or(legs, |parity| parity.data_legs());
            let count = (0..legs).filter(|leg| in_sync(*leg)).count();
            return Err(super::refuse_run(least, count).errno(Errno::IO));
        }
        let needed = reshape.device + moving.old.offset().max(moving.new.offset());
        match sizes.flatten().min() {
            Some(size) if size < needed => {
                let way = if reshape.way == Reshape::Forwards { "forward" } else { "backward" };
                let error = CtrError::new(format!("No space for {way} reshape"));
                let detail = format!(
                    "expected legs of {needed} sectors at least, found {size}, of {}",
                    line.kind
                );
                Err(error.detail(detail).errno(Errno::NOSPC))
            }
            _ => Ok(()),
        }
    }
}
