//! `dust <dev> <start> <block bytes>`: a disk with bad blocks, which messages make and take away.
//!
//! Once enabled, a read of a bad block fails. A write makes the block good again, as a disk does that
//! has spare ones; after it has failed so many times as the block was added with.
//!
//! Messages: `addbadblock <block> [<failing writes>]`, `removebadblock <block>`, `queryblock <block>`,
//! `countbadblocks`, `listbadblocks`, `clearbadblocks`; `enable`, `disable`; `quiet`, which logs less,
//! or more again. Blocks are counted on the device, not in the target; and a bio counts for the block
//! of its first sector. A flush is a write to the target's first block, as the kernel has it.

use std::collections::BTreeMap;
use std::fmt;

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, CtrError, DevNumber, Discarded, Errno, Locked, Mapped,
    Op, Profile, Refusal, Reply, Sector, Sectors, Spots, StatusKind, StatusWriter, Target,
    TargetLog, TargetType, Words, reply,
};

use crate::lines::dust::{Line, Status};
use crate::lines::{self, Place};

/// A disk with bad blocks.
pub struct Dust {
    area: Area,
    block: Sectors,
    /// Where the target begins on its device.
    begin: Sector,
    state: Locked<State>,
    log: TargetLog,
}

#[derive(Default)]
struct State {
    /// How many writes to each bad block fail yet.
    bad: BTreeMap<u64, u8>,
    fails: bool,
    quiet: bool,
}

/// What a message is answered with.
type Answer = Result<Option<String>, Refusal>;

impl TargetType for Dust {
    const NAME: &'static str = "dust";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Dust, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let Line { place: Place { device, start }, block } = line;
        let area = Area::new(device, start, args.target_len());
        let (begin, state, log) = (args.target_start(), Locked::default(), args.log());
        Ok(Dust { area, block, begin, state, log })
    }
}

impl Target for Dust {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let passes = match bio.op() {
            Op::Read => self.read(self.block_of(bio.sector)),
            Op::Write | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                self.write(self.block_of(bio.sector))
            }
            // It has the first sector of the whole device in the kernel, and no target's.
            Op::Flush => self.write(self.block_of(Sector(0u64.wrapping_sub(self.begin.0)))),
        };
        match passes {
            Ok(()) => Mapped::Remapped(&self.area, bio.sector, bio),
            Err(error) => Mapped::Completed(Err(error)),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        let device = lines::device_word(&self.area, out)?;
        match kind {
            StatusKind::Info => {
                let State { fails, quiet, .. } = *self.state.lock();
                write!(out, "{}", Status { device, fails, quiet })
            }
            StatusKind::Table => {
                let place = Place { device, start: self.area.start };
                write!(out, "{}", Line { place, block: self.block })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile {
            max_io_len: Some(self.block),
            num_secure_erase_bios: 0,
            num_write_zeroes_bios: 0,
            flush_bypasses_map: false,
            discarded: Discarded::AsBelow,
            // The second time the block of a write is good already; one that fails has ended.
            map_may_be_repeated: true,
            ..Profile::REMAP
        }
    }

    fn stores<'a>(
        &'a self,
        offset: Sector,
        each: &mut dyn FnMut(&'a Area, Sector),
    ) -> Option<Sectors> {
        each(&self.area, offset);
        Some(self.area.size() - offset.from_start())
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let block = self.block_of(offset);
        out.at(&self.area, offset, "data");
        let state = self.state.lock();
        if state.bad.contains_key(&block) {
            let fails =
                if state.fails { "and its reads fail" } else { "and its reads do not fail now" };
            out.say(format!("block {block} is on the list of bad blocks, {fails}"));
        }
        drop(state);
        let at = self.area.start.wrapping_add(offset.from_start());
        Some(Sectors(self.block.0 - at.0 % self.block.0))
    }

    /// Without trying block by block.
    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        Some(self.area.sector_of(below, sector).into_iter().collect())
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(self.take_message(words))
    }
}

impl Dust {
    fn block_of(&self, sector: Sector) -> u64 {
        self.area.start.wrapping_add(sector.from_start()).0 / self.block.0
    }

    fn read(&self, block: u64) -> BlkResult {
        let state = self.state.lock();
        let fails = state.fails && state.bad.contains_key(&block);
        if fails { Err(BlkError::Io) } else { Ok(()) }
    }

    fn write(&self, block: u64) -> BlkResult {
        let mut state = self.state.lock();
        let State { bad, fails: true, quiet } = &mut *state else { return Ok(()) };
        match bad.get_mut(&block) {
            None => {}
            Some(0) => {
                bad.remove(&block);
                if !*quiet {
                    // The kernel takes the block for a sector here, and divides once more.
                    let told = block / self.block.0;
                    self.log.line(format_args!("block {told} removed from badblocklist by write"));
                }
            }
            Some(failing) => {
                *failing -= 1;
                return Err(BlkError::Io);
            }
        }
        Ok(())
    }

    fn take_message(&self, words: &[&str]) -> Answer {
        let name = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
        let unknown = || self.refuse(format_args!("unrecognized message '{}' received", words[0]));
        match words {
            [_] => match &*name {
                "addbadblock" | "removebadblock" | "queryblock" => {
                    Err(self.refuse(format_args!("{} requires an additional argument", words[0])))
                }
                "enable" => Ok(self.set_failing(true)),
                "disable" => Ok(self.set_failing(false)),
                "quiet" => {
                    let mut state = self.state.lock();
                    state.quiet = !state.quiet;
                    Ok(None)
                }
                "countbadblocks" => {
                    let count = self.state.lock().bad.len();
                    Ok(Some(format!("countbadblocks: {count} badblock(s) found")))
                }
                "listbadblocks" => Ok(Some(self.list())),
                "clearbadblocks" => {
                    let cleared = std::mem::take(&mut self.state.lock().bad);
                    let what =
                        if cleared.is_empty() { "no badblocks found" } else { "badblocks cleared" };
                    Ok(Some(format!("dust_clear_badblocks: {what}")))
                }
                _ => Err(unknown()),
            },
            [_, block] => {
                let block = self.in_range(number(block)?)?;
                match &*name {
                    "addbadblock" => self.add(block, 0),
                    "removebadblock" => self.remove(block),
                    "queryblock" => {
                        let found = self.state.lock().bad.contains_key(&block);
                        let not = if found { "" } else { "not " };
                        Ok(Some(format!(
                            "dust_query_block: block {block} {not}found in badblocklist"
                        )))
                    }
                    _ => Err(unknown()),
                }
            }
            [_, block, failing] => {
                let (block, failing) = (number(block)?, number(failing)? as u32);
                let failing = u8::try_from(failing).map_err(|_| {
                    self.refuse(format_args!("selected write fail count out of range"))
                })?;
                let block = self.in_range(block)?;
                match &*name {
                    "addbadblock" => self.add(block, failing),
                    _ => Err(unknown()),
                }
            }
            _ => Err(self.refuse(format_args!("invalid number of arguments '{}'", words.len()))),
        }
    }

    fn refuse(&self, why: fmt::Arguments<'_>) -> Refusal {
        self.log.refusal(Errno::INVAL, &why.to_string())
    }

    /// As [`refuse`](Self::refuse), without a line in the log where the target is to be quiet.
    fn refuse_unless_quiet(&self, state: &State, why: String) -> Refusal {
        if state.quiet {
            Refusal::because(Errno::INVAL, why)
        } else {
            self.log.refusal(Errno::INVAL, &why)
        }
    }

    /// Refuses a block past the end of the device; not the one right there, as the kernel has it.
    fn in_range(&self, block: u64) -> Result<u64, Refusal> {
        match block > self.area.device_size().0 / self.block.0 {
            true => Err(self.refuse(format_args!("selected block value out of range"))),
            false => Ok(block),
        }
    }

    fn set_failing(&self, fails: bool) -> Option<String> {
        let what = if fails { "enabling" } else { "disabling" };
        self.log.line(format_args!("{what} read failures on bad sectors"));
        self.state.lock().fails = fails;
        None
    }

    fn add(&self, block: u64, failing: u8) -> Answer {
        let mut state = self.state.lock();
        if state.bad.contains_key(&block) {
            let why = format!("dust_add_block: block {block} already in badblocklist");
            return Err(self.refuse_unless_quiet(&state, why));
        }
        state.bad.insert(block, failing);
        if !state.quiet {
            self.log.line(format_args!(
                "dust_add_block: badblock added at block {block} with write fail count {failing}"
            ));
        }
        Ok(None)
    }

    fn remove(&self, block: u64) -> Answer {
        let mut state = self.state.lock();
        if state.bad.remove(&block).is_none() {
            let why = format!("dust_remove_block: block {block} not found in badblocklist");
            return Err(self.refuse_unless_quiet(&state, why));
        }
        if !state.quiet {
            self.log.line(format_args!("dust_remove_block: badblock removed at block {block}"));
        }
        Ok(None)
    }

    fn list(&self) -> String {
        let state = self.state.lock();
        match state.bad.is_empty() {
            true => "No blocks in badblocklist".to_owned(),
            false => state.bad.keys().map(|block| format!("{block}\n")).collect(),
        }
    }
}

/// Reads a number as the kernel does; one that is none is refused without a word.
fn number(word: &str) -> Result<u64, Refusal> {
    let words = [word];
    let number = Words::new(&words, Sectors::ZERO).next("").and_then(|word| word.sector(""));
    number.map(|number| number.0).map_err(|_| Errno::INVAL.into())
}
