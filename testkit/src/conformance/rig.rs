//! A device under test, the bios that it is sent, and the versions that are legal.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use sim_core::{
    Bio, BlkResult, BlockDevice, Flags, Limits, MappedDevice, Op, SECTOR_SIZE, Sector, Sectors,
};

use super::{DISK, SCHEDULE, Suite};
use crate::{Entry, Event, Journal, Legal, Rng, Schedule, SimDisk, Speed, Stuck, World, send};

pub(super) const SECTOR: usize = SECTOR_SIZE as usize;

/// The longest read of a whole device's content, in sectors.
const READ: u64 = 256;

/// A device under test.
pub(super) struct Rig {
    pub(super) world: World,
    pub(super) disks: Vec<Arc<SimDisk>>,
    pub(super) device: Arc<MappedDevice>,
    pub(super) sent: Arc<Sent>,
}

/// What the device was sent so far.
pub(super) struct Sent {
    /// Where bios go into the record of the disks, too.
    pub(super) journal: Arc<Journal>,
    state: Mutex<State>,
    is_storage: bool,
}

struct State {
    legal: Legal,
    next: u64,
    wrong: Option<String>,
}

/// A bio to be sent.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    pub(super) sector: u64,
    pub(super) len: u64,
    pub(super) flags: Flags,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { op, sector, len, flags } = self;
        write!(f, "{op:?} {sector}+{len}")?;
        f.write_str(if flags.preflush { " preflush" } else { "" })?;
        f.write_str(if flags.fua { " fua" } else { "" })
    }
}

impl Suite {
    /// Returns the schedule of a seed, unless the environment gives another.
    pub(super) fn schedule(&self, seed: u64) -> Schedule {
        match std::env::var(SCHEDULE) {
            Ok(text) => text.parse().unwrap_or_else(|error| panic!("{SCHEDULE}: {error}")),
            Err(_) if seed.is_multiple_of(3) => Schedule::Priority(seed),
            Err(_) => Schedule::Random(seed),
        }
    }

    /// Sets the device up over new disks; the seed chooses schedule, disks and path.
    pub(super) fn start(&self, seed: u64) -> Result<Rig, String> {
        self.start_under(&self.schedule(seed), seed)
    }

    /// As [`start`](Self::start), under this schedule.
    pub(super) fn start_under(&self, schedule: &Schedule, seed: u64) -> Result<Rig, String> {
        let world = World::with(schedule, self.registry.clone(), &[]);
        let disks: Vec<Arc<SimDisk>> = (0..3).map(|_| world.add_disk(DISK)).collect();
        let speed =
            [Speed::Waits, Speed::Waits, Speed::Mixed, Speed::AtOnce][seed as usize / 3 % 4];
        disks.iter().for_each(|disk| disk.set_speed(speed));
        let device = world.try_set_up(0, &self.table)?;
        device.set_folding(seed.is_multiple_of(2));
        // What setting up has written is there for good.
        disks.iter().for_each(|disk| disk.power_cycle(world.handle()));
        let sent = Sent::new(Legal::new(&[]), self.is_storage());
        let rig = Rig { world, disks, device, sent: Arc::new(sent) };
        if self.is_storage() {
            rig.adopt()?;
        }
        Ok(rig)
    }

    /// Sets the device up again over disks that were there before. No I/O waits.
    pub(super) fn restart(&self, seed: u64, disks: &[Arc<SimDisk>]) -> Result<Rig, String> {
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&Schedule::Random(seed), self.registry.clone(), disks);
        self.over(world, disks)
    }

    /// Sets the device up in a world that has its disks.
    pub(super) fn over(&self, world: World, disks: &[Arc<SimDisk>]) -> Result<Rig, String> {
        let device =
            world.try_set_up(0, &self.table).map_err(|error| format!("restart: {error}"))?;
        let sent = Arc::new(Sent::new(Legal::new(&[]), self.is_storage()));
        Ok(Rig { world, disks: disks.to_vec(), device, sent })
    }
}

impl Rig {
    /// Chooses bios for the device, many of them close together.
    pub(super) fn steps(&self, rng: &mut Rng, count: usize) -> Vec<Step> {
        let (size, limits) = (self.device.size().0, self.device.limits());
        (0..count).map(|_| Step::random(rng, size, &limits)).collect()
    }

    /// Sends the bios from so many tasks, and returns how each ended.
    pub(super) fn run(&self, steps: &[Step], tasks: usize) -> Result<Vec<BlkResult>, String> {
        let (latch, results) = (Arc::new(Latch::new(tasks)), Arc::new(Mutex::new(Vec::new())));
        for task in 0..tasks {
            let own: Vec<Step> = steps.iter().skip(task).step_by(tasks).cloned().collect();
            let (sent, device) = (self.sent.clone(), self.device.clone());
            let (latch, results) = (latch.clone(), results.clone());
            self.world.sim.start(format!("task {task}"), async move {
                for step in own {
                    let result = sent.clone().send(device.clone(), step).await;
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
                latch.count();
            });
        }
        self.wait(&latch)?;
        Ok(std::mem::take(&mut results.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// As [`run`](Self::run), on healthy disks: no bio of a storage device may fail.
    pub(super) fn run_well(&self, steps: &[Step], tasks: usize) -> Result<(), String> {
        let results = self.run(steps, tasks)?;
        match results.into_iter().find_map(Result::err) {
            Some(error) if self.sent.is_storage => {
                Err(format!("a bio failed though no I/O below did: {error}"))
            }
            Some(_) | None => self.sent.verdict(),
        }
    }

    pub(super) fn wait(&self, latch: &Latch) -> Result<(), String> {
        let stuck = |stuck: Stuck| format!("a bio never ends: {stuck}");
        self.world.sim.try_block_on(latch.wait()).map_err(stuck)
    }

    /// Reads the whole device.
    pub(super) fn content(&self) -> Result<Vec<u8>, String> {
        let size = self.device.size().0;
        let mut content = vec![0; size as usize * SECTOR];
        for at in (0..size).step_by(READ as usize) {
            let end = size.min(at + READ) as usize * SECTOR;
            let buffer = &mut content[at as usize * SECTOR..end];
            let read = send(self.device.clone(), Bio::read(Sector(at), buffer));
            let result = self.world.sim.try_block_on(read);
            let result = result.map_err(|stuck| format!("a read never ends: {stuck}"))?;
            result.map_err(|error| format!("a read at {at} failed: {error}"))?;
        }
        Ok(content)
    }

    /// Reads the whole device, and holds it against what was written.
    pub(super) fn read_back(&self) -> Result<(), String> {
        if !self.sent.is_storage {
            return Ok(());
        }
        let content = self.content()?;
        let legal = self.sent.legal();
        for (sector, bytes) in (0..).zip(content.chunks_exact(SECTOR)) {
            if !legal.read(sector, legal.now(), bytes) {
                return Err(format!("read back: {}", legal.explain(sector, bytes)));
            }
        }
        Ok(())
    }

    /// Reads the whole device after a power cut, and holds it against what may be there.
    pub(super) fn check_power_cut(&self, legal: &Legal) -> Result<(), String> {
        if !self.sent.is_storage {
            return Ok(());
        }
        for (sector, bytes) in (0..).zip(self.content()?.chunks_exact(SECTOR)) {
            if !legal.after_power_cut(sector, bytes) {
                return Err(legal.explain(sector, bytes));
            }
        }
        Ok(())
    }

    /// Starts over with the content as it is: all of it is durable.
    pub(super) fn adopt(&self) -> Result<(), String> {
        if self.sent.is_storage {
            let block = self.device.limits().logical_block().0;
            self.sent.state().legal = Legal::new(&self.content()?).in_blocks_of(block);
        }
        Ok(())
    }

    /// Fails where an I/O of a disk has not ended.
    pub(super) fn drained(&self) -> Result<(), String> {
        let pending: u64 = self.disks.iter().map(|disk| disk.in_flight()).sum();
        if pending > 0 {
            return Err(format!("{pending} I/Os are in flight below a suspended device"));
        }
        Ok(())
    }
}

impl Step {
    pub(super) fn random(rng: &mut Rng, size: u64, limits: &Limits) -> Step {
        let op = match rng.below(16) {
            0..=8 => Op::Write,
            9..=11 => Op::Read,
            12 if limits.max_discard_sectors > 0 => Op::Discard,
            13 if limits.max_write_zeroes_sectors > 0 => Op::WriteZeroes,
            12 | 13 => Op::Read,
            _ => Op::Flush,
        };
        let mut flags = Flags::default();
        if op == Op::Write {
            flags.fua = rng.below(4) == 0;
            flags.preflush = rng.below(8) == 0;
        }
        if op == Op::Flush {
            return Step { op, sector: 0, len: 0, flags };
        }
        let block = limits.logical_block().0.max(1);
        let blocks = (size / block).max(1);
        // Half of the bios share a few blocks: that is where they meet.
        let near = if rng.below(2) == 0 { blocks.min(12) } else { blocks };
        let from = rng.below(near as usize) as u64;
        let len = 1 + rng.below(12.min((blocks - from) as usize)) as u64;
        Step { op, sector: from * block, len: len * block, flags }
    }
}

impl Sent {
    fn new(legal: Legal, is_storage: bool) -> Sent {
        let state = Mutex::new(State { legal, next: 0, wrong: None });
        Sent { journal: Arc::new(Journal::default()), state, is_storage }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn legal(&self) -> Legal {
        self.state().legal.clone()
    }

    fn new_id(&self) -> u64 {
        let mut state = self.state();
        state.next += 1;
        state.next
    }

    fn event(&self, event: Event) {
        if self.is_storage {
            self.state().legal.apply(&event);
            self.journal.push(Entry::Event(event));
        }
    }

    /// Returns what was wrong with a read, if one was.
    pub(super) fn verdict(&self) -> Result<(), String> {
        self.state().wrong.take().map_or(Ok(()), Err)
    }

    /// Sends one bio; dropped before its end, it counts as one that failed.
    pub(super) async fn send(self: Arc<Sent>, device: Arc<MappedDevice>, step: Step) -> BlkResult {
        let id = self.new_id();
        let Step { op, sector, len, flags } = step;
        if op == Op::Read {
            return self.read(device, id, sector, len).await;
        }
        let data: Arc<[u8]> = match op {
            Op::Write => pattern(id, sector, len),
            _ => vec![0; len as usize * SECTOR].into(),
        };
        if op.is_write() {
            let data = (op != Op::Discard).then(|| data.clone());
            self.event(Event::Write { id, sector, len, data });
        }
        if op == Op::Flush || flags.preflush {
            self.event(Event::Flush { id });
        }
        let mut end = End { sent: &self, id, fua: flags.fua, ok: false };
        let bio = match op {
            Op::Write => Bio::write(Sector(sector), &data),
            _ => Bio::without_data(op, Sector(sector), Sectors(len)),
        };
        let result = send(device, bio.with_flags(flags)).await;
        end.ok = result.is_ok();
        result
    }

    async fn read(&self, device: Arc<MappedDevice>, id: u64, at: u64, len: u64) -> BlkResult {
        let since = self.state().legal.now();
        let mut buffer = vec![0xee; len as usize * SECTOR];
        let result = send(device, Bio::read(Sector(at), &mut buffer)).await;
        if result.is_ok() && self.is_storage {
            let mut state = self.state();
            for (sector, bytes) in (at..).zip(buffer.chunks_exact(SECTOR)) {
                if !state.legal.read(sector, since, bytes) && state.wrong.is_none() {
                    let found = state.legal.explain(sector, bytes);
                    state.wrong = Some(format!("bio {id}, a read of {at}+{len}: {found}"));
                }
            }
        }
        result
    }
}

/// Writes the end of a bio down, however it comes.
struct End<'a> {
    sent: &'a Sent,
    id: u64,
    fua: bool,
    ok: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.sent.event(Event::End { id: self.id, ok: self.ok, fua: self.fua });
    }
}

/// Returns data that no other bio and no other sector has.
pub(super) fn pattern(id: u64, sector: u64, len: u64) -> Arc<[u8]> {
    let words = (sector..sector + len)
        .flat_map(|sector| (0..SECTOR as u64 / 8).map(move |word| id << 40 | sector << 8 | word));
    words.flat_map(u64::to_le_bytes).collect()
}

/// Ends when so many have counted.
pub(super) struct Latch(Mutex<(usize, Option<Waker>)>);

impl Latch {
    pub(super) fn new(left: usize) -> Latch {
        Latch(Mutex::new((left, None)))
    }

    pub(super) fn count(&self) {
        let mut latch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latch.0 -= 1;
        if latch.0 == 0
            && let Some(waker) = latch.1.take()
        {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let mut latch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            latch.1 = Some(cx.waker().clone());
            if latch.0 == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
