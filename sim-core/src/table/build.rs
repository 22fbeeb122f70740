//! Builds a table, with every check that the kernel makes when one is loaded.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::devices::{Devices, FindDevice};
use super::{Entry, FlushPlan, MAX_TABLE_LEN, MAX_TARGETS, Table, TableError, TargetSpec};
use crate::ctr::args::Surroundings;
use crate::sync::barrier::Barrier;
use crate::{
    Access, Args, CtrError, Discarded, Errno, Flat, Op, OpenDevice, Registry, Sector, Target,
    split_words,
};

/// What a table is built with.
pub(crate) struct Build<'a> {
    pub(crate) access: Access,
    pub(crate) registry: &'a Registry,
    pub(crate) finder: &'a dyn FindDevice,
    pub(crate) around: Surroundings<'a>,
    /// What the device's other tables have open already: one opening serves them all.
    pub(crate) open: &'a [Arc<OpenDevice>],
}

impl Build<'_> {
    fn barrier(&self) -> Barrier {
        Barrier::new(self.around.runtime.clone(), format!("the table of {}", self.around.number))
    }

    pub(super) fn log(&self, text: fmt::Arguments<'_>) {
        self.around.log.line(&format!("device-mapper: table: {}: {text}", self.around.number));
    }
}

impl Table {
    /// Builds a table, with every check that the kernel makes when one is loaded but those of
    /// [`limits`](Self::limits), and logs what the kernel logs.
    pub(crate) async fn build(specs: &[TargetSpec], with: &Build<'_>) -> Result<Table, TableError> {
        if specs.is_empty() {
            with.around.log.line("device-mapper: ioctl: populate_table: no targets specified");
            return Err(TableError::new("no targets specified"));
        }
        if specs.len() > MAX_TARGETS {
            let found = specs.len();
            return Err(TableError {
                detail: format!("expected at most {MAX_TARGETS} lines, found {found}"),
                ..TableError::new("too many targets")
            });
        }
        let mut devices = Devices::new(with.finder, with.access, with.open);
        let barrier = with.barrier();
        let mut entries: Vec<Entry> = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            match add_target(&entries, spec, &mut devices, with, &barrier).await {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    with.around.log.line("device-mapper: ioctl: error adding target to table");
                    return Err(error.in_target(index));
                }
            }
        }
        let ends = entries.iter().map(|entry| (entry.begin + entry.len).0).collect();
        let flush = FlushPlan::new(&entries, &devices.order);
        let is_remap = |entry: &Entry| {
            let is_opaque = |op| matches!(entry.target.flatten(op, Sector::ZERO), Flat::Opaque);
            !is_opaque(Op::Read) && !is_opaque(Op::Write)
        };
        let remap_only = entries.iter().all(is_remap);
        let zeroing = zeroing(&entries, is_remap, &devices.order);
        let (devices, access) = (devices.order, with.access);
        let revision = 0.into();
        let table =
            Table { entries, ends, devices, flush, access, remap_only, zeroing, revision, barrier };
        table.revise();
        Ok(table)
    }
}

/// Returns the devices that have to make a discard read as zeros for all of the table to do so: those
/// below the targets that do not promise it themselves. None where such a target does more than a
/// remap.
fn zeroing(
    entries: &[Entry],
    is_remap: impl Fn(&Entry) -> bool,
    devices: &[Arc<OpenDevice>],
) -> Option<Vec<Arc<OpenDevice>>> {
    let mut asked = HashSet::new();
    for entry in entries {
        match entry.profile.discarded {
            Discarded::Zeros => continue,
            Discarded::Anything if !is_remap(entry) => return None,
            Discarded::Anything | Discarded::AsBelow => {}
        }
        entry.target.iterate_devices(&mut |area| _ = asked.insert(area.number()));
    }
    Some(devices.iter().filter(|device| asked.contains(&device.number())).cloned().collect())
}

/// Makes one target, with the checks of `dm_table_add_target` in its order.
async fn add_target(
    before: &[Entry],
    spec: &TargetSpec,
    devices: &mut Devices<'_>,
    with: &Build<'_>,
    barrier: &Barrier,
) -> Result<Entry, TableError> {
    let name = &spec.target_type;
    let plain = |text: String| {
        with.log(format_args!("{text}"));
        TableError::new(text)
    };
    // Types that do not mix with others: if there is one, it is the first.
    let first = before.first().map(|entry| &entry.target_type);
    if let Some(first) = first.filter(|first| first.features().singleton) {
        let first = first.name();
        return Err(plain(format!("target type {first} must appear alone in table")));
    }
    if spec.len.is_zero() {
        return Err(plain("zero-length target".to_owned()));
    }
    if spec.start.checked_add(spec.len).is_none_or(|end| end.0 > MAX_TABLE_LEN.0) {
        return Err(plain("too large device".to_owned()));
    }
    let Some(target_type) = with.registry.find(name) else {
        return Err(plain(format!("{name}: unknown target type")));
    };
    let features = target_type.features();
    let refuse = |text: &str, error: TableError| {
        with.log(format_args!("{name}: {text} (-{})", error.errno.name()));
        Err(error)
    };
    let fault = |text: &str| refuse(text, TableError::new(text));
    if features.singleton && !before.is_empty() {
        return fault("singleton target type must appear alone in table");
    }
    if features.always_writeable && with.access.is_read_only() {
        return fault("target type may not be included in a read-only table");
    }
    let mixes = first.is_none_or(|first| {
        first.name() == name || !(features.immutable || first.features().immutable)
    });
    if !mixes {
        return fault("immutable target type cannot be mixed with other target types");
    }
    let expected = before.last().map_or(Sector::ZERO, |last| last.begin + last.len);
    if spec.start != expected {
        let kernel = "Gap in table";
        let what = if spec.start < expected { "an overlap" } else { "a gap" };
        let detail = format!("{what}: expected start sector {expected}, found {}", spec.start);
        return refuse(kernel, TableError { detail, ..TableError::new(kernel) });
    }
    let words = Zeroizing::new(split_words(&spec.params));
    let (made, routes) = loop {
        let (made, routes) = {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let place = (spec.start, spec.len);
            let mut args = Args::new(&words, place, devices, with.around, name);
            let made = barrier.run(None, || Some(target_type.ctr(&mut args)));
            (made.unwrap_or_else(panicked), args.take_routes())
        };
        // A target does not wait for its devices: where one has to be opened first, what came of
        // that is there when it is made anew.
        if made.is_ok() || !devices.wait().await {
            break (made, routes);
        }
    };
    let made = barrier.wait(None, async { Some(read_metadata(made).await) }).await;
    match made.unwrap_or_else(panicked) {
        Ok(target) => {
            let (profile, target_type) = (target.profile(), target_type.clone());
            let (begin, len, routes) = (spec.start, spec.len, routes.map(Box::new));
            Ok(Entry { begin, len, target_type, target, profile, routes })
        }
        Err(error) => {
            let (arg, detail, errno) = (error.arg, error.detail.clone(), error.errno);
            let kernel = error.kernel.clone();
            refuse(&error.kernel, TableError { errno, kernel, target: None, arg, detail })
        }
    }
}

/// What a target that panics is refused with.
fn panicked() -> Result<Box<dyn Target>, CtrError> {
    Err(CtrError::new("the target panicked").errno(Errno::IO))
}

/// Carries out the second half of making a target.
async fn read_metadata(
    made: Result<Box<dyn Target>, CtrError>,
) -> Result<Box<dyn Target>, CtrError> {
    let mut target = made?;
    target.read_metadata().await?;
    Ok(target)
}
