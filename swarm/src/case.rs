//! A case: disks, devices over them, and what is done to them. Its text repeats it to the letter.

use std::fmt;

use sim_core::Flags;
use testkit::{BioStep, DeviceBelow, Schedule};

/// One thing to run, in full: nothing else decides what happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Who comes next, and the seed of what is taken at random.
    pub schedule: Schedule,
    /// How many tasks send bios.
    pub tasks: usize,
    /// Whether devices use their flattened maps.
    pub folding: bool,
    /// Whether the devices have all the time that they want before the first step.
    pub settled: bool,
    /// The disks: 7:0, 7:1 and so on.
    pub disks: Vec<Disk>,
    /// The mapped devices, from below: 253:0, 253:1 and so on.
    pub devices: Vec<Device>,
    /// What is done, in this order.
    pub steps: Vec<Step>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// The length in sectors.
    pub sectors: u64,
    /// How long its bios take.
    pub pace: Pace,
    /// The member of a recorded array that it begins as: the array's name, and which.
    pub member: Option<(String, usize)>,
}

/// How long the bios of a disk take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// None waits.
    AtOnce,
    /// Some wait.
    Mixed,
    /// Each waits for its turn.
    Waits,
    /// As flash, in virtual time.
    Flash,
    /// As a disk that turns.
    Turning,
    /// As a disk that stalls for seconds.
    Stalling,
}

/// A mapped device.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// What holds for it.
    pub promises: Promises,
    /// What is zeroed below before the device is made for the first time: device, start, length.
    pub wipes: Vec<(DeviceBelow, u64, u64)>,
    /// The tables that it may have, of the same content: it begins with the first.
    pub tables: Vec<String>,
}

/// What holds for a device; all of it where all below is so, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// What was written reads back.
    pub bytes: bool,
    /// Flush and FUA mean what they say: it comes back from a power cut with it.
    pub durable: bool,
    /// No bio fails as long as no disk does.
    pub well: bool,
    /// What reads after I/O has failed below is right.
    pub faults: bool,
    /// So it is after a power cut besides.
    pub faults_and_cut: bool,
}

/// Something that is done. Bios are sent by all tasks at the same time; what is done to devices and
/// disks is done by one more task meanwhile; `Wait`, `Heal` and `Cut` are for all.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A bio for a device; one past its end begins again at its start.
    Bio(u32, BioStep),
    /// Suspends a device, and resumes it.
    Cycle(Cycle),
    /// A message to a target.
    Message {
        /// The device.
        device: u32,
        /// The target at this sector.
        sector: u64,
        /// The words.
        text: String,
    },
    /// Lets others go on for so many turns.
    Pause(u32),
    /// Bios of a disk fail from here on.
    Fault {
        /// The disk.
        disk: u32,
        /// After so many others.
        after: u64,
        /// The one, or all that follow.
        for_good: bool,
        /// So many sectors of a bio are carried out before it fails; none of it where zero.
        short: u64,
    },
    /// Waits until all that was sent has ended, and reads everything back.
    Wait,
    /// As `Wait`; the disks are healthy again.
    Heal,
    /// The power fails so many turns after all was sent, and comes back.
    Cut {
        /// The turns.
        turns: u32,
        /// What is left of what was not durable.
        left: Left,
    },
}

/// What a power cut leaves of what was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// All that had ended.
    All,
    /// Of each sector any version, by this seed.
    Some(u64),
}

/// A suspend and a resume.
#[derive(Clone, Debug, PartialEq)]
pub struct Cycle {
    /// The device.
    pub device: u32,
    /// Targets push back what they hold.
    pub noflush: bool,
    /// The table is loaded before the suspend, and not after it.
    pub early: bool,
    /// What is loaded.
    pub load: Load,
    /// For how many turns the device is suspended.
    pub turns: u32,
}

/// What a cycle loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nothing.
    Nothing,
    /// The device's own text, which must lead to the same text again.
    Own,
    /// This one of its tables.
    Table(usize),
}

impl Promises {
    /// Everything: what a disk promises.
    pub const ALL: Promises =
        Promises { bytes: true, durable: true, well: true, faults: true, faults_and_cut: true };

    /// Returns what both promise.
    #[must_use]
    pub fn and(self, other: Promises) -> Promises {
        Promises {
            bytes: self.bytes && other.bytes,
            durable: self.durable && other.durable,
            well: self.well && other.well,
            faults: self.faults && other.faults,
            faults_and_cut: self.faults_and_cut && other.faults_and_cut,
        }
    }

    /// Returns each with its word.
    fn words(&mut self) -> [(&'static str, &mut bool); 5] {
        [
            ("bytes", &mut self.bytes),
            ("durable", &mut self.durable),
            ("well", &mut self.well),
            ("faults", &mut self.faults),
            ("faults-and-cut", &mut self.faults_and_cut),
        ]
    }

    /// Reads the words.
    fn parse(words: &[&str]) -> Option<Promises> {
        let mut all = Promises::ALL;
        for (word, holds) in all.words() {
            *holds = words.contains(&word);
        }
        let known =
            |word: &&str| Promises::ALL.clone().words().iter().any(|(name, _)| name == word);
        words.iter().all(known).then_some(all)
    }
}

impl Pace {
    /// Every pace, with its word.
    pub const ALL: [(Pace, &'static str); 6] = [
        (Pace::AtOnce, "at-once"),
        (Pace::Mixed, "mixed"),
        (Pace::Waits, "waits"),
        (Pace::Flash, "flash"),
        (Pace::Turning, "turning"),
        (Pace::Stalling, "stalling"),
    ];

    fn word(self) -> &'static str {
        Pace::ALL.iter().find(|(pace, _)| *pace == self).map_or("", |(_, word)| word)
    }
}

impl Case {
    /// Lists the devices that no other device lies on: those that bios are sent to.
    pub fn tops(&self) -> Vec<u32> {
        let devices = 0..self.devices.len() as u32;
        let is_used = |device: &u32| {
            let name = format!("253:{device}");
            let tables = self.devices.iter().flat_map(|other| &other.tables);
            tables.flat_map(|table| table.split_whitespace()).any(|word| word == name)
        };
        devices.filter(|device| !is_used(device)).collect()
    }

    /// Lists the target types of the case's tables, each once, in the order of the alphabet.
    pub fn types(&self) -> Vec<&str> {
        let devices = 0..self.devices.len() as u32;
        let mut types: Vec<&str> = devices.flat_map(|device| self.types_of(device)).collect();
        types.sort_unstable();
        types.dedup();
        types
    }

    /// Lists the target types of a device's tables.
    pub fn types_of(&self, device: u32) -> impl Iterator<Item = &str> {
        let lines = self.devices[device as usize].tables.iter().flat_map(|table| table.lines());
        lines.filter_map(|line| line.split_whitespace().nth(2))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "schedule {}", self.schedule)?;
        writeln!(f, "tasks {}", self.tasks)?;
        writeln!(f, "folding {}", if self.folding { "on" } else { "off" })?;
        writeln!(f, "settled {}", if self.settled { "on" } else { "off" })?;
        for disk in &self.disks {
            write!(f, "disk {} {}", disk.sectors, disk.pace.word())?;
            match &disk.member {
                Some((array, member)) => writeln!(f, " member {member} {array}")?,
                None => writeln!(f)?,
            }
        }
        for device in &self.devices {
            write!(f, "device")?;
            for (word, holds) in device.promises.clone().words() {
                f.write_str(if *holds { " " } else { "" })?;
                f.write_str(if *holds { word } else { "" })?;
            }
            writeln!(f)?;
            for (below, start, len) in &device.wipes {
                writeln!(f, "wipe {} {start} {len}", below.number())?;
            }
            for table in &device.tables {
                writeln!(f, "table")?;
                table.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Bio(device, bio) => write!(f, "bio {device} {bio}"),
            Step::Cycle(Cycle { device, noflush, early, load, turns }) => {
                let held = if *noflush { "noflush" } else { "flush" };
                let when = if *early { "early" } else { "late" };
                write!(f, "cycle {device} {held} {when} ")?;
                match load {
                    Load::Nothing => write!(f, "nothing")?,
                    Load::Own => write!(f, "own")?,
                    Load::Table(table) => write!(f, "{table}")?,
                }
                write!(f, " {turns}")
            }
            Step::Message { device, sector, text } => write!(f, "message {device} {sector} {text}"),
            Step::Pause(turns) => write!(f, "pause {turns}"),
            Step::Fault { disk, after, for_good, short } => {
                let lasts = if *for_good { "for-good" } else { "once" };
                write!(f, "fault {disk} {after} {lasts} {short}")
            }
            Step::Wait => write!(f, "wait"),
            Step::Heal => write!(f, "heal"),
            Step::Cut { turns, left } => match left {
                Left::Nothing => write!(f, "cut {turns} nothing"),
                Left::All => write!(f, "cut {turns} all"),
                Left::Some(seed) => write!(f, "cut {turns} some {seed}"),
            },
        }
    }
}

/// Reads the text of a case; lines that begin with `#` say something to people alone.
impl std::str::FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let mut case = Case {
            schedule: Schedule::Random(0),
            tasks: 1,
            folding: false,
            settled: false,
            disks: Vec::new(),
            devices: Vec::new(),
            steps: Vec::new(),
        };
        for (number, line) in (1..).zip(text.lines()) {
            case.take(line).ok_or_else(|| {
                format!("line {number}: expected a line of a case, found `{line}`")
            })?;
        }
        if case.devices.is_empty() {
            return Err("the case has no device".to_owned());
        }
        Ok(case)
    }
}

impl Case {
    fn take(&mut self, line: &str) -> Option<()> {
        if line.starts_with('#') || line.trim().is_empty() {
            return Some(());
        }
        if let Some(line) = line.strip_prefix("  ") {
            let table = self.devices.last_mut()?.tables.last_mut()?;
            *table = if table.is_empty() { line.to_owned() } else { format!("{table}\n{line}") };
            return Some(());
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (word, &words[..]) {
            ("schedule", _) => self.schedule = rest.parse().ok()?,
            ("tasks", [tasks]) => self.tasks = tasks.parse().ok().filter(|tasks| *tasks > 0)?,
            ("folding", [on]) => self.folding = *on == "on",
            ("settled", [on]) => self.settled = *on == "on",
            ("disk", [sectors, pace, member @ ..]) => {
                let member = match member {
                    [] => None,
                    ["member", at, array] => Some(((*array).to_owned(), at.parse().ok()?)),
                    _ => return None,
                };
                let (pace, _) = Pace::ALL.iter().find(|(_, word)| word == pace)?;
                self.disks.push(Disk { sectors: sectors.parse().ok()?, pace: *pace, member });
            }
            ("device", promises) => {
                let promises = Promises::parse(promises)?;
                self.devices.push(Device { promises, wipes: Vec::new(), tables: Vec::new() });
            }
            ("wipe", [below, start, len]) => {
                let wipe = (below_of(below)?, start.parse().ok()?, len.parse().ok()?);
                self.devices.last_mut()?.wipes.push(wipe);
            }
            ("table", []) => self.devices.last_mut()?.tables.push(String::new()),
            _ => self.steps.push(step(word, rest, &words)?),
        }
        Some(())
    }
}

/// Reads the number of a disk or a mapped device.
pub(crate) fn below_of(word: &str) -> Option<DeviceBelow> {
    match word.split_once(':')? {
        ("7", minor) => Some(DeviceBelow::Disk(minor.parse().ok()?)),
        ("253", minor) => Some(DeviceBelow::Device(minor.parse().ok()?)),
        _ => None,
    }
}

fn step(word: &str, rest: &str, words: &[&str]) -> Option<Step> {
    Some(match (word, words) {
        ("bio", [device, op, rest @ ..]) => Step::Bio(device.parse().ok()?, bio(op, rest)?),
        ("cycle", [device, held, when, load, turns]) => Step::Cycle(Cycle {
            device: device.parse().ok()?,
            noflush: *held == "noflush",
            early: *when == "early",
            load: match *load {
                "nothing" => Load::Nothing,
                "own" => Load::Own,
                table => Load::Table(table.parse().ok()?),
            },
            turns: turns.parse().ok()?,
        }),
        ("message", [device, sector, ..]) => {
            let text = rest.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
            Step::Message { device: device.parse().ok()?, sector: sector.parse().ok()?, text }
        }
        ("pause", [turns]) => Step::Pause(turns.parse().ok()?),
        ("fault", [disk, after, lasts, short]) => Step::Fault {
            disk: disk.parse().ok()?,
            after: after.parse().ok()?,
            for_good: *lasts == "for-good",
            short: short.parse().ok()?,
        },
        ("wait", []) => Step::Wait,
        ("heal", []) => Step::Heal,
        ("cut", [turns, left @ ..]) => {
            let left = match left {
                ["nothing"] => Left::Nothing,
                ["all"] => Left::All,
                ["some", seed] => Left::Some(seed.parse().ok()?),
                _ => return None,
            };
            Step::Cut { turns: turns.parse().ok()?, left }
        }
        _ => return None,
    })
}

/// Reads a bio, as its text is: a flush has no range, but may have the one that older cases give it.
fn bio(op: &str, rest: &[&str]) -> Option<BioStep> {
    use sim_core::Op;
    let op = [Op::Read, Op::Write, Op::Flush, Op::Discard, Op::WriteZeroes, Op::SecureErase]
        .into_iter()
        .find(|known| format!("{known:?}") == op)?;
    let (range, flags) = match rest.split_first() {
        Some((range, flags)) if range.contains('+') => (Some(range), flags),
        _ => (None, rest),
    };
    let (sector, len) = match range {
        Some(range) => {
            let (sector, len) = range.split_once('+')?;
            (sector.parse().ok()?, len.parse().ok()?)
        }
        None if op == Op::Flush => (0, 0),
        None => return None,
    };
    let mut known = Flags::default();
    for flag in flags {
        match *flag {
            "fua" => known.fua = true,
            "preflush" => known.preflush = true,
            _ => return None,
        }
    }
    Some(BioStep { op, sector, len, flags: known })
}
