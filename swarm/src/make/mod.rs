//! Makes a case of a seed: disks, a stack of targets over them, and what is done to it.

mod copies;
mod recorded;
mod remaps;
mod steps;
mod unknown;

use sim_core::{Registry, Rng};
use testkit::{DeviceBelow, Schedule};

use crate::case::{Case, Device, Disk, Pace, Promises};

/// The most layers that are put on top of one another, or beside.
const LAYERS: usize = 6;

/// The lengths of targets, in sectors: short, so that bios meet and all of a device is soon read.
const LENGTHS: [u64; 8] = [16, 24, 40, 48, 64, 96, 120, 200];

/// A range of a device that nobody uses yet.
#[derive(Clone, Debug)]
struct Space {
    below: DeviceBelow,
    start: u64,
    len: u64,
    /// What is below promises.
    promises: Promises,
    /// The longest block of what is below, in sectors.
    block: u64,
}

/// A line of a table, and others that may take its place.
struct Line {
    len: u64,
    /// Type and words: the first, and those of the same content.
    words: Vec<String>,
    promises: Promises,
    block: u64,
    /// Nothing may stand beside it in a table.
    alone: bool,
    /// What is zeroed before the first start.
    wipes: Vec<(DeviceBelow, u64, u64)>,
    /// Words of messages that it takes.
    messages: Vec<String>,
}

/// What is made so far.
struct Maker<'a> {
    rng: Rng,
    registry: &'a Registry,
    case: Case,
    /// Mapped devices that nobody uses yet: the tops, with their lengths.
    free: Vec<Space>,
    /// Messages for each device: the target's sector, the words.
    messages: Vec<Vec<(u64, String)>>,
    /// Bios may wait for ever once I/O has failed.
    never_faulty: bool,
}

/// Makes a line of a type, or nothing where there is no room.
type Generator = fn(&mut Maker<'_>) -> Option<Line>;

/// The types that are known, each with how often it is taken.
const KNOWN: [(&str, usize, Generator); 18] = [
    ("linear", 3, remaps::linear),
    ("striped", 3, remaps::striped),
    ("zero", 1, remaps::zero),
    ("error", 1, remaps::error),
    ("crypt", 4, remaps::crypt),
    ("unstriped", 2, remaps::unstriped),
    ("switch", 2, remaps::switch),
    ("delay", 3, remaps::delay),
    ("flakey", 3, remaps::flakey),
    ("dust", 3, remaps::dust),
    ("ebs", 3, remaps::ebs),
    ("multipath", 3, remaps::multipath),
    ("log-writes", 3, copies::log_writes),
    ("mirror", 5, copies::mirror),
    ("snapshot", 4, copies::snapshot),
    ("snapshot-origin", 4, copies::origin),
    ("raid", 7, copies::raid),
    ("md", 1, recorded::md),
];

/// A type that comes with another one's line.
const BESIDE: &str = "snapshot-merge";

/// Makes the case of a seed, of the types that a registry has: those that it does not know by what
/// their example says.
pub fn make(seed: u64, registry: &Registry) -> Case {
    let mut rng = Rng::new(seed);
    let schedule =
        if rng.below(3) == 0 { Schedule::Priority(seed) } else { Schedule::Random(seed) };
    let case = Case {
        schedule,
        tasks: 1 + rng.below(4),
        folding: rng.below(2) == 0,
        settled: rng.below(2) == 0,
        disks: Vec::new(),
        devices: Vec::new(),
        steps: Vec::new(),
    };
    let (free, messages) = (Vec::new(), Vec::new());
    let mut maker = Maker { rng, registry, case, free, messages, never_faulty: false };
    maker.stack();
    maker.steps();
    maker.case
}

impl Maker<'_> {
    fn stack(&mut self) {
        let unknown: Vec<String> =
            self.registry.iter().map(|known| known.name().to_owned()).collect();
        let is_known =
            |name: &String| name == BESIDE || KNOWN.iter().any(|(known, ..)| known == name);
        let unknown: Vec<String> = unknown.into_iter().filter(|name| !is_known(name)).collect();
        let known: Vec<_> =
            KNOWN.iter().filter(|(name, ..)| self.registry.find(name).is_some()).collect();
        let weights: usize = known.iter().map(|(_, weight, _)| weight).sum();
        let layers = 1 + self.rng.below(LAYERS);
        let mut made = 0;
        // A line may find no room: another one is tried.
        for _ in 0..layers * 4 {
            if made == layers {
                break;
            }
            let line = match unknown.len() {
                // What an author has added is what a run is for.
                count if count > 0 && self.rng.below(3) == 0 => {
                    let name = unknown[self.rng.below(count)].clone();
                    unknown::example(self, &name)
                }
                _ if known.is_empty() => None,
                _ => {
                    let mut at = self.rng.below(weights);
                    let chosen = known.iter().find(|(_, weight, _)| {
                        let here = at < *weight;
                        at = at.saturating_sub(*weight);
                        here
                    });
                    chosen.and_then(|(_, _, make)| make(self))
                }
            };
            if let Some(line) = line {
                self.device(line);
                made += 1;
            }
        }
        if self.case.devices.is_empty() {
            let line = remaps::linear(self).expect("a new disk has room for it");
            self.device(line);
        }
    }

    /// Makes a device of a line; now and then with a linear one before or after it.
    fn device(&mut self, line: Line) {
        let Line { len, words, mut promises, mut block, alone, wipes, messages } = line;
        let beside = (!alone && self.registry.find("linear").is_some() && self.rng.below(5) == 0)
            .then(|| self.space(16, 1))
            .filter(|space| space.block <= block || len.is_multiple_of(space.block));
        let beside = beside.map(|space| {
            promises = promises.and(space.promises);
            block = block.max(space.block);
            let len = 16.max(block);
            let words = format!("linear {} {}", space.below.number(), space.start);
            (len.min(space.len), words, self.rng.below(2) == 0)
        });
        let (at, all) = match &beside {
            Some((more, _, true)) => (*more, len + more),
            Some((more, _, false)) => (0, len + more),
            None => (0, len),
        };
        let table = |words: &String| match &beside {
            Some((more, other, true)) => format!("0 {more} {other}\n{more} {len} {words}"),
            Some((more, other, false)) => format!("0 {len} {words}\n{len} {more} {other}"),
            None => format!("0 {len} {words}"),
        };
        let tables = words.iter().map(table).collect();
        let minor = self.case.devices.len() as u32;
        self.case.devices.push(Device { promises, wipes, tables });
        self.messages.push(messages.into_iter().map(|words| (at, words)).collect());
        let below = DeviceBelow::Device(minor);
        self.free.push(Space { below, start: 0, len: all, promises, block });
    }

    /// Chooses one of these.
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len())]
    }

    /// Chooses by chance: one of so many times.
    fn chance(&mut self, of: usize) -> bool {
        self.rng.below(of) == 0
    }

    /// Chooses a length.
    fn length(&mut self) -> u64 {
        self.one(&LENGTHS)
    }

    /// Takes a range of at least so many sectors, with a start that is a multiple of `align`: of a
    /// device that is made already, or of a new disk.
    fn space(&mut self, len: u64, align: u64) -> Space {
        let fits = |space: &Space| space.len >= len && !matches!(space.below, DeviceBelow::Disk(_));
        let fitting: Vec<usize> = (0..self.free.len()).filter(|at| fits(&self.free[*at])).collect();
        if !fitting.is_empty() && self.rng.below(4) > 0 {
            let at = fitting[self.rng.below(fitting.len())];
            let space = self.free.remove(at);
            let align = align.max(space.block);
            let start = (space.len - len) / align;
            let start =
                if start > 0 { self.rng.below(start as usize + 1) as u64 * align } else { 0 };
            return Space { start, len: space.len - start, ..space };
        }
        self.disk_space(len, align)
    }

    /// As [`space`](Self::space), from the device's first sector on.
    fn whole(&mut self, len: u64) -> Space {
        let space = self.space(len, 1);
        Space { start: 0, len: space.start + space.len, ..space }
    }

    /// As [`whole`](Self::whole), of a new disk: for what a target keeps for itself, most of the time.
    fn own(&mut self, len: u64) -> Space {
        if self.chance(4) {
            return self.whole(len);
        }
        let space = self.disk_space(len, 1);
        Space { start: 0, len: space.start + space.len, ..space }
    }

    /// Takes a range of a new disk.
    fn disk_space(&mut self, len: u64, align: u64) -> Space {
        let start = self.rng.below(6) as u64 * align.max(1) * self.one(&[0, 1, 3]);
        let more = self.one(&[0, 1, 8, 37]);
        let disk = self.disk(start + len + more, None);
        let below = DeviceBelow::Disk(disk);
        Space { below, start, len: len + more, promises: Promises::ALL, block: 1 }
    }

    fn disk(&mut self, sectors: u64, member: Option<(String, usize)>) -> u32 {
        let (pace, _) = self.one(&Pace::ALL);
        self.case.disks.push(Disk { sectors, pace, member });
        self.case.disks.len() as u32 - 1
    }
}

impl Line {
    /// A line over one range, which passes all promises on.
    fn over(space: &Space, len: u64, words: String) -> Line {
        Line {
            len,
            words: vec![words],
            promises: space.promises,
            block: space.block,
            alone: false,
            wipes: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// A line over some ranges.
    fn over_all(spaces: &[Space], len: u64, words: String) -> Line {
        let promises = spaces.iter().fold(Promises::ALL, |all, space| all.and(space.promises));
        let block = spaces.iter().map(|space| space.block).max().unwrap_or(1);
        Line {
            len,
            words: vec![words],
            promises,
            block,
            alone: false,
            wipes: Vec::new(),
            messages: Vec::new(),
        }
    }
}

impl Space {
    /// Writes the range as most table lines do.
    fn text(&self) -> String {
        format!("{} {}", self.below.number(), self.start)
    }

    fn wipe(&self, len: u64) -> (DeviceBelow, u64, u64) {
        (self.below, self.start, len.min(self.len))
    }
}
