//! A set over simulated disks whose reshape is set up, and what is legal then.

use std::sync::{Arc, PoisonError};

use sim_core::{BlkError, BlockDevice, Held, MappedDevice, Sector, Sectors, StatusKind};
use targets::lines::raid::Kind;
use targets::raid::layout::{Format, Layout, Parity, Place, Raid10};
use targets::raid::superblock::Superblock;
use testkit::{
    BioStep, Journal, Legal, Rng, Schedule, SimDisk, Speed, Started, Traffic, World, read_all,
};

use crate::rig::SECTOR;
use crate::steps::{Errors, FLUSH, Step, start, steps};

const META: u64 = 16;

/// How far the two places of data are apart.
const ROOM: u64 = 32;

/// How much of each leg is in use: three windows at least.
const DEVICE: u64 = 96;

/// How many copies a raid10 has.
const COPIES: usize = 2;

/// A layout: its type, legs and chunk.
#[derive(Clone, Copy)]
pub(crate) struct Shape(pub(crate) Kind, pub(crate) usize, pub(crate) u64);

impl Shape {
    /// Where a raid10 keeps its copies.
    fn format(self) -> Option<Format> {
        match self.0 {
            Kind::Raid10Near => Some(Format::Near),
            Kind::Raid10Offset => Some(Format::Offset),
            _ => None,
        }
    }

    pub(crate) fn layout(self, offset: u64) -> Layout {
        let Shape(kind, legs, chunk) = self;
        let (chunk, device) = (Sectors(chunk), Sectors(DEVICE));
        let layout = match self.format() {
            Some(format) => {
                let word = Raid10::word(format, COPIES, format != Format::Near);
                Raid10::new(word, legs, chunk, device).map(Layout::Raid10)
            }
            None => {
                let (level, word) = (kind.family().level(), kind.algorithm());
                Parity::new(level, word, legs, chunk, device).map(Layout::Parity)
            }
        };
        layout.expect("a layout that dm-raid makes").at(Sectors(offset))
    }

    pub(crate) fn len(self) -> u64 {
        self.layout(0).len().0
    }

    /// As a status calls it.
    fn name(self) -> &'static str {
        match self.0 {
            Kind::Raid10Near => "raid10",
            kind => kind.name(),
        }
    }
}

/// A reshape.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) old: Shape,
    pub(crate) new: Shape,
    /// Without more or less legs: from behind the room to the beginning of the legs.
    forwards: bool,
}

impl Case {
    pub(crate) fn of(seed: u64) -> Case {
        use Kind::*;
        let (old, new, forwards) = [
            (Shape(Raid5Ls, 3, 8), Shape(Raid5La, 3, 8), false),
            (Shape(Raid5Ls, 3, 8), Shape(Raid5Ls, 4, 8), true),
            (Shape(Raid5Ls, 3, 8), Shape(Raid5N, 3, 16), true),
            (Shape(Raid5La, 4, 8), Shape(Raid5La, 3, 8), false),
            (Shape(Raid6Zr, 4, 8), Shape(Raid6Nc, 4, 8), false),
            (Shape(Raid6Nc, 4, 8), Shape(Raid6Nc, 5, 8), true),
            (Shape(Raid6Ls6, 5, 8), Shape(Raid6Ls6, 4, 8), false),
            (Shape(Raid5N, 3, 16), Shape(Raid5Ra, 3, 8), false),
            (Shape(Raid5Rs, 3, 8), Shape(Raid5Rs, 5, 8), true),
            (Shape(Raid6N6, 5, 16), Shape(Raid6Nr, 5, 8), true),
        ][seed as usize % 10];
        Case { old, new, forwards }
    }

    pub(crate) fn of_raid10(seed: u64) -> Case {
        use Kind::{Raid10Near as Near, Raid10Offset as Offset};
        let (old, new, forwards) = [
            (Shape(Near, 4, 8), Shape(Near, 4, 16), false),
            (Shape(Near, 3, 8), Shape(Near, 4, 8), true),
            (Shape(Near, 4, 8), Shape(Offset, 4, 8), false),
            (Shape(Near, 4, 8), Shape(Offset, 4, 8), true),
            (Shape(Offset, 3, 8), Shape(Offset, 4, 8), true),
            (Shape(Near, 2, 8), Shape(Near, 3, 8), true),
            (Shape(Offset, 4, 8), Shape(Near, 4, 16), false),
            (Shape(Near, 2, 16), Shape(Near, 4, 8), true),
        ][seed as usize % 8];
        Case { old, new, forwards }
    }

    pub(crate) fn delta(&self) -> i64 {
        self.new.1 as i64 - self.old.1 as i64
    }

    fn legs(&self) -> usize {
        self.old.1.max(self.new.1)
    }

    /// Where data is at first, and then.
    fn offsets(&self) -> (u64, u64) {
        if self.forwards { (ROOM, 0) } else { (0, ROOM) }
    }

    /// The sectors that are there before and after.
    pub(crate) fn len(&self) -> u64 {
        self.old.len().min(self.new.len())
    }

    /// The line that asks for it.
    fn asks(&self) -> String {
        let Shape(kind, _, chunk) = self.new;
        let len = if self.delta() > 0 { self.new.len() } else { self.old.len() };
        let delta = match self.delta() {
            0 => String::new(),
            delta => format!(" delta_disks {delta}"),
        };
        line(kind, self.legs(), chunk, len, &format!(" data_offset {ROOM}{delta}"))
    }

    /// The line that lets it run. Legs that go are there to its end: else parity stands in for them,
    /// and a power cut opens the write hole.
    pub(crate) fn runs(&self) -> String {
        let Shape(kind, legs, chunk) = self.new;
        match self.delta() {
            ..0 => line(kind, self.old.1, chunk, self.old.len(), ""),
            _ => line(kind, legs, chunk, self.new.len(), ""),
        }
    }

    /// The line of the set as it is then.
    pub(crate) fn stays(&self) -> String {
        let Shape(kind, legs, chunk) = self.new;
        line(kind, legs, chunk, self.new.len(), "")
    }
}

fn line(kind: Kind, legs: usize, chunk: u64, len: u64, more: &str) -> String {
    let letter = |disk: usize| char::from(b'a' + disk as u8);
    let legs: Vec<String> =
        (0..legs).map(|leg| format!("{} {}", letter(leg * 2), letter(leg * 2 + 1))).collect();
    let format = Shape(kind, legs.len(), chunk).format();
    let (kind, format) = match format {
        Some(Format::Near) => (Kind::Raid10, " raid10_copies 2 raid10_format near"),
        Some(_) => (Kind::Raid10, " raid10_copies 2 raid10_format offset"),
        None => (kind, ""),
    };
    let params = format!("region_size 16 daemon_sleep 250{format}{more}");
    let count = 1 + params.split_whitespace().count();
    format!("0 {len} raid {kind} {count} {chunk} {params} {} {}", legs.len(), legs.join(" "))
}

pub(crate) struct Rig {
    pub(crate) case: Case,
    world: World,
    pub(crate) disks: Vec<Arc<SimDisk>>,
    device: Arc<MappedDevice>,
    pub(crate) sent: Arc<Traffic>,
    errors: Errors,
    /// No bio comes before the table that lets the reshape run.
    pub(crate) loads_first: bool,
}

impl Rig {
    /// Makes a set whose reshape is set up.
    pub(crate) fn new(case: &Case, seed: u64) -> Rig {
        let schedule = match seed % 3 {
            0 => Schedule::Priority(seed),
            _ => Schedule::Random(seed),
        };
        let world = World::with(&schedule, targets::registry(), &[]);
        let size = |disk: usize| if disk.is_multiple_of(2) { META } else { DEVICE + ROOM };
        let disks: Vec<_> =
            (0..case.legs() * 2).map(|disk| world.add_disk(Sectors(size(disk)))).collect();
        for leg in 0..case.legs() {
            for sector in 0..DEVICE + ROOM {
                let bytes = [(leg as u8 + 1) * 40 + (sector % 31) as u8; SECTOR];
                disks[leg * 2 + 1].fill(Sector(sector), &bytes);
            }
        }
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let Shape(kind, legs, chunk) = case.old;
        let len = case.old.len();
        let device = world.set_up(0, &line(kind, legs, chunk, len, ""));
        world.sim.run_until_idle().expect("a resync ends");
        let mut rig = Rig::used(case, world, disks, device);
        match (case.delta(), case.forwards) {
            (1.., _) => rig.make_room(),
            // It has been reshaped before: that is how its data got there.
            (0, true) => {
                let more = format!(" data_offset {ROOM}");
                let other = if chunk == 8 { 16 } else { 8 };
                rig.load(&line(kind, legs, other, len, &more)).expect("a table");
                rig.load(&line(kind, legs, other, len, "")).expect("a table");
                rig.idle().expect("an end");
                rig.case.old = Shape(kind, legs, other);
                rig.is_right(&rig.case.old.layout(ROOM)).expect("parity");
            }
            _ => {}
        }
        rig.load(&rig.case.asks()).expect("a table that asks for a reshape");
        rig.disks.iter().for_each(|disk| disk.power_cycle(rig.world.handle()));
        let first = rig.first();
        rig.sent = Arc::new(Traffic::new(0, Arc::default(), Some(Legal::new(&first))));
        rig.disks.iter().for_each(|disk| disk.set_speed(speed(seed)));
        rig
    }

    /// Makes the legs longer in front.
    fn make_room(&mut self) {
        self.world.suspend(0, Held::Flush).expect("a suspend");
        for leg in 0..self.case.old.1 {
            let disk = &self.disks[leg * 2 + 1];
            let data = disk.look(Sector::ZERO, Sectors(DEVICE), <[u8]>::to_vec);
            disk.fill(Sector(ROOM), &data);
        }
    }

    fn used(case: &Case, world: World, disks: Vec<Arc<SimDisk>>, device: Arc<MappedDevice>) -> Rig {
        let sent = Arc::new(Traffic::new(0, Arc::default(), None));
        Rig { case: *case, world, disks, device, sent, errors: Arc::default(), loads_first: false }
    }

    /// Starts again over the same disks; no I/O waits.
    pub(crate) fn over(case: &Case, seed: u64, disks: &[Arc<SimDisk>]) -> Result<Rig, String> {
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&Schedule::Random(seed), targets::registry(), disks);
        let journal = Arc::new(Journal::default());
        disks.iter().for_each(|disk| disk.record(journal.clone()));
        let table = if is_over(disks) { case.stays() } else { case.runs() };
        let device = world.try_set_up(0, &table)?;
        let mut rig = Rig::used(case, world, disks.to_vec(), device);
        rig.sent = Arc::new(Traffic::new(0, journal, None));
        Ok(rig)
    }

    fn load(&self, table: &str) -> Result<(), String> {
        let lines = sim_core::parse_table(table).map_err(|error| error.to_string())?;
        let targets = lines.into_iter().map(|(_, spec)| spec).collect();
        self.world.load(0, targets).map_err(|error| format!("load: {error}"))?;
        self.world.resume(0).map(drop).map_err(|error| format!("resume: {error}"))
    }

    pub(crate) fn run(&self, steps: &[Step], tasks: usize) -> Result<(), String> {
        let Rig { world, device, sent, errors, .. } = self;
        // One that loses legs is shorter than it will be before it begins.
        let first = self.case.delta() < 0 || self.loads_first;
        if first {
            self.load(&self.case.runs())?;
        }
        let started = start(world, device, sent, errors, steps, tasks);
        if !first {
            self.load(&self.case.runs())?;
        }
        self.idle()?;
        match started.iter().all(Started::is_done) {
            true => self.sent.verdict(),
            false => Err(format!("a bio never ends: {}", self.status())),
        }
    }

    pub(crate) fn flush(&self) -> Result<(), String> {
        let Rig { world, device, sent, errors, .. } = self;
        let started = start(world, device, sent, errors, &[Step::Bio(FLUSH)], 1);
        self.idle()?;
        match started.iter().all(Started::is_done) {
            true => Ok(()),
            false => Err(format!("a flush never ends: {}", self.status())),
        }
    }

    pub(crate) fn idle(&self) -> Result<(), String> {
        self.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())
    }

    pub(crate) fn take_errors(&self) -> Vec<(BioStep, BlkError)> {
        std::mem::take(&mut self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads what there is before and after.
    pub(crate) fn content(&self) -> Result<Vec<u8>, String> {
        let read = self.world.sim.try_block_on(read_all(self.device.clone()));
        let mut content = read.map_err(|stuck| format!("a read never ends: {stuck}"))??;
        content.truncate(self.case.len() as usize * SECTOR);
        Ok(content)
    }

    pub(crate) fn legal(&self) -> Legal {
        self.sent.legal().expect("a set is storage")
    }

    pub(crate) fn read_back(&self) -> Result<(), String> {
        let (content, legal) = (self.content()?, self.legal());
        for (sector, bytes) in (0..).zip(content.chunks_exact(SECTOR)) {
            if !legal.read(sector, legal.now(), bytes) {
                return Err(format!("read back: {}", legal.explain(sector, bytes)));
            }
        }
        Ok(())
    }

    /// Returns what is where the old layout has it.
    fn first(&self) -> Vec<u8> {
        let layout = self.case.old.layout(self.case.offsets().0);
        // Places with parity are counted from there.
        let offset = layout.parity().map_or(Sectors::ZERO, |parity| parity.offset());
        let runs = layout.runs(Sector::ZERO..Sector(self.case.len()));
        let first = runs.flat_map(|run| {
            let at = run.copies[0].sector + offset;
            self.disks[run.copies[0].leg * 2 + 1].look(at, run.len, <[u8]>::to_vec)
        });
        first.collect()
    }

    fn is_right(&self, layout: &Layout) -> Result<(), String> {
        match layout {
            Layout::Parity(parity) => self.parity_is_right(parity),
            _ => self.copies_are_equal(layout),
        }
    }

    fn copies_are_equal(&self, layout: &Layout) -> Result<(), String> {
        for run in layout.runs(Sector::ZERO..layout.len().to_sector()) {
            let copy = |place: &Place| {
                self.disks[place.leg * 2 + 1].look(place.sector, run.len, <[u8]>::to_vec)
            };
            if run.copies.iter().any(|place| copy(place) != copy(&run.copies[0])) {
                return Err(format!("copies differ in {run:?}: {}", self.status()));
            }
        }
        Ok(())
    }

    fn parity_is_right(&self, parity: &Parity) -> Result<(), String> {
        for row in (0..DEVICE).map(Sector) {
            let stripe = parity.stripe_at(row);
            let at = row + parity.offset();
            let block = |leg: usize| self.disks[leg * 2 + 1].look(at, Sectors(1), <[u8]>::to_vec);
            let (mut p, mut q) = (vec![0; SECTOR], vec![0; SECTOR]);
            for leg in stripe.data() {
                for (at, byte) in block(leg).into_iter().enumerate() {
                    p[at] ^= byte;
                    let double = |byte: u8, _| byte << 1 ^ if byte >> 7 == 1 { 0x1d } else { 0 };
                    q[at] ^= (0..stripe.weight(leg)).fold(byte, double);
                }
            }
            if block(stripe.p()) != p || stripe.q().is_some_and(|leg| block(leg) != q) {
                return Err(format!("parity of row {row} is wrong: {}", self.status()));
            }
        }
        Ok(())
    }

    /// Fails where the set is not in its new layout, with all legs in sync.
    pub(crate) fn is_whole(&self) -> Result<(), String> {
        if self.case.delta() < 0 {
            self.load(&self.case.stays())?;
            self.idle()?;
        }
        let status = self.status();
        let (kind, legs) = (self.case.new.name(), self.case.new.1);
        let offset = self.case.offsets().1;
        let rows = self.case.new.layout(0).resync_len();
        let expected =
            format!("{kind} {legs} {} {rows}/{rows} idle 0 {offset} -", "A".repeat(legs));
        if status != expected {
            return Err(format!("expected {expected}, found {status}"));
        }
        if self.device.size().0 != self.case.new.len() {
            return Err("the device has not the length of the new layout".to_owned());
        }
        self.is_right(&self.case.new.layout(offset))
    }

    pub(crate) fn status(&self) -> String {
        let live = self.device.live().expect("a table");
        live.status(StatusKind::Info, Default::default()).expect("no panic").0[0].params.to_string()
    }
}

/// Tells whether superblocks say that a reshape is over.
fn is_over(disks: &[Arc<SimDisk>]) -> bool {
    let metas = disks.iter().step_by(2);
    let found = metas.filter_map(|meta| meta.look(Sector::ZERO, Sectors(1), Superblock::read));
    let freshest = found.max_by_key(|superblock| superblock.events).expect("a superblock");
    freshest.extension.is_some_and(|extension| extension.reshape.is_none())
}

fn speed(seed: u64) -> Speed {
    [Speed::Waits, Speed::Mixed, Speed::Waits, Speed::AtOnce][seed as usize / 3 % 4]
}

pub(crate) fn steps_of(case: &Case, seed: u64, count: usize) -> Vec<Step> {
    steps(
        &mut Rng::new(seed),
        case.len(),
        count,
        case.old.layout(0).parity().map_or(6, |parity| parity.stripe_len().0 + 4),
    )
}
