//! A multipath device over ports to one disk, what it is sent, and what is legal then.

use std::sync::{Arc, PoisonError};

use sim_core::control::{Command, Slot};
use sim_core::{
    Args, BlkError, CtrError, Held, MappedDevice, Sector, Sectors, StatusKind, Target, TargetType,
};
use targets::lines::multipath::Status;
use testkit::{BioStep, Legal, Schedule, Speed, Started, Traffic, World, id, read_all};

use crate::port::{Control, Port, Ports};
pub(crate) use crate::steps::{Errors, Step, start, steps};

const SECTOR: usize = 512;
pub(crate) const LEN: u64 = 48;

/// The sectors of the longest bio.
pub(crate) const LONGEST: u64 = 6;

/// Selectors, with what a line has for each path.
const SELECTORS: [(&str, usize); 5] = [
    ("round-robin 0", 0),
    ("queue-length 0", 0),
    ("service-time 0", 2),
    ("historical-service-time 2 900 2", 0),
    ("io-affinity 0", 1),
];

/// A multipath device.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// `bio` or `rq`.
    pub(crate) mode: &'static str,
    pub(crate) queue_if_no_path: bool,
    /// How many paths each group has.
    pub(crate) groups: Vec<usize>,
    /// Which selector each group has.
    pub(crate) selectors: Vec<usize>,
}

impl Case {
    /// One of the shapes that are tried.
    pub(crate) fn of(seed: u64) -> Case {
        let groups = [vec![2], vec![1, 1], vec![2, 1], vec![3]][seed as usize % 4].clone();
        let selector = |group: usize| (seed as usize / 4 + group) % SELECTORS.len();
        Case {
            mode: ["bio", "rq"][seed as usize / 3 % 2],
            queue_if_no_path: false,
            selectors: (0..groups.len()).map(selector).collect(),
            groups,
        }
    }

    pub(crate) fn paths(&self) -> usize {
        self.groups.iter().sum()
    }

    pub(crate) fn table(&self) -> String {
        self.table_with(|_| 1)
    }

    /// Returns the table, with what each path carries next to others.
    fn table_with(&self, throughput: impl Fn(usize) -> u64) -> String {
        let queue = if self.queue_if_no_path { "3 queue_if_no_path" } else { "2" };
        let mut table =
            format!("0 {LEN} multipath {queue} queue_mode {} 0 {} 1", self.mode, self.groups.len());
        let mut port = 0;
        for (count, selector) in self.groups.iter().zip(&self.selectors) {
            let (name, args) = SELECTORS[*selector];
            table += &format!(" {name} {count} {args}");
            for path in 0..*count {
                port += 1;
                table += &format!(" {}", Rig::path(port - 1));
                match args {
                    1 => table += &format!(" {:x}", 1 << path),
                    2 => table += &format!(" 1 {}", throughput(port - 1)),
                    _ => {}
                }
            }
        }
        table
    }
}

/// Takes hold of the ports, for the rig.
struct Reach;

impl TargetType for Reach {
    const NAME: &'static str = "reach";
    const VERSION: [u32; 3] = [0, 1, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Reach, CtrError> {
        let ports = args.shared::<Ports>();
        REACHED.with(|reached| *reached.borrow_mut() = Some(ports));
        Ok(Reach)
    }
}

thread_local! {
    static REACHED: std::cell::RefCell<Option<Arc<Ports>>> = const { std::cell::RefCell::new(None) };
}

impl Target for Reach {
    fn map<'a>(&'a self, _bio: sim_core::Bio<'a>) -> sim_core::Mapped<'a> {
        sim_core::Mapped::Completed(Err(BlkError::Io))
    }
    fn status(&self, _kind: StatusKind, _out: &mut sim_core::StatusWriter<'_>) -> std::fmt::Result {
        Ok(())
    }
    fn iterate_devices(&self, _each: &mut dyn FnMut(&sim_core::Area)) {}
}

pub(crate) struct Rig {
    pub(crate) case: Case,
    pub(crate) world: World,
    pub(crate) ports: Vec<Arc<Control>>,
    pub(crate) device: Arc<MappedDevice>,
    pub(crate) sent: Arc<Traffic>,
    errors: Errors,
}

impl Rig {
    /// Sets a multipath device up over ports to a new disk.
    pub(crate) fn new(case: &Case, seed: u64) -> Rig {
        Rig::new_with(case, seed, |_| 1)
    }

    /// As [`new`](Self::new), with what each path carries next to others.
    pub(crate) fn new_with(case: &Case, seed: u64, throughput: impl Fn(usize) -> u64) -> Rig {
        let schedule = match seed % 3 {
            0 => Schedule::Priority(seed),
            _ => Schedule::Random(seed),
        };
        let registry = targets::registry().with::<Port>().with::<Reach>();
        let world = World::with(&schedule, registry, &[]);
        let disk = world.add_disk(Sectors(LEN));
        (0..LEN).for_each(|sector| disk.fill(Sector(sector), &[sector as u8; SECTOR]));
        disk.set_speed([Speed::Waits, Speed::Mixed, Speed::AtOnce][seed as usize / 3 % 3]);
        world.set_up(99, "0 1 reach");
        let reached = REACHED.with(|reached| reached.borrow_mut().take()).expect("it was made");
        for path in 0..case.paths() {
            world.set_up(path as u32 + 1, &format!("0 {LEN} port 7:0"));
        }
        let ports = (0..case.paths()).map(|path| reached.of(path + 1)).collect();
        let device = world.set_up(0, &case.table_with(throughput));
        let first = disk.content();
        let sent = Arc::new(Traffic::new(0, Arc::default(), Some(Legal::new(&first))));
        let case = case.clone();
        world.take_log();
        Rig { case, world, ports, device, sent, errors: Arc::default() }
    }

    /// What a line or a message calls a path.
    pub(crate) fn path(path: usize) -> String {
        format!("253:{}", path + 1)
    }

    /// Starts tasks that deal the steps out among themselves.
    pub(crate) fn start(&self, steps: &[Step], tasks: usize) -> Vec<Started<()>> {
        start(&self.world, &self.device, &self.sent, &self.errors, steps, tasks)
    }

    /// Runs steps to their end.
    pub(crate) fn run(&self, steps: &[Step], tasks: usize) -> Result<(), String> {
        let started = self.start(steps, tasks);
        self.idle()?;
        self.all_ended(&started)
    }

    /// Fails where a bio has not ended, or was not told the truth.
    pub(crate) fn all_ended(&self, started: &[Started<()>]) -> Result<(), String> {
        match started.iter().all(Started::is_done) {
            true => self.sent.verdict(),
            false => Err(format!("a bio never ends: {}", self.text())),
        }
    }

    pub(crate) fn idle(&self) -> Result<(), String> {
        self.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())
    }

    /// Takes the bios that failed.
    pub(crate) fn take_errors(&self) -> Vec<(BioStep, BlkError)> {
        std::mem::take(&mut self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fails where a bio did.
    pub(crate) fn no_errors(&self) -> Result<(), String> {
        match self.take_errors().first() {
            Some((step, error)) => Err(format!("{step} failed: {error}; {}", self.text())),
            None => Ok(()),
        }
    }

    /// Reads the whole device, and holds it against what was written.
    pub(crate) fn read_back(&self) -> Result<(), String> {
        let read = self.world.sim.try_block_on(read_all(self.device.clone()));
        let content = read.map_err(|stuck| format!("a read never ends: {stuck}"))??;
        let legal = self.sent.legal().expect("it is storage");
        for (sector, bytes) in (0..).zip(content.chunks_exact(SECTOR)) {
            if !legal.read(sector, legal.now(), bytes) {
                return Err(format!("read back: {}", legal.explain(sector, bytes)));
            }
        }
        Ok(())
    }

    /// Fails where something is counted as in flight, with nothing in flight.
    pub(crate) fn counts_nothing(&self) -> Result<(), String> {
        let status = self.status();
        for (group, selector) in status.groups.iter().zip(&self.case.selectors) {
            let in_flight = match SELECTORS[*selector].0.split(' ').next() {
                Some("queue-length" | "service-time") => 0,
                Some("historical-service-time") => 1,
                _ => continue,
            };
            if group.paths.iter().any(|path| path.selector[in_flight] != 0) {
                return Err(format!("counted for ever: {}", self.text()));
            }
        }
        match self.ports.iter().all(|port| port.inside() == 0) {
            true => Ok(()),
            false => Err("a bio is still on a path".to_owned()),
        }
    }

    /// Sends a message.
    pub(crate) fn message(&self, text: &str) -> Result<(), String> {
        let (message, slot) = (text.into(), Slot::Live);
        self.execute(Command::TargetMsg { id: id(0), sector: Sector::ZERO, message, slot })
    }

    pub(crate) fn suspend(&self, held: Held) -> Result<(), String> {
        self.execute(Command::DevSuspend { id: id(0), held })
    }

    pub(crate) fn resume(&self) -> Result<(), String> {
        self.execute(Command::DevResume { id: id(0), held: Held::NoFlush })
    }

    fn execute(&self, command: Command) -> Result<(), String> {
        let name = format!("{command:?}");
        let ended = self.world.sim.try_block_on(self.world.control.execute(command));
        let ended = ended.map_err(|stuck| format!("{name}: {stuck}"))?;
        ended.map(drop).map_err(|failure| format!("{name}: {failure}"))
    }

    /// Returns the status, as text.
    pub(crate) fn text(&self) -> String {
        let live = self.device.live().expect("a table");
        live.status(StatusKind::Info, Default::default()).expect("no panic").0[0].params.to_string()
    }

    pub(crate) fn status(&self) -> Status<targets::lines::DeviceWord> {
        Status::parse(&self.text()).expect("a status")
    }

    /// Returns for each path whether it is in use, and how often it failed.
    pub(crate) fn paths(&self) -> Vec<(bool, u32)> {
        let groups = self.status().groups.into_iter();
        groups.flat_map(|group| group.paths).map(|path| (path.is_active, path.failures)).collect()
    }

    pub(crate) fn events(&self) -> u32 {
        self.device.events().number()
    }
}
