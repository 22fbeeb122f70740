//! `port <dev>`: a way to a device that can be made to fail, to answer late, and not to answer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sim_core::{
    Area, Args, Bio, BlkError, CtrError, Features, Locked, Mapped, Profile, Runtime, Signal,
    StatusKind, StatusWriter, TableType, Target, TargetType,
};

/// What is done to bios on their way, by the number of the port.
#[derive(Default)]
pub(crate) struct Ports(Locked<Vec<Arc<Control>>>);

impl Ports {
    pub(crate) fn of(&self, port: usize) -> Arc<Control> {
        let mut ports = self.0.lock();
        while ports.len() <= port {
            ports.push(Arc::default());
        }
        ports[port].clone()
    }
}

/// How a port is.
#[derive(Default)]
pub(crate) struct Control {
    state: Locked<State>,
    changed: Signal,
}

#[derive(Default)]
struct State {
    faults: Vec<(u64, bool, BlkError)>,
    fails: Option<BlkError>,
    holds: bool,
    delay: Duration,
    /// Bios that are held, by their numbers.
    held: VecDeque<u64>,
    came: u64,
    /// Bios that came and have neither ended nor been given up.
    inside: u64,
}

impl Control {
    /// Makes the bio after so many others fail, and those after it where that is for good.
    pub(crate) fn fail_after(&self, others: u64, for_good: bool, error: BlkError) {
        self.state.lock().faults.push((others, for_good, error));
    }

    /// Makes all bios fail, those that are held too, when they go on.
    pub(crate) fn fail(&self, error: BlkError) {
        self.state.lock().fails = Some(error);
    }

    pub(crate) fn heal(&self) {
        {
            let mut state = self.state.lock();
            state.faults.clear();
            (state.fails, state.holds, state.delay) = (None, false, Duration::ZERO);
            state.held.clear();
        }
        self.changed.notify();
    }

    /// Holds bios from now on, or lets all go.
    pub(crate) fn hold(&self, holds: bool) {
        {
            let mut state = self.state.lock();
            state.holds = holds;
            if !holds {
                state.held.clear();
            }
        }
        self.changed.notify();
    }

    /// Lets the bio go that is held for the longest time.
    pub(crate) fn release_one(&self) {
        self.state.lock().held.pop_front();
        self.changed.notify();
    }

    /// Makes bios take so long.
    pub(crate) fn delay(&self, time: Duration) {
        self.state.lock().delay = time;
    }

    pub(crate) fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Returns how many bios came.
    pub(crate) fn came(&self) -> u64 {
        self.state.lock().came
    }

    /// Returns how many bios came and have not ended.
    pub(crate) fn inside(&self) -> u64 {
        self.state.lock().inside
    }

    async fn pass(&self, number: u64, runtime: &dyn Runtime) -> Result<(), BlkError> {
        let delay = self.state.lock().delay;
        if !delay.is_zero() {
            runtime.sleep(delay).await;
        }
        self.changed.until(|| (!self.state.lock().held.contains(&number)).then_some(())).await;
        self.state.lock().verdict()
    }
}

impl State {
    fn verdict(&mut self) -> Result<(), BlkError> {
        let mut found = self.fails;
        self.faults.retain_mut(|(others, for_good, error)| match *others {
            0 => {
                found = found.or(Some(*error));
                *for_good
            }
            _ => {
                *others -= 1;
                true
            }
        });
        found.map_or(Ok(()), Err)
    }
}

/// The target type.
pub(crate) struct Port {
    area: Area,
    control: Arc<Control>,
    runtime: Arc<dyn Runtime>,
}

impl TargetType for Port {
    const NAME: &'static str = "port";
    const VERSION: [u32; 3] = [0, 1, 0];
    /// As a disk's driver has it: requests may lie above it.
    const FEATURES: Features = Features { singleton: true, immutable: true, ..Features::NONE };

    fn ctr(args: &mut Args<'_>) -> Result<Port, CtrError> {
        let word = args.next("no device")?;
        let (start, len) = (args.target_start(), args.target_len());
        let area = args.area(word, start, len, "no such device")?;
        let control = args.shared::<Ports>().of(args.device_number().minor as usize);
        Ok(Port { area, control, runtime: args.runtime().clone() })
    }
}

/// Counts a bio that came, also where it is given up.
struct Inside<'a>(&'a Control);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.lock().inside -= 1;
    }
}

impl Target for Port {
    fn map<'a>(&'a self, mut bio: Bio<'a>) -> Mapped<'a> {
        let number = {
            let mut state = self.control.state.lock();
            (state.came, state.inside) = (state.came + 1, state.inside + 1);
            if state.holds {
                let number = state.came;
                state.held.push_back(number);
            }
            state.came
        };
        let inside = Inside(&self.control);
        Mapped::InFlight(Box::pin(async move {
            let _inside = inside;
            self.control.pass(number, &*self.runtime).await?;
            let sector = bio.sector;
            self.area.submit(sector, bio.reborrow()).await
        }))
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => out.device(&self.area),
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }

    fn profile(&self) -> Profile {
        Profile {
            flush_bypasses_map: false,
            table_type: Some(TableType::Requests),
            ..Profile::REMAP
        }
    }
}
