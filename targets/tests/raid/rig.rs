//! A set over simulated disks, what it is sent, and what is legal then.

use std::sync::{Arc, PoisonError};

use sim_core::control::{Command, Slot};
use sim_core::{Bio, BlkError, BlockDevice, Held, MappedDevice, Sector, Sectors, StatusKind};
use targets::lines::raid::Kind;
use targets::raid::layout::{Format, Layout, Parity, Place, Raid10};
use testkit::{
    BioStep, Journal, Legal, Rng, Schedule, SimDisk, Speed, Started, Traffic, World, id, read_all,
};

use crate::steps::{Errors, start, steps};
pub(crate) use crate::steps::{FLUSH, Step};

pub(crate) const SECTOR: usize = 512;

/// The sectors of a metadata device: a superblock, and a page of the bitmap.
const META: u64 = 16;

/// The sectors of a journal: the least.
const JOURNAL: u64 = 8192;

/// A set.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) shape: Shape,
    pub(crate) legs: usize,
    pub(crate) len: u64,
    pub(crate) region: u64,
    /// All copies are the same when the bios come.
    pub(crate) in_sync: bool,
    /// Legs that a line leaves out.
    pub(crate) missing: Vec<usize>,
    /// With parity: writes go through a journal.
    pub(crate) has_journal: bool,
    /// They end in it.
    pub(crate) ends_there: bool,
    /// More parameters.
    pub(crate) more: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Raid1,
    Raid10(Format, usize),
    Parity(Kind),
}

pub(crate) const CHUNK: u64 = 8;

impl Case {
    /// One of the shapes with copies that are tried.
    pub(crate) fn of(seed: u64) -> Case {
        let shape = match seed % 6 {
            0..=2 => Shape::Raid1,
            3 => Shape::Raid10(Format::Near, 2),
            4 => Shape::Raid10(Format::Far, 2),
            _ => Shape::Raid10(Format::Offset, 2),
        };
        let legs = match shape {
            Shape::Raid1 => [2, 3][seed as usize / 6 % 2],
            _ => [3, 4][seed as usize / 6 % 2],
        };
        Case::new(shape, legs, seed)
    }

    /// One of the shapes with parity that are tried.
    pub(crate) fn with_parity(seed: u64) -> Case {
        const KINDS: [(Kind, usize); 10] = [
            (Kind::Raid5Ls, 3),
            (Kind::Raid6Zr, 4),
            (Kind::Raid5Ra, 4),
            (Kind::Raid6Nc, 5),
            (Kind::Raid4, 3),
            (Kind::Raid6N6, 4),
            (Kind::Raid5La, 5),
            (Kind::Raid6Ls6, 5),
            (Kind::Raid5N, 2),
            (Kind::Raid6Nr, 4),
        ];
        let (kind, legs) = KINDS[seed as usize % KINDS.len()];
        Case::new(Shape::Parity(kind), legs, seed)
    }

    fn new(shape: Shape, legs: usize, seed: u64) -> Case {
        // So that the legs have whole chunks.
        let len = match shape {
            Shape::Raid1 => 40,
            Shape::Raid10(..) => legs as u64 * CHUNK * 2,
            Shape::Parity(kind) => (legs - kind.family().parities()) as u64 * CHUNK * 3,
        };
        // One of three of the raid1 has a leg that writes may be behind on.
        let more = match shape {
            Shape::Raid1 if seed % 6 == 1 => {
                format!(" write_mostly {} max_write_behind 6", seed as usize / 12 % legs)
            }
            _ => String::new(),
        };
        Case {
            shape,
            legs,
            len,
            region: [8, 16][seed as usize / 2 % 2],
            in_sync: !seed.is_multiple_of(4),
            missing: Vec::new(),
            has_journal: false,
            ends_there: false,
            more,
        }
    }

    /// The sectors of a leg.
    pub(crate) fn device(&self) -> u64 {
        let legs = self.legs as u64;
        match self.shape {
            Shape::Raid1 => self.len,
            Shape::Raid10(_, copies) => self.len * copies as u64 / legs,
            Shape::Parity(kind) => self.len / (legs - kind.family().parities() as u64),
        }
    }

    /// What a resync goes through.
    pub(crate) fn total(&self) -> u64 {
        self.layout().resync_len().0
    }

    pub(crate) fn parity(&self) -> Option<Parity> {
        match self.layout() {
            Layout::Parity(parity) => Some(parity),
            _ => None,
        }
    }

    /// Makes steps for the set: with parity some that are whole stripes.
    pub(crate) fn steps(&self, rng: &mut Rng, count: usize) -> Vec<Step> {
        let most = self.parity().map_or(6, |parity| parity.stripe_len().0 + 4);
        steps(rng, self.len, count, most)
    }

    pub(crate) fn layout(&self) -> Layout {
        let device = Sectors(self.device());
        match self.shape {
            Shape::Raid1 => Layout::Raid1 { legs: self.legs, device },
            Shape::Parity(kind) => {
                let (level, word) = (kind.family().level(), kind.algorithm());
                let parity = Parity::new(level, word, self.legs, Sectors(CHUNK), device);
                Layout::Parity(parity.expect("a layout that dm-raid makes"))
            }
            Shape::Raid10(format, copies) => {
                let word = Raid10::word(format, copies, format != Format::Near);
                let layout = Raid10::new(word, self.legs, Sectors(CHUNK), device);
                Layout::Raid10(layout.expect("a layout that dm-raid makes"))
            }
        }
    }

    pub(crate) fn table(&self) -> String {
        let leg = |leg: usize| match self.missing.contains(&leg) {
            true => "- -".to_owned(),
            false => format!("{} {}", letter(Case::meta(leg)), letter(Case::data(leg))),
        };
        let legs: Vec<String> = (0..self.legs).map(leg).collect();
        let (kind, chunk, format) = match self.shape {
            Shape::Raid1 => ("raid1", 0, String::new()),
            Shape::Parity(kind) => (kind.name(), CHUNK, String::new()),
            Shape::Raid10(format, copies) => {
                let format = match format {
                    Format::Near => "near",
                    Format::Far => "far",
                    Format::Offset => "offset",
                };
                ("raid10", CHUNK, format!(" raid10_copies {copies} raid10_format {format}"))
            }
        };
        // The shortest that bits are kept for: a second.
        let mut journal = String::new();
        if self.has_journal {
            journal = format!(" journal_dev {}", letter(self.legs * 2));
        }
        if self.ends_there {
            journal += " journal_mode writeback";
        }
        let (region, more) = (self.region, &self.more);
        let params = format!("region_size {region} daemon_sleep 250{format}{more}{journal}");
        let count = 1 + params.split_whitespace().count();
        let Case { len, legs: count_of_legs, .. } = self;
        format!("0 {len} raid {kind} {count} {chunk} {params} {count_of_legs} {}", legs.join(" "))
    }

    /// Returns the leg that writes may be behind on.
    pub(crate) fn may_be_behind(&self) -> Option<usize> {
        self.more.strip_prefix(" write_mostly ")?.split(' ').next()?.parse().ok()
    }

    /// Tells whether a disk is the journal's.
    pub(crate) fn is_journal(&self, disk: usize) -> bool {
        self.has_journal && disk == self.legs * 2
    }

    pub(crate) fn meta(leg: usize) -> usize {
        leg * 2
    }

    pub(crate) fn data(leg: usize) -> usize {
        leg * 2 + 1
    }
}

fn letter(disk: usize) -> char {
    char::from(b'a' + disk as u8)
}

pub(crate) struct Rig {
    pub(crate) case: Case,
    pub(crate) world: World,
    /// For each leg, metadata and data.
    pub(crate) disks: Vec<Arc<SimDisk>>,
    pub(crate) device: Arc<MappedDevice>,
    pub(crate) sent: Arc<Traffic>,
    errors: Errors,
}

impl Rig {
    /// Sets a set up over new disks with different contents.
    pub(crate) fn new(case: &Case, seed: u64) -> Rig {
        let schedule = match seed % 3 {
            0 => Schedule::Priority(seed),
            _ => Schedule::Random(seed),
        };
        let world = World::with(&schedule, targets::registry(), &[]);
        let size = |disk: usize| match disk {
            _ if case.is_journal(disk) => JOURNAL,
            _ if disk.is_multiple_of(2) => META,
            _ => case.device() + 3,
        };
        let count = case.legs * 2 + usize::from(case.has_journal);
        let disks: Vec<_> = (0..count).map(|disk| world.add_disk(Sectors(size(disk)))).collect();
        for leg in 0..case.legs {
            for sector in 0..case.device() + 3 {
                let bytes = [(leg as u8 + 1) * 40 + (sector % 31) as u8; SECTOR];
                disks[Case::data(leg)].fill(Sector(sector), &bytes);
            }
        }
        let begins = if case.in_sync { Speed::AtOnce } else { Speed::Waits };
        disks.iter().for_each(|disk| disk.set_speed(begins));
        let device = world.set_up(0, &case.table());
        if case.in_sync {
            world.sim.run_until_idle().expect("a resync ends");
            disks.iter().for_each(|disk| disk.power_cycle(world.handle()));
        }
        disks.iter().for_each(|disk| disk.set_speed(speed(seed)));
        Rig::used(case, world, disks, device)
    }

    /// Sets the set up again to rebuild a leg, of which nothing is good.
    pub(crate) fn rebuild(case: &Case, seed: u64, disks: &[Arc<SimDisk>], leg: usize) -> Rig {
        disks.iter().for_each(|disk| disk.lose_cache());
        let case = Case { more: format!(" rebuild {leg}"), ..case.clone() };
        let first = first_copies(disks, &case);
        let data = &disks[Case::data(leg)];
        (0..case.device()).for_each(|sector| data.fill(Sector(sector), &[0xee; SECTOR]));
        let rig = Rig::again(&case, seed, disks);
        Rig { sent: Arc::new(Traffic::new(0, Arc::default(), Some(Legal::new(&first)))), ..rig }
    }

    /// Sets the set up again over disks that were there before, to be used.
    pub(crate) fn again(case: &Case, seed: u64, disks: &[Arc<SimDisk>]) -> Rig {
        let world = World::with(&Schedule::Random(seed), targets::registry(), disks);
        disks.iter().for_each(|disk| disk.set_speed(speed(seed)));
        let device = world.set_up(0, &case.table());
        Rig::used(case, world, disks.to_vec(), device)
    }

    fn used(case: &Case, world: World, disks: Vec<Arc<SimDisk>>, device: Arc<MappedDevice>) -> Rig {
        let first = first_copies(&disks, case);
        let sent = Traffic::new(0, Arc::default(), Some(Legal::new(&first)));
        let (case, sent) = (case.clone(), Arc::new(sent));
        Rig { case, world, disks, device, sent, errors: Arc::default() }
    }

    /// Sets the set up again over disks that were there before; no I/O waits.
    pub(crate) fn over(case: &Case, seed: u64, disks: &[Arc<SimDisk>]) -> Rig {
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&Schedule::Random(seed), targets::registry(), disks);
        let journal = Arc::new(Journal::default());
        disks.iter().for_each(|disk| disk.record(journal.clone()));
        let device = world.set_up(0, &case.table());
        let (case, sent) = (case.clone(), Arc::new(Traffic::new(0, journal, None)));
        Rig { case, world, disks: disks.to_vec(), device, sent, errors: Arc::default() }
    }

    /// Writes what the disks do into the record.
    pub(crate) fn record(&self) {
        self.disks.iter().for_each(|disk| disk.record(self.sent.journal().clone()));
    }

    /// Starts tasks that deal the steps out among themselves.
    pub(crate) fn start(&self, steps: &[Step], tasks: usize) -> Vec<Started<()>> {
        start(&self.world, &self.device, &self.sent, &self.errors, steps, tasks)
    }

    /// Runs steps to their end; the background is idle then.
    pub(crate) fn run(&self, steps: &[Step], tasks: usize) -> Result<(), String> {
        let started = self.start(steps, tasks);
        self.idle()?;
        match started.iter().all(Started::is_done) {
            true => self.sent.verdict(),
            false => Err(format!("a bio never ends: {}", self.status())),
        }
    }

    pub(crate) fn idle(&self) -> Result<(), String> {
        self.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())
    }

    /// Takes the bios that failed.
    pub(crate) fn take_errors(&self) -> Vec<(BioStep, BlkError)> {
        std::mem::take(&mut self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes a sector, makes it durable, and leaves the background no time for anything.
    pub(crate) fn write_durably(&self, sector: u64) -> Result<(), String> {
        let data = [0x99; SECTOR];
        let bios = [Bio::write(Sector(sector), &data), Bio::flush()];
        for bio in bios {
            let end = self.world.sim.try_block_on(self.device.submit(bio));
            end.map_err(|stuck| stuck.to_string())?.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Reads the whole device.
    pub(crate) fn content(&self) -> Result<Vec<u8>, String> {
        let read = self.world.sim.try_block_on(read_all(self.device.clone()));
        read.map_err(|stuck| format!("a read never ends: {stuck}"))?
    }

    /// Returns what is legal now.
    pub(crate) fn legal(&self) -> Legal {
        self.sent.legal().expect("a set is storage")
    }

    /// Reads the whole device, and holds it against what was written.
    pub(crate) fn read_back(&self) -> Result<(), String> {
        let (content, legal) = (self.content()?, self.legal());
        for (sector, bytes) in (0..).zip(content.chunks_exact(SECTOR)) {
            if !legal.read(sector, legal.now(), bytes) {
                return Err(format!("read back: {}", legal.explain(sector, bytes)));
            }
        }
        Ok(())
    }

    /// Fails where a copy on a leg that is there differs from the first, or parity is not that of the
    /// data: that of all data, and where all legs are there.
    pub(crate) fn copies_are_equal(&self) -> Result<(), String> {
        if let Some(parity) = self.case.parity() {
            return match self.case.missing.is_empty() {
                true => self.parity_is_right(&parity),
                false => Ok(()),
            };
        }
        for run in self.case.layout().runs(Sector::ZERO..Sector(self.case.len)) {
            let places = run.copies.iter().filter(|place| !self.case.missing.contains(&place.leg));
            let copies: Vec<Vec<u8>> = places
                .map(|place| {
                    let disk = &self.disks[Case::data(place.leg)];
                    disk.look(place.sector, run.len, <[u8]>::to_vec)
                })
                .collect();
            if copies.iter().any(|copy| *copy != copies[0]) {
                return Err(format!("copies differ in {run:?}: {}", self.status()));
            }
        }
        Ok(())
    }

    /// Computes parity byte by byte, with the weights as the layout has them.
    fn parity_is_right(&self, parity: &Parity) -> Result<(), String> {
        for row in (0..self.case.device()).map(Sector) {
            let stripe = parity.stripe_at(row);
            let block =
                |leg: usize| self.disks[Case::data(leg)].look(row, Sectors(1), <[u8]>::to_vec);
            let (mut p, mut q) = (vec![0; SECTOR], vec![0; SECTOR]);
            for leg in stripe.data() {
                for (at, byte) in block(leg).into_iter().enumerate() {
                    p[at] ^= byte;
                    q[at] ^= (0..stripe.weight(leg)).fold(byte, |byte, _| doubled(byte));
                }
            }
            let wrong_q = stripe.q().is_some_and(|leg| block(leg) != q);
            if block(stripe.p()) != p || wrong_q {
                let which = if wrong_q { "Q" } else { "P" };
                return Err(format!("{which} of row {row} is wrong: {}", self.status()));
            }
        }
        Ok(())
    }

    /// Fails where a leg is not in sync, or copies differ.
    pub(crate) fn is_whole(&self) -> Result<(), String> {
        let status = self.status();
        if !status.contains(&"A".repeat(self.case.legs)) || !status.contains("idle") {
            return Err(format!("not in sync: {status}"));
        }
        self.copies_are_equal()
    }

    /// Sends a message.
    pub(crate) fn message(&self, text: &str) -> Result<(), String> {
        let (message, slot) = (text.into(), Slot::Live);
        self.execute(Command::TargetMsg { id: id(0), sector: Sector::ZERO, message, slot })
    }

    /// Loads the set's table, which waits for the next resume.
    pub(crate) fn load(&self) -> Result<(), String> {
        let lines = sim_core::parse_table(&self.case.table()).map_err(|error| error.to_string())?;
        let targets = lines.into_iter().map(|(_, spec)| spec).collect();
        self.world.load(0, targets).map(drop).map_err(|error| format!("load: {error}"))
    }

    pub(crate) fn suspend(&self) -> Result<(), String> {
        self.execute(Command::DevSuspend { id: id(0), held: Held::Flush })
    }

    pub(crate) fn resume(&self) -> Result<(), String> {
        self.execute(Command::DevResume { id: id(0), held: Held::Flush })
    }

    fn execute(&self, command: Command) -> Result<(), String> {
        let ended = self.world.sim.try_block_on(self.world.control.execute(command));
        let ended = ended.map_err(|stuck| stuck.to_string())?;
        ended.map(drop).map_err(|failure| failure.to_string())
    }

    /// Returns what the last check has counted.
    pub(crate) fn mismatches(&self) -> u64 {
        let status = targets::lines::raid::Status::parse(&self.status()).expect("a status");
        status.mismatches
    }

    /// Changes the last copy of a sector behind the set's back, or one of its parities.
    pub(crate) fn spoil(&self, sector: u64) {
        let places = self.case.layout().places(Sector(sector));
        let place = places.last().expect("a set has copies");
        let leg = self.case.parity().map_or(place.leg, |parity| {
            let stripe = parity.stripe_at(place.sector);
            stripe.q().filter(|_| sector % 2 == 1).unwrap_or(stripe.p())
        });
        self.disks[Case::data(leg)].fill(place.sector, &[0xee; SECTOR]);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.status().contains(" idle ")
    }

    pub(crate) fn status(&self) -> String {
        let live = self.device.live().expect("a table");
        live.status(StatusKind::Info, Default::default()).expect("no panic").0[0].params.to_string()
    }
}

/// Doubles an element of the field.
fn doubled(byte: u8) -> u8 {
    byte << 1 ^ if byte >> 7 == 1 { 0x1d } else { 0 }
}

/// Says how fast disks are, for a seed.
fn speed(seed: u64) -> Speed {
    [Speed::Waits, Speed::Waits, Speed::Mixed, Speed::AtOnce][seed as usize / 3 % 4]
}

/// Returns what the first copies hold.
fn first_copies(disks: &[Arc<SimDisk>], case: &Case) -> Vec<u8> {
    let layout = case.layout();
    let first = layout.runs(Sector::ZERO..Sector(case.len)).flat_map(|run| {
        // The one that writes may be behind on does not count while there is another.
        let counts = |place: &&Place| case.may_be_behind() != Some(place.leg);
        let place = run.copies.iter().find(counts).expect("another");
        disks[Case::data(place.leg)].look(place.sector, run.len, <[u8]>::to_vec)
    });
    first.collect()
}
