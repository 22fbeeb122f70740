//! The parameters of a `raid` line: those after the chunk size, in whatever order.

use std::collections::BTreeSet;
use std::fmt;

use sim_core::{Arg, CtrError, Errno, Sectors, Words};

use super::kind::{Family, Kind};
use crate::lines::words::Devices;
use crate::raid::layout::Format;

/// The most legs: md's own limit.
pub const MAX_LEGS: usize = 253;

/// The most writes that a leg may be behind with write-behind: half of what md counts to.
const MAX_WRITE_BEHIND: i32 = 8191;

/// What md counts writes of a chunk in.
const COUNTER_MAX: i32 = 16383;

/// The least space for a reshape out of place: 16 KiB.
const LEAST_RESHAPE_SPACE: i32 = 32;

/// What `daemon_sleep` is where the line says 0: five seconds, in ticks of 4 ms.
const DAEMON_SLEEP: u32 = 1250;

const NUMBER: &str = "Bad numerical argument given in raid params";

/// The least length of a journal's device: 4 MiB.
const LEAST_JOURNAL: Sectors = Sectors(8192);

/// What is said of the first synchronization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronize {
    /// Nothing: what the superblocks say, all of a new set.
    #[default]
    AsRecorded,
    /// All of it, whatever the superblocks say (`sync`).
    Everything,
    /// Nothing of it (`nosync`).
    Nothing,
}

/// How a journal is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalMode {
    /// Data is in its place before a write ends.
    WriteThrough,
    /// Data is in the journal before a write ends.
    WriteBack,
}

/// The parameters; none or empty where the line says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params<D> {
    /// `sync`, `nosync`, or neither.
    pub synchronize: Synchronize,
    /// The legs to be rebuilt from others.
    pub rebuild: BTreeSet<usize>,
    /// How long a region is clean before its bit is cleared. In ticks of the kernel's clock, of
    /// which its documentation says that they are milliseconds: 4 ms each.
    pub daemon_sleep: Option<u32>,
    /// How fast a resync goes on beside other I/O, in KiB a second and leg; 0 for md's own limit.
    pub min_recovery_rate: Option<u32>,
    /// How fast a resync is at most, in KiB a second and leg; 0 for md's own limit.
    pub max_recovery_rate: Option<u32>,
    /// The legs that are read only where no other can be.
    pub write_mostly: BTreeSet<usize>,
    /// How many writes may be on their way to such a leg when they end: half the number that the
    /// line had, and so it is printed.
    pub max_write_behind: Option<u32>,
    /// The length of the stripe cache.
    pub stripe_cache: Option<u32>,
    /// What a bit of the write-intent bitmap stands for.
    pub region_size: Option<Sectors>,
    /// How many copies raid10 keeps.
    pub raid10_copies: Option<usize>,
    /// Where raid10 keeps them.
    pub raid10_format: Option<Format>,
    /// Far copies go round all legs, not round sets of them. Counted in a printed line, but not
    /// printed.
    pub raid10_use_near_sets: bool,
    /// How many legs a reshape adds, or takes away.
    pub delta_disks: Option<i32>,
    /// Where the data of a reshape goes on each leg.
    pub data_offset: Option<Sectors>,
    /// The device of the journal.
    pub journal_dev: Option<D>,
    /// How it is used.
    pub journal_mode: Option<JournalMode>,
}

impl<D> Default for Params<D> {
    fn default() -> Params<D> {
        Params {
            synchronize: Synchronize::default(),
            rebuild: BTreeSet::new(),
            daemon_sleep: None,
            min_recovery_rate: None,
            max_recovery_rate: None,
            write_mostly: BTreeSet::new(),
            max_write_behind: None,
            stripe_cache: None,
            region_size: None,
            raid10_copies: None,
            raid10_format: None,
            raid10_use_near_sets: false,
            delta_disks: None,
            data_offset: None,
            journal_dev: None,
            journal_mode: None,
        }
    }
}

/// Parameters while they are read.
pub(super) struct Reading<'a, D> {
    pub(super) params: Params<D>,
    kind: Kind,
    legs: usize,
    sync: bool,
    nosync: bool,
    /// How many times `write_mostly` is there.
    write_mostly: usize,
    /// The word of `region_size`.
    region: Option<Arg<'a>>,
}

impl<'a, D> Reading<'a, D> {
    pub(super) fn new(kind: Kind, legs: usize) -> Reading<'a, D> {
        let params = Params::default();
        Reading { params, kind, legs, sync: false, nosync: false, write_mostly: 0, region: None }
    }

    /// Reads so many words; the last may be the second of a pair and lie past them.
    pub(super) fn read(
        &mut self,
        words: &mut Words<'a>,
        count: usize,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<(), CtrError> {
        let end = words.count().saturating_sub(words.left()).saturating_add(count);
        while words.count() - words.left() < end {
            let key = words.next("Not enough raid parameters given")?;
            if self.read_flag(key)? {
                continue;
            }
            let value = words.next("Wrong number of raid parameters given")?;
            if !self.read_word(key, value, devices)? {
                self.read_number(key, value, devices)?;
            }
        }
        Ok(())
    }

    fn read_flag(&mut self, key: Arg<'_>) -> Result<bool, CtrError> {
        let (flag, again) = match lower(key).as_str() {
            "nosync" => (&mut self.nosync, "Only one 'nosync' argument allowed"),
            "sync" => (&mut self.sync, "Only one 'sync' argument allowed"),
            "raid10_use_near_sets" => (
                &mut self.params.raid10_use_near_sets,
                "Only one 'raid10_use_new_sets' argument allowed",
            ),
            _ => return Ok(false),
        };
        match std::mem::replace(flag, true) {
            false => Ok(true),
            true => Err(key.error("it once", again)),
        }
    }

    /// Reads the pairs whose second word is no number.
    fn read_word(
        &mut self,
        key: Arg<'_>,
        value: Arg<'_>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<bool, CtrError> {
        match lower(key).as_str() {
            "raid10_format" => {
                once(key, &self.params.raid10_format, "'raid10_format' argument pair")?;
                if self.kind.family() != Family::Raid10 {
                    let why = "'raid10_format' is an invalid parameter for this RAID type";
                    return Err(key.error("a parameter of this type", why));
                }
                let format = match lower(value).as_str() {
                    "near" => Format::Near,
                    "far" => Format::Far,
                    "offset" => Format::Offset,
                    _ => {
                        let why = "Invalid 'raid10_format' value given";
                        return Err(value.error("`near`, `far` or `offset`", why));
                    }
                };
                self.params.raid10_format = Some(format);
            }
            "journal_dev" => {
                once(key, &self.params.journal_dev, "raid4/5/6 set journaling device")?;
                if !matches!(self.kind.family(), Family::Raid5 | Family::Raid6) {
                    let why = "'journal_dev' is an invalid parameter for this RAID type";
                    return Err(key.error("a parameter of this type", why));
                }
                let device = devices.open(value, "raid4/5/6 journal device lookup failure")?;
                if devices.facts(&device).is_some_and(|facts| facts.size < LEAST_JOURNAL) {
                    let why = "No space for raid4/5/6 journal";
                    let expected = format_args!("a device of {LEAST_JOURNAL} sectors at least");
                    return Err(value.error(expected, why).errno(Errno::NOSPC));
                }
                self.params.journal_dev = Some(device);
            }
            "journal_mode" => {
                if self.params.journal_dev.is_none() {
                    let why = "raid4/5/6 'journal_mode' is invalid without 'journal_dev'";
                    return Err(key.error("`journal_dev` before it", why));
                }
                once(key, &self.params.journal_mode, "raid4/5/6 'journal_mode' argument")?;
                self.params.journal_mode = Some(match lower(value).as_str() {
                    "writethrough" => JournalMode::WriteThrough,
                    "writeback" => JournalMode::WriteBack,
                    _ => {
                        let why = "Invalid 'journal_mode' argument";
                        return Err(value.error("`writethrough` or `writeback`", why));
                    }
                });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read_number(
        &mut self,
        key: Arg<'a>,
        value: Arg<'a>,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<(), CtrError> {
        let number = value.i32(NUMBER).map_err(|error| {
            // The kernel looks at the number first: what is wrong may be the word before it.
            let detail = format!("`{}`: {}", key.text(), error.detail);
            error.detail(detail)
        })?;
        let least_0 =
            |why: &str| u32::try_from(number).map_err(|_| value.error("a number from 0 on", why));
        let params = &mut self.params;
        let raid1_only = |why: &str| match self.kind.family() {
            Family::Raid1 => Ok(()),
            _ => Err(key.error("a parameter of this type", why)),
        };
        match lower(key).as_str() {
            "rebuild" => {
                let leg = leg(value, number, self.legs, "Invalid rebuild index given")?;
                if !params.rebuild.insert(leg) {
                    return Err(value.error("it once", "rebuild for this index already given"));
                }
            }
            "write_mostly" => {
                raid1_only("write_mostly option is only valid for RAID1")?;
                let leg = leg(value, number, self.legs, "Invalid write_mostly index given")?;
                self.write_mostly += 1;
                params.write_mostly.insert(leg);
            }
            "max_write_behind" => {
                raid1_only("max_write_behind option is only valid for RAID1")?;
                once(key, &params.max_write_behind, "max_write_behind argument pair")?;
                if !(0..=COUNTER_MAX).contains(&(number / 2)) || number < 0 {
                    let why = "Max write-behind limit out of range";
                    return Err(value.error(format_args!("0 to {}", 2 * COUNTER_MAX + 1), why));
                }
                params.max_write_behind = Some((number / 2).min(MAX_WRITE_BEHIND) as u32);
            }
            "daemon_sleep" => {
                once(key, &params.daemon_sleep, "daemon_sleep argument pair")?;
                let ticks = least_0("daemon sleep period out of range")?;
                params.daemon_sleep = Some(if ticks == 0 { DAEMON_SLEEP } else { ticks });
            }
            "data_offset" => {
                once(key, &params.data_offset, "data_offset argument pair")?;
                let fits = number == 0 || number >= LEAST_RESHAPE_SPACE && number % 8 == 0;
                if !fits {
                    let expected = format_args!("0, or {LEAST_RESHAPE_SPACE} and more in eights");
                    return Err(value.error(expected, "Bogus data_offset value"));
                }
                params.data_offset = Some(Sectors(number as u64));
            }
            "delta_disks" => {
                once(key, &params.delta_disks, "delta_disks argument pair")?;
                let most = MAX_LEGS as u32 - self.kind.family().least_legs();
                if !(1..=most).contains(&number.unsigned_abs()) {
                    let why = "Too many delta_disk requested";
                    return Err(value.error(format_args!("1 to {most}, or less than 0"), why));
                }
                params.delta_disks = Some(number);
            }
            "stripe_cache" => {
                once(key, &params.stripe_cache, "stripe_cache argument pair")?;
                if !matches!(self.kind.family(), Family::Raid5 | Family::Raid6) {
                    let why = "Inappropriate argument: stripe_cache";
                    return Err(key.error("a parameter of this type", why));
                }
                params.stripe_cache = Some(least_0("Bogus stripe cache entries value")?);
            }
            "min_recovery_rate" => {
                once(key, &params.min_recovery_rate, "min_recovery_rate argument pair")?;
                params.min_recovery_rate = Some(least_0("min_recovery_rate out of range")?);
            }
            "max_recovery_rate" => {
                once(key, &params.max_recovery_rate, "max_recovery_rate argument pair")?;
                params.max_recovery_rate = Some(least_0("max_recovery_rate out of range")?);
            }
            "region_size" => {
                once(key, &params.region_size, "region_size argument pair")?;
                // Checked when all has been read; what is below 0 is too large.
                params.region_size = Some(Sectors(u64::from(number as u32)));
                self.region = Some(value);
            }
            "raid10_copies" => {
                once(key, &params.raid10_copies, "raid10_copies argument pair")?;
                let copies = usize::try_from(number).ok().filter(|n| (2..=self.legs).contains(n));
                let expected = format_args!("2 to {} copies", self.legs);
                let why = "Bad value for 'raid10_copies'";
                params.raid10_copies = Some(copies.ok_or_else(|| value.error(expected, why))?);
            }
            _ => {
                let why = "Unable to parse RAID parameter";
                devices.log("raid", format_args!("{why}: {}", key.text()));
                return Err(key.error("a parameter", why));
            }
        }
        Ok(())
    }

    /// Checks what parameters say of each other, and settles the region size.
    pub(super) fn finish(
        mut self,
        words: &Words<'_>,
        chunk: Sectors,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Params<D>, CtrError> {
        let family = self.kind.family();
        if self.sync && self.nosync {
            return Err(CtrError::new("sync and nosync are mutually exclusive"));
        }
        if !self.params.rebuild.is_empty() && (self.sync || self.nosync) {
            return Err(CtrError::new("sync/nosync and rebuild are mutually exclusive"));
        }
        self.params.synchronize = match (self.sync, self.nosync) {
            (true, _) => Synchronize::Everything,
            (_, true) => Synchronize::Nothing,
            (false, false) => Synchronize::AsRecorded,
        };
        if self.write_mostly >= self.legs {
            return Err(CtrError::new("Can't set all raid1 devices to write_mostly"));
        }
        let (min, max) = (self.params.min_recovery_rate, self.params.max_recovery_rate);
        if max.is_some_and(|max| max > 0 && min.unwrap_or(0) > max) {
            return Err(CtrError::new("Bogus recovery rates"));
        }
        if family != Family::Raid0 {
            let size = self.region_size(words.target_len(), chunk, devices)?;
            self.params.region_size = self.params.region_size.map(|_| size);
        }
        if family == Family::Raid10 {
            self.check_raid10()?;
        }
        match self.is_valid() {
            true => Ok(self.params),
            false => Err(CtrError::new("Invalid flags combination")),
        }
    }

    /// Returns the region size, where the line says none too: the kernel logs its choice.
    fn region_size(
        &self,
        len: Sectors,
        chunk: Sectors,
        devices: &mut impl Devices<Device = D>,
    ) -> Result<Sectors, CtrError> {
        let least = least_region(len);
        let given = self.params.region_size.filter(|size| !size.is_zero());
        let Some((size, word)) = given.zip(self.region) else {
            let size = default_region(len);
            match least > DEFAULT_REGION.0 {
                true => devices
                    .log("raid", format_args!("Choosing default region size of {size} sectors")),
                false => devices.log("raid", format_args!("Choosing default region size of 4MiB")),
            }
            return Ok(size);
        };
        let refuse = |expected: fmt::Arguments<'_>, why| Err(word.error(expected, why));
        match () {
            () if size > len => {
                refuse(format_args!("{len} sectors at most"), "Supplied region size is too large")
            }
            () if size.0 < least => {
                let below = "below minimum";
                let why = format_args!("Supplied region_size ({size} sectors) {below} ({least})");
                devices.log("raid", why);
                let why = "Supplied region size is too small";
                refuse(format_args!("{least} sectors at least"), why)
            }
            () if !size.0.is_power_of_two() => {
                refuse(format_args!("a power of two"), "Region size is not a power of 2")
            }
            () if size < chunk => {
                let why = "Region size is smaller than the chunk size";
                refuse(format_args!("{chunk} sectors at least"), why)
            }
            () => Ok(size),
        }
    }

    fn check_raid10(&self) -> Result<(), CtrError> {
        let copies = self.params.raid10_copies.unwrap_or(2);
        if copies > self.legs {
            return Err(CtrError::new("Not enough devices to satisfy specification"));
        }
        let near = self.params.raid10_format.is_none_or(|format| format == Format::Near);
        if near && self.params.raid10_use_near_sets {
            let why = "RAID10 format 'near' and 'raid10_use_near_sets' are incompatible";
            return Err(CtrError::new(why));
        }
        Ok(())
    }

    /// Tells whether the level has all of the parameters. Those that a level lacks and that are
    /// not named here were refused when they were read.
    fn is_valid(&self) -> bool {
        let params = &self.params;
        let of_raid10 = params.raid10_copies.is_some() || params.raid10_use_near_sets;
        match self.kind.family() {
            Family::Raid0 => {
                let synchronize = params.synchronize != Synchronize::AsRecorded;
                let numbers =
                    [params.daemon_sleep, params.min_recovery_rate, params.max_recovery_rate];
                !(synchronize
                    || of_raid10
                    || !params.rebuild.is_empty()
                    || numbers.iter().any(Option::is_some)
                    || params.region_size.is_some()
                    || params.delta_disks.is_some())
            }
            Family::Raid10 => true,
            Family::Raid1 | Family::Raid5 => !of_raid10,
            Family::Raid6 => !of_raid10 && params.synchronize != Synchronize::Nothing,
        }
    }
}

/// What a bit of a bitmap stands for where the line does not say: 4 MiB.
pub(super) const DEFAULT_REGION: Sectors = Sectors(8192);

/// Returns the least region size, as md's bitmap has no more than 2^21 regions.
fn least_region(len: Sectors) -> u64 {
    len.0 >> 21
}

/// Returns the region size where the line does not say.
pub(super) fn default_region(len: Sectors) -> Sectors {
    match least_region(len) {
        least if least > DEFAULT_REGION.0 => Sectors(least.next_power_of_two()),
        _ => DEFAULT_REGION,
    }
}

fn lower(word: Arg<'_>) -> String {
    word.text().to_ascii_lowercase()
}

/// Refuses what is there already.
fn once<T>(key: Arg<'_>, value: &Option<T>, what: &str) -> Result<(), CtrError> {
    match value {
        None => Ok(()),
        Some(_) => Err(key.error("it once", &format!("Only one {what} allowed"))),
    }
}

/// Reads the number of a leg.
fn leg(word: Arg<'_>, number: i32, legs: usize, why: &str) -> Result<usize, CtrError> {
    let leg = usize::try_from(number).ok().filter(|leg| *leg < legs);
    leg.ok_or_else(|| word.error(format_args!("a leg from 0 to {}", legs - 1), why))
}
