//! What the superblocks of a set say, in the order of the kernel's checks and with its texts.

use sim_core::{CtrError, Sectors};

use super::reshape::Reshaping;
use super::{BitmapStart, Candidate, Found, Start, resync_from};
use crate::lines::raid::{Family, Kind, Lengths, Line, Synchronize};
use crate::raid::layout::{Format, Raid10};
use crate::raid::superblock::{DONE, Geometry, Superblock};

pub(super) const INVALID: &str = "Unable to assemble array: Invalid superblocks";

/// A leg while superblocks are looked at.
pub(super) struct Member {
    pub(super) has_data: bool,
    /// Whether there is a metadata device.
    pub(super) has_meta: bool,
    /// What it holds; none where it is new, or is to be rebuilt.
    superblock: Option<Superblock>,
    /// Whether it is new, or to be rebuilt.
    first_use: bool,
    /// Its metadata device was blank.
    pub(super) is_new: bool,
    pub(super) in_sync: bool,
    pub(super) recovery: u64,
    pub(super) faulty: bool,
    /// The events of one that had failed.
    pub(super) back: Option<u64>,
    /// How much of it is in use.
    len: Sectors,
}

/// What is known of a set, and of its legs.
pub(super) struct Analysis<'a, D> {
    pub(super) line: &'a Line<D>,
    /// What the line asks for.
    pub(super) wanted: Lengths,
    pub(super) asked: Geometry,
    pub(super) members: Vec<Member>,
    /// By the freshest superblock; by the line before there is one.
    pub(super) geometry: Geometry,
    pub(super) devices: usize,
    pub(super) array: Sectors,
    resync_offset: u64,
    events: u64,
    is_new: bool,
    has_bitmap: bool,
    pub(super) data_offset: u64,
    pub(super) new_data_offset: u64,
    /// The reshape that goes on.
    pub(super) reshape: Option<Reshaping>,
}

impl<'a, D> Analysis<'a, D> {
    pub(super) fn new(
        line: &'a Line<D>,
        wanted: Lengths,
        candidates: &[Candidate],
    ) -> Analysis<'a, D> {
        let family = line.kind.family();
        let asked = Geometry {
            level: family.level(),
            layout: line.layout_word(),
            chunk_sectors: line.chunk.0 as u32,
        };
        let member = |(nr, candidate): (usize, &Candidate)| {
            let rebuild = line.params.rebuild.contains(&nr);
            let superblock = match &candidate.found {
                Found::Superblock(superblock) if !rebuild => Some(superblock.clone()),
                _ => None,
            };
            let unreadable = candidate.found == Found::Unreadable;
            Member {
                has_data: candidate.size.is_some(),
                has_meta: candidate.found != Found::NoDevice,
                first_use: superblock.is_none()
                    && !matches!(candidate.found, Found::NoDevice | Found::Unreadable),
                superblock,
                is_new: candidate.found == Found::Blank,
                in_sync: !rebuild,
                recovery: if rebuild { 0 } else { DONE },
                faulty: unreadable,
                back: None,
                len: wanted.device,
            }
        };
        Analysis {
            line,
            wanted,
            asked,
            members: candidates.iter().enumerate().map(member).collect(),
            geometry: asked,
            devices: line.legs.len(),
            array: wanted.array,
            resync_offset: DONE,
            events: 0,
            is_new: false,
            has_bitmap: false,
            data_offset: 0,
            new_data_offset: 0,
            reshape: None,
        }
    }

    /// Looks at the superblocks, the freshest one first.
    pub(super) fn analyse(&mut self, log: &mut Vec<String>) -> Result<(), CtrError> {
        for (nr, member) in self.members.iter().enumerate() {
            if member.has_data && member.faulty {
                log.push(format!("Failed to read superblock of device at position {nr}"));
            }
        }
        // md's raid0 looks at none.
        if self.line.kind.family() == Family::Raid0 {
            return Ok(());
        }
        if self.line.params.synchronize == Synchronize::Everything {
            // As newer kernels do. That of 6.12 forgets what it meant to do: it neither
            // synchronizes anything, nor has it a bitmap.
            self.is_new = self.members.iter().any(|member| member.has_data && member.has_meta);
            self.has_bitmap = self.is_new;
            self.events = self.is_new.into();
            return Ok(());
        }
        let Some(freshest) = self.freshest() else { return Ok(()) };
        self.believe(freshest, log)?;
        self.validate(freshest)?;
        if !self.is_redundant() {
            return Err(CtrError::new("Insufficient redundancy to activate array"));
        }
        (0..self.members.len()).filter(|nr| *nr != freshest).try_for_each(|nr| self.validate(nr))
    }

    /// Returns the leg whose superblock is believed: that with the most events, and the first of them that
    /// knows of the most legs that have failed: one that was cut off as the set started may have as many
    /// as those that went on without it. (The kernel takes the first.) A new one has none.
    fn freshest(&self) -> Option<usize> {
        let readable = |member: &&Member| member.has_data && member.has_meta && !member.faulty;
        let events = |member: &Member| {
            member.superblock.as_ref().map_or((0, 0), |sb| (sb.events, sb.failed.count()))
        };
        let members = self.members.iter().enumerate().filter(|(_, member)| readable(member));
        // The first that has any superblock would lose to a new one before it, if it had no
        // events; none has.
        members.rev().max_by_key(|(_, member)| events(member)).map(|(nr, _)| nr)
    }

    /// Takes over what the freshest superblock says of the set.
    fn believe(&mut self, freshest: usize, log: &mut Vec<String>) -> Result<(), CtrError> {
        let superblock = self.members[freshest].superblock.clone();
        self.events = superblock.as_ref().map_or(1, |superblock| superblock.events.max(1));
        if let Some(superblock) = &superblock {
            self.geometry = superblock.geometry;
            self.devices = superblock.devices as usize;
            match &superblock.extension {
                Some(extension)
                    if extension.reshape.is_some()
                        && !matches!(self.geometry.level, 4..=6 | 10) =>
                {
                    let detail = "the set is being reshaped";
                    return Err(CtrError::new("Reshape not supported").detail(detail));
                }
                Some(extension) => {
                    self.array = Sectors(extension.array_sectors);
                    // Where a reshape was cut off at its end, others have the offsets before it.
                    self.data_offset = extension.data_offset;
                    self.new_data_offset = extension.new_data_offset;
                    self.reshape = Reshaping::found(superblock, extension);
                    if self.reshape.is_some() {
                        self.geometry = extension.new_geometry;
                        self.check_reshaping(superblock, log)?;
                    }
                }
                None => self.check_old(log)?,
            }
            self.resync_offset = match self.line.params.synchronize {
                Synchronize::Nothing => DONE,
                _ => superblock.resync_offset,
            };
        }
        self.check_new(log)?;
        self.place(superblock.as_ref(), log)
    }

    /// Refuses what a superblock without the extension has no words for.
    fn check_old(&self, log: &mut Vec<String>) -> Result<(), CtrError> {
        let (now, asked) = (self.geometry, self.asked);
        let kinds = Kind::of(now.level, now.layout).zip(Kind::of(asked.level, asked.layout));
        const METADATA: &str = "not yet supported by metadata.";
        if now.level != asked.level {
            log.push(match kinds {
                Some((now, asked)) => format!(
                    "Takeover raid sets from {now} to {asked} {METADATA} (raid level change)"
                ),
                None => format!("Takeover raid sets {METADATA} (raid level change)"),
            });
            return Err(CtrError::new(INVALID));
        }
        if self.asks_for_reshape() {
            log.push(format!("Reshaping raid sets {METADATA} (raid layout change keeping level)"));
            self.log_changes(kinds, log);
            return Err(CtrError::new(INVALID));
        }
        log.push(
            "Discovered old metadata format; upgrading to extended metadata format".to_owned(),
        );
        Ok(())
    }

    /// Logs what a line asks to change.
    fn log_changes(&self, kinds: Option<(Kind, Kind)>, log: &mut Vec<String>) {
        let (now, asked) = (self.geometry, self.asked);
        if now.layout != asked.layout {
            log.push(match kinds {
                Some((now, asked)) => format!("\t current layout {now} vs new layout {asked}"),
                None => {
                    format!("\t current layout {:#X} vs new layout {:#X}", now.layout, asked.layout)
                }
            });
        }
        if now.chunk_sectors != asked.chunk_sectors {
            let (now, asked) = (now.chunk_sectors, asked.chunk_sectors);
            log.push(format!("\t current stripe sectors {now} vs new stripe sectors {asked}"));
        }
        if let Some(delta) = self.line.params.delta_disks {
            let (now, after) = (self.devices, self.devices as i64 + i64::from(delta));
            log.push(format!("\t current {now} disks vs new {after} disks"));
        }
        if now.level == Family::Raid10.level() {
            for (which, geometry) in [("Old", now), ("New", asked)] {
                let (format, copies) = match Raid10::parse(geometry.layout) {
                    Some((Format::Near, copies, _)) => ("near", copies),
                    Some((Format::Far, copies, _)) => ("far", copies),
                    Some((Format::Offset, copies, _)) => ("offset", copies),
                    None => ("unknown", 0),
                };
                log.push(format!("\t {which} layout: {format} w/ {copies} copies"));
            }
        }
    }

    /// Refuses new legs that nobody asked for, and finds out whether the set is new.
    fn check_new(&mut self, log: &mut Vec<String>) -> Result<(), CtrError> {
        let members = || self.members.iter().enumerate().filter(|(_, member)| member.has_data);
        let new = members().filter(|(_, member)| member.first_use).count();
        let rebuilt: Vec<usize> =
            members().filter(|(_, member)| !member.in_sync).map(|(nr, _)| nr).collect();
        for nr in &rebuilt {
            log.push(format!("Device {nr} specified for rebuild; clearing superblock"));
        }
        if self.line.params.journal_dev.is_some() {
            // It is taken for a leg without a place, by Linux 6.12 too, at each start.
            log.push("Device -1 specified for rebuild; clearing superblock".to_owned());
        }
        let rebuilt_and_new = rebuilt.iter().filter(|nr| self.members[**nr].first_use).count();
        let added = self.line.params.delta_disks.unwrap_or(0);
        let why = match rebuilt.len() {
            _ if new == self.members.len() => {
                log.push("Superblocks created for new raid set".to_owned());
                self.is_new = true;
                None
            }
            0 if new != 0 && new as i64 != i64::from(added) => Some(
                "New device injected into existing raid set without 'delta_disks' or 'rebuild' \
                 parameter specified"
                    .to_owned(),
            ),
            0 => None,
            rebuilds if new != 0 && new != rebuilds => Some(format!(
                "{rebuilds} 'rebuild' devices cannot be injected into a raid set with {new} other \
                 first-time devices"
            )),
            rebuilds if rebuilt_and_new != 0 && rebuilt_and_new != rebuilds => {
                let s = if new > 1 { "s" } else { "" };
                Some(format!("new device{s} provided without 'rebuild'"))
            }
            _ => self.refuse_rebuild(),
        };
        match why {
            None => Ok(()),
            Some(why) => {
                log.push(why);
                Err(CtrError::new(INVALID))
            }
        }
    }

    /// Holds the places of the legs to those that they had, and finds those that had failed.
    fn place(
        &mut self,
        freshest: Option<&Superblock>,
        log: &mut Vec<String>,
    ) -> Result<(), CtrError> {
        let failed = freshest.map(|superblock| superblock.failed).unwrap_or_default();
        let near = Raid10::parse(self.geometry.layout)
            .filter(|(format, ..)| self.geometry.level == 10 && *format == Format::Near);
        let (devices, legs, copies) = (self.devices, self.members.len(), self.line.copies());
        for (nr, member) in self.members.iter_mut().enumerate().filter(|(_, m)| m.has_data) {
            let Some(superblock) = &member.superblock else { continue };
            let Ok(position) = usize::try_from(superblock.position as i32) else { continue };
            if position != nr {
                match near {
                    Some((_, near, _)) if devices % near != 0 || legs % copies != 0 => {
                        let why = "Cannot change raid10 near set to odd # of devices!";
                        return Err(CtrError::new(why));
                    }
                    None if self.line.kind.family() != Family::Raid1 => {
                        let why = "Cannot change device positions in raid set";
                        let detail = format!("expected leg {position} as leg {nr}");
                        return Err(CtrError::new(why).detail(detail));
                    }
                    Some(_) | None => {}
                }
                log.push(format!("raid device #{position} now at position #{nr}"));
            }
            member.faulty |= failed.has(position);
        }
        Ok(())
    }

    /// Takes over what a leg's own superblock says of it.
    fn validate(&mut self, nr: usize) -> Result<(), CtrError> {
        let member = &mut self.members[nr];
        if !member.has_data || !member.has_meta || member.superblock.is_none() && member.faulty {
            return Ok(());
        }
        self.has_bitmap = true;
        if let Some(superblock) = &member.superblock {
            if superblock.unknown_compat != 0 {
                let why = "Unknown flag(s) in compatible feature flags";
                return Err(CtrError::new(format!("Unable to assemble array: {why}")));
            }
            if let Some(extension) = &superblock.extension {
                if extension.incompat != 0 {
                    let why = "No incompatible feature flags supported yet";
                    return Err(CtrError::new(format!("Unable to assemble array: {why}")));
                }
                member.len = Sectors(extension.device_sectors);
            }
            member.recovery = superblock.recovery_offset;
            member.in_sync = superblock.recovery_offset == DONE;
        }
        if std::mem::replace(&mut member.faulty, false) {
            member.recovery = 0;
            member.in_sync = false;
            member.back = member.superblock.as_ref().map(|superblock| superblock.events);
        }
        Ok(())
    }

    /// Tells whether the kernel thinks that enough legs are left. It asks when it has looked at
    /// the freshest superblock alone, takes all other legs for good, and a new set for whole.
    fn is_redundant(&self) -> bool {
        let lost = |member: &Member| !member.in_sync || !member.has_meta;
        // The freshest is no more taken for new once it was looked at.
        let freshest = self.freshest();
        let is_new = |nr: usize| self.members[nr].first_use && Some(nr) != freshest;
        let all = self.members.iter().enumerate();
        let count = all.filter(|(nr, member)| !is_new(*nr) && lost(member)).count();
        let parities = self.line.kind.family().parities();
        if parities > 0 {
            return count <= parities;
        }
        let raid10 = Raid10::parse(self.asked.layout).filter(|_| self.geometry.level == 10);
        let Some((format, copies, _)) = raid10 else { return count < self.devices };
        if count < copies {
            return true;
        }
        let legs = self.members.len().min(self.devices);
        let group = (legs / copies).max(1);
        let last = (legs / group - 1) * group;
        let mut in_group = 0;
        self.members.iter().take(legs).enumerate().all(|(nr, member)| {
            if nr % copies == 0 && (format == Format::Near || nr <= last) {
                in_group = 0;
            }
            in_group += usize::from(lost(member));
            in_group < copies
        })
    }

    /// Returns how much of a leg is in use; none without any leg.
    pub(super) fn leg_len(&self) -> Option<Sectors> {
        let there = self.members.iter().filter(|member| member.has_data);
        there.map(|member| member.len).find(|len| !len.is_zero())
    }

    /// Tells whether the kernel takes the line for one that asks for a reshape.
    fn asks_for_reshape(&self) -> bool {
        let delta = self.line.params.delta_disks;
        let change = delta.is_some()
            || self.asked.layout != self.geometry.layout
            || self.asked.chunk_sectors != self.geometry.chunk_sectors;
        match self.geometry.level {
            0 => false,
            1 => delta.is_some() || !change && self.devices != self.members.len(),
            10 => {
                let far = Raid10::parse(self.asked.layout)
                    .is_some_and(|(format, ..)| format == Format::Far);
                change && !far && delta.unwrap_or(0) >= 0
            }
            _ => change,
        }
    }

    /// Decides what is done with the set.
    pub(super) fn plan(
        &mut self,
        leg_len: Sectors,
        log: &mut Vec<String>,
    ) -> Result<Start, CtrError> {
        let offset = self.line.params.data_offset.unwrap_or_default();
        let grows = self.wanted.device.0 > leg_len.0.saturating_sub(offset.0);
        let mut start = self.as_recorded();
        if self.line.kind.family() == Family::Raid0 {
            return Ok(start);
        }
        if self.is_new {
            start.geometry = self.asked;
            start.devices = self.members.len();
            start.resync_from = resync_from(self.line, 0);
            start.write_superblocks = true;
            start.bitmap = BitmapStart::New;
            return Ok(start);
        }
        let recovering = self.resync_offset < self.wanted.device.0;
        if self.geometry.level != self.asked.level && self.reshape.is_none() {
            self.take_over(recovering)?;
            start.geometry = self.asked;
            start.devices = self.members.len();
            start.resync_from = None;
            start.write_superblocks = true;
            return Ok(start);
        }
        if let Some(going) = self.reshape {
            return self.go_on(going, start);
        }
        if !recovering && self.asks_for_reshape() {
            let raid1 = self.geometry.level == 1;
            if !raid1 && !offset.is_zero() {
                return self.set_up(start, offset, log);
            }
            if let Some(delta) = self.line.params.delta_disks.filter(|_| raid1) {
                return self.add_legs(start, delta);
            }
            if !offset.is_zero() {
                return Err(CtrError::new("Reshape not supported"));
            }
            if raid1 {
                start.devices = self.members.len();
                start.resync_from = None;
            }
            // What raid10 would need space for is forgotten.
        } else if !self.line.params.rebuild.is_empty() {
            start.write_superblocks = true;
            start.resync_from = None;
        } else if grows {
            let old = self.line.lengths(self.array).map_err(CtrError::new)?;
            start.grown = Some(start.lengths);
            start.lengths = old;
            start.resync_from = resync_from(self.line, self.resync_offset.min(old.device.0));
        } else {
            start.write_superblocks = self.array > self.wanted.array;
        }
        Ok(start)
    }

    fn as_recorded(&self) -> Start {
        let has_meta = self.members.iter().any(|member| member.has_data && member.has_meta);
        let level = self.line.kind.family();
        let offset = self.line.params.data_offset.map(|offset| match offset {
            Sectors::ZERO => (Sectors::ZERO, Sectors::ZERO),
            offset if self.data_offset == 0 => (Sectors::ZERO, offset),
            _ => (Sectors(self.data_offset), Sectors::ZERO),
        });
        let reshapable = level.parities() > 0
            || level == Family::Raid10
                && Raid10::parse(self.geometry.layout).is_some_and(|(f, ..)| f != Format::Far);
        Start {
            geometry: self.geometry,
            devices: self.devices,
            lengths: self.wanted,
            grown: None,
            reshape: None,
            legs: Vec::new(),
            resync_from: resync_from(self.line, self.resync_offset),
            events: self.events,
            bitmap: match has_meta && self.has_bitmap {
                true => BitmapStart::Load,
                false => BitmapStart::None,
            },
            write_superblocks: offset.is_some(),
            data_offsets: match offset {
                None if !reshapable => Some((Sectors::ZERO, Sectors::ZERO)),
                None => Some((Sectors(self.data_offset), Sectors(self.new_data_offset))),
                offset => offset,
            },
        }
    }
}
