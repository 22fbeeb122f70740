//! `multipath <#features> [<features>]* <#handler args> [<handler> [<args>]*] <#groups> <first group>
//! [<selector> <#args> [<args>]* <#paths> <#path args> [<dev> [<path args>]*]+]+`: sends each bio by one
//! of several paths to the same storage.
//!
//! Paths lie in groups, of which one is in use; its selector chooses a path for each bio:
//! `round-robin`, `queue-length`, `service-time`, `historical-service-time` or `io-affinity`. A path on
//! which a bio fails is out of use until it is reinstated, and the bio goes by another. Where no path is
//! left it fails, or with the feature `queue_if_no_path` waits. Other features:
//! `queue_mode bio|rq|mq` is what the device takes, which decides what may be stacked;
//! `retain_attached_hw_handler`, `pg_init_retries <n>` and `pg_init_delay_msecs <n>` are about hardware
//! handlers, which no device here has.
//!
//! Messages: `fail_path <dev>`, `reinstate_path <dev>`, `disable_group <n>`, `enable_group <n>`,
//! `switch_group <n>`, `queue_if_no_path`, `fail_if_no_path`.

mod carry;
mod messages;
mod selector;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};

use sim_core::{
    Area, Args, Bio, BoxFuture, CtrError, DevNumber, Discarded, Features, Held, Locked, Mapped,
    OpenDevice, Profile, Reply, Runtime, Sector, Sectors, Signal, Spots, StatusKind, StatusWriter,
    Target, TargetEvents, TargetLog, TargetType, reply,
};

use self::state::State;
use crate::lines;
use crate::lines::multipath::{GroupStatus, Line, PathStatus, QueueMode, Selector, Status};

/// Several paths to the same storage.
pub struct Multipath {
    line: Line<Arc<OpenDevice>>,
    /// The paths of each group.
    paths: Vec<Vec<Area>>,
    state: Locked<State>,
    /// Wakes bios that wait for a path.
    signal: Signal,
    suspended: AtomicBool,
    number: DevNumber,
    len: Sectors,
    runtime: Arc<dyn Runtime>,
    events: TargetEvents,
    log: TargetLog,
}

impl TargetType for Multipath {
    const NAME: &'static str = "multipath";
    const VERSION: [u32; 3] = [1, 14, 0];
    const FEATURES: Features = Features { singleton: true, immutable: true, ..Features::NONE };

    fn ctr(args: &mut Args<'_>) -> Result<Multipath, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let (start, len) = (args.target_start(), args.target_len());
        let areas = line.groups.iter().map(|group| {
            group.paths.iter().map(|path| Area::new(path.device.clone(), start, len)).collect()
        });
        Ok(Multipath {
            paths: areas.collect(),
            state: Locked::new(State::new(&line)),
            line,
            signal: Signal::default(),
            suspended: AtomicBool::new(false),
            number: args.device_number(),
            len,
            runtime: args.runtime().clone(),
            events: args.events(),
            log: args.log(),
        })
    }
}

impl Target for Multipath {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        self.carry(bio)
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => self.info(out),
            StatusKind::Table => {
                let word = |device: &Arc<OpenDevice>| {
                    lines::device_word(&Area::whole(device.clone()), out)
                };
                let mut line = self.line.try_map(word)?;
                {
                    let state = self.state();
                    // What a suspend has switched off is not shown, and not forgotten.
                    let saved = out.is_for_record() && state.saved;
                    line.features.queue_if_no_path = state.queue_if_no_path || saved;
                    line.first = state.shown_group();
                }
                write!(out, "{line}")
            }
        }
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        let status = self.status_now(out)?;
        write!(out, "nr_priority_groups={}", status.groups.len())?;
        for (nr, (group, line)) in status.groups.iter().zip(&self.line.groups).enumerate() {
            let (state, count) = (group.state.letter(), group.paths.len());
            write!(out, ",pg_state_{nr}={state},nr_pgpaths_{nr}={count}")?;
            write!(out, ",path_selector_name_{nr}={}", line.selector.name())?;
            for (path, PathStatus { device, is_active, failures, .. }) in
                group.paths.iter().enumerate()
            {
                let state = if *is_active { 'A' } else { 'F' };
                write!(out, ",path_name_{nr}_{path}={device},is_active_{nr}_{path}={state}")?;
                // Of the path its selector says nothing there.
                write!(
                    out,
                    ",fail_count_{nr}_{path}={failures},path_selector_status_{nr}_{path}="
                )?;
            }
        }
        Ok(())
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.paths.iter().flatten().for_each(each);
    }

    fn profile(&self) -> Profile {
        Profile {
            num_secure_erase_bios: 0,
            flush_bypasses_map: false,
            discarded: Discarded::AsBelow,
            map_may_be_repeated: true,
            table_type: Some(self.line.features.queue_mode.table_type()),
            ..Profile::REMAP
        }
    }

    /// By one path, as all lead to the same place.
    fn stores<'a>(
        &'a self,
        offset: Sector,
        each: &mut dyn FnMut(&'a Area, Sector),
    ) -> Option<Sectors> {
        let (group, path) = self.state().active_paths().next()?;
        each(&self.paths[group][path], offset);
        Some(self.len - offset.from_start())
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let state = self.state();
        for (group, paths) in self.paths.iter().enumerate() {
            for (nr, path) in paths.iter().enumerate() {
                let in_use = state.active_paths().next() == Some((group, nr));
                let failed = !state.active_paths().any(|path| path == (group, nr));
                let how = match (in_use, failed) {
                    (true, _) => ", first in use",
                    (false, true) => ", failed",
                    (false, false) => "",
                };
                // Groups are counted from 1 in table lines and messages.
                out.at(
                    path,
                    offset,
                    format!("the same storage, by path {nr} of group {}{how}", group + 1),
                );
            }
        }
        Some(self.len - offset.from_start())
    }

    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        reply(self.take_message(words))
    }

    fn message_device(&self, words: &[&str]) -> Option<usize> {
        messages::device(words)
    }

    fn presuspend_with(&self, held: Held) {
        let keeps = held == Held::NoFlush && self.line.features.queue_mode == QueueMode::Requests;
        self.state().suspend(held, keeps);
        self.signal.notify();
    }

    fn presuspend_undo(&self) {
        self.resume();
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        self.suspended.store(true, SeqCst);
        Box::pin(std::future::ready(()))
    }

    fn resume(&self) {
        self.suspended.store(false, SeqCst);
        self.state().resume();
    }
}

impl Multipath {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes a path out of use.
    fn fail_path(&self, group: usize, path: usize) {
        if self.state().fail(group, path) {
            self.tell(format_args!("Failing path {}.", self.paths[group][path].number()));
        }
    }

    /// Takes a path into use again, and lets bios that wait for one go on.
    fn reinstate_path(&self, group: usize, path: usize) {
        if self.state().reinstate(group, path) {
            self.tell(format_args!("Reinstating path {}.", self.paths[group][path].number()));
            self.signal.notify();
        }
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        self.log.line(format_args!("{}: {what}", self.number));
        self.events.raise();
    }

    fn info(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        write!(out, "{}", self.status_now(out)?)
    }

    fn status_now(&self, out: &StatusWriter<'_>) -> Result<Status<String>, fmt::Error> {
        let words =
            self.line.try_map(|device| lines::device_word(&Area::whole(device.clone()), out))?;
        let state = self.state();
        let group = |(nr, group): (usize, lines::multipath::Group<String>)| GroupStatus {
            state: state.group_state(nr),
            selector: match group.selector {
                Selector::HistoricalServiceTime { base_weight, threshold_multiplier } => {
                    vec![base_weight, threshold_multiplier]
                }
                Selector::RoundRobin
                | Selector::QueueLength
                | Selector::ServiceTime
                | Selector::IoAffinity => Vec::new(),
            },
            paths: group
                .paths
                .into_iter()
                .zip(&state.groups[nr].paths)
                .enumerate()
                .map(|(path, (word, known))| PathStatus {
                    device: word.device,
                    is_active: known.is_active,
                    failures: known.failures,
                    selector: state.groups[nr].selector.info(path),
                })
                .collect(),
        };
        let shown = state.shown_group().map_or(1, |group| group + 1);
        Ok(Status {
            queues: state.queues,
            pg_init_count: 0,
            current: shown.min(words.groups.len()),
            groups: words.groups.into_iter().enumerate().map(group).collect(),
        })
    }
}
