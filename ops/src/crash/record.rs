//! Records what is written to a device in use: dm-log-writes is put under it, over what it was.
//!
//! The device's table moves to a device below it while it is suspended, as for a snapshot.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use daemon::family::MADE_FOR_CRASH;
use daemon::{About, Fault, keep_out_of_core_dumps};
use fuse_frontend::files::mark_message;
use rustix::fs::SeekFrom;
use sim_core::control::{DevStatus, Id, Report, Slot};
use sim_core::{Access, DevNumber, KeyText, SECTOR_SIZE, TargetSpec};
use targets::lines::DeviceWord;

use crate::commands::{
    clear, create, load, message, one, remove, resume, resume_beside, suspend, unlike_any_other,
};
use crate::device_mapper::DeviceMapper;
use crate::devices::{
    Device, by_id, find, named, refuse_name_below, refuse_suspended_below, report,
};
use crate::files::path_of;
use crate::watch::{Watch, go_on};
use crate::words::{MAPPER, device_name};

/// The target that records.
const LOG_WRITES: &str = "log-writes";

/// How much of the base is copied at once, in bytes.
const PIECE: u64 = 1 << 20;

/// The least size of a log, in bytes; it is sparse, and cut to what is in it when the recording ends.
const MIN_LOG: u64 = 16 << 30;

/// Which device to record, and where to.
#[derive(Clone, Debug)]
pub struct Record {
    /// The mapped device, by its name or the path of its file.
    pub name: String,
    /// The log, which must not be there yet; what the device holds now goes beside it, with `.base` behind its name.
    pub log: PathBuf,
    /// The size of the log in bytes; nothing for as much as a day's work would not fill.
    pub size: Option<u64>,
}

/// What is done so far.
#[derive(Default)]
struct Done {
    table: Vec<TargetSpec>,
    below: bool,
    suspended: bool,
}

/// The path of what a device held before the recording.
pub fn base_of(log: &Path) -> PathBuf {
    beside(log, "base")
}

/// The path of something that belongs to a log: beside it, with an ending more.
pub fn beside(log: &Path, what: &str) -> PathBuf {
    let mut path = log.to_owned().into_os_string();
    path.push(format!(".{what}"));
    path.into()
}

/// Begins to record; returns the file that shows the device.
///
/// What the device holds is copied first, but for its holes: it is suspended meanwhile.
///
/// # Errors
/// Where it cannot be recorded, or `watch` interrupts it: all is as it was, or the fault says what is not.
pub fn start(dm: &mut dyn DeviceMapper, ask: &Record, watch: &dyn Watch) -> Result<PathBuf, Fault> {
    // The device's table may have keys in it.
    keep_out_of_core_dumps();
    let device = recordable(dm, &ask.name)?;
    let below = format!("{}-recorded", device.name());
    refuse_name_below(dm, device.name(), &below)?;
    let log = std::path::absolute(&ask.log).about(ask.log.display())?;
    let size = ask.size.unwrap_or(MIN_LOG + 2 * device.size().bytes());
    let file = File::create_new(&log).about(log.display())?;
    let made = file.set_len(size / SECTOR_SIZE * SECTOR_SIZE).about(log.display()).and_then(|()| {
        let base = base_of(&log);
        File::create_new(&base).about(base.display())
    });
    let base = match made {
        Ok(base) => base,
        Err(fault) => {
            let _stays = std::fs::remove_file(&log);
            return Err(fault);
        }
    };
    let mut done = Done::default();
    let (name, dm_name) = (device.name(), device.name().to_owned());
    let begun = begin(dm, &device, &below, &log, &base, &mut done, watch);
    let Err(fault) = begun else { return Ok(dm.mount().join(&dm_name)) };
    let undone = back(dm, name, &below, &done);
    for path in [base_of(&log), log] {
        let _stays = std::fs::remove_file(path);
    }
    Err(fault.undone(undone, format_args!("nothing is recorded, and `{name}` is as it was")))
}

fn begin(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    below: &str,
    log: &Path,
    base: &File,
    done: &mut Done,
    watch: &dyn Watch,
) -> Result<(), Fault> {
    let name = device.name();
    done.table = table(dm, name)?;
    let uuid = format!("{MADE_FOR_CRASH}{}", unlike_any_other(device.status.dev));
    create(dm, below, Some(uuid))?;
    done.below = true;
    load(dm, below, Access::ReadWrite, done.table.clone())?;
    go_on(name, watch)?;
    suspend(dm, name)?;
    done.suspended = true;
    resume(dm, below)?;
    copy(&dm.mount().join(below), base, device, watch)?;
    let line = format!("{MAPPER}{below} {}", DeviceWord(log.to_string_lossy().into_owned()));
    load(dm, name, Access::ReadWrite, one(device.size(), LOG_WRITES, &line))?;
    go_on(name, watch)?;
    resume(dm, name)
}

/// Copies what a device holds, but for its holes.
fn copy(from: &Path, to: &File, device: &Device, watch: &dyn Watch) -> Result<(), Fault> {
    let name = device.name();
    let source = File::open(from).about(from.display())?;
    let size = device.size().bytes();
    to.set_len(size).about("the copy of what it holds")?;
    let mut progress = watch.begin(name);
    let mut at = 0;
    let mut piece = vec![0; PIECE as usize];
    while at < size {
        go_on(name, watch)?;
        at = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => at,
        };
        let piece = &mut piece[..(size - at).min(PIECE) as usize];
        source.read_exact_at(piece, at).about(name)?;
        for (n, block) in (0..).zip(piece.chunks(4096)) {
            if block.iter().any(|byte| *byte != 0) {
                to.write_all_at(block, at + n * 4096).about("the copy of what it holds")?;
            }
        }
        at += piece.len() as u64;
        progress.show(at / SECTOR_SIZE, size / SECTOR_SIZE);
    }
    to.sync_all().about("the copy of what it holds")
}

/// Undoes what was done. Each step is tried, whatever became of those before it; returns the first fault.
fn back(dm: &mut dyn DeviceMapper, name: &str, below: &str, done: &Done) -> Result<(), Fault> {
    let mut result = Ok(());
    if done.suspended {
        result = result.and(clear(dm, name));
        let records = find(dm, name)
            .is_ok_and(|device| device.is_some_and(|device| device.only(LOG_WRITES).is_some()));
        result = result.and(match records {
            true => swap(dm, name, below, done.table.clone()),
            false => remove(dm, below).and_then(|()| resume(dm, name)),
        });
    } else if done.below {
        result = result.and(remove(dm, below));
    }
    result
}

/// Gives a device its table back that the device below has.
fn swap(
    dm: &mut dyn DeviceMapper,
    name: &str,
    below: &str,
    table: Vec<TargetSpec>,
) -> Result<(), Fault> {
    load(dm, name, Access::ReadWrite, table)?;
    // What was sent has ended before the device below stops: else it would wait for it.
    suspend(dm, name)?;
    suspend(dm, below)?;
    resume_beside(dm, name)?;
    remove(dm, below)
}

/// Ends a recording; returns the path of the log. The device goes on as it was before.
///
/// # Errors
/// Where the device is not recorded, or the log or a table cannot be written; nothing that was recorded is lost.
pub fn stop(dm: &mut dyn DeviceMapper, name: &str) -> Result<PathBuf, Fault> {
    keep_out_of_core_dumps();
    let (device, below) = recorded(dm, name)?;
    let name = device.name();
    device.refuse_suspended()?;
    let log = log_of(dm, &device)?;
    let is_full = is_full(dm, name)?;
    let table = table(dm, below.name())?;
    swap(dm, name, below.name(), table)?;
    if is_full {
        let why = "was full, or its disk was, and has not all that was written: record it anew, with a larger --size";
        return Err(Fault::new(log.display(), why));
    }
    finish(&log)?;
    Ok(log)
}

/// Cuts a log to what is in it. Nobody writes it any more, and if the daemon was killed that did, what it has not counted
/// is.
///
/// # Errors
/// Where it cannot be read or written, or is no log.
pub fn finish(log: &Path) -> Result<(), Fault> {
    let file = File::options().read(true).write(true).open(log).about(log.display())?;
    let fault = |error| Fault::new(log.display(), error);
    ::crash::log::count_all(&file).map_err(fault)?;
    let read = ::crash::log::read(&file).map_err(fault)?;
    file.set_len(read.end).and_then(|()| file.sync_all()).about(log.display())
}

/// Puts a mark into the log of a device that is recorded.
///
/// # Errors
/// Where it is not recorded, its log is full, or the text is empty, too long or has a zero.
pub fn mark(dm: &mut dyn DeviceMapper, name: &str, text: &str) -> Result<(), Fault> {
    let (device, _) = recorded(dm, name)?;
    if is_full(dm, device.name())? {
        return Err(Fault::new(
            device.name(),
            "its log is full, or its disk is, and takes no mark any more",
        ));
    }
    let words = mark_message(text).map_err(|why| Fault::new("mark", why))?;
    message(dm, device.name(), Slot::Live, &words).map(drop)
}

/// Tells whether a log has no room any more, so that nothing is logged.
fn is_full(dm: &mut dyn DeviceMapper, name: &str) -> Result<bool, Fault> {
    let status = report(dm, named(name), Report::Status, Slot::Live, KeyText::Zeros)?;
    let lines = status.map(|(_, lines)| lines).unwrap_or_default();
    Ok(lines.iter().any(|line| line.params.contains("logging_disabled")))
}

fn table(dm: &mut dyn DeviceMapper, name: &str) -> Result<Vec<TargetSpec>, Fault> {
    let table = report(dm, named(name), Report::Table, Slot::Live, KeyText::Plain)?;
    table.map(|(_, table)| table).ok_or_else(|| Fault::new(name, "no such device"))
}

/// Finds a device, and refuses what cannot be recorded.
fn recordable(dm: &mut dyn DeviceMapper, word: &str) -> Result<Device, Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(word, "no such device"))?;
    let name = device.name();
    if device.only(LOG_WRITES).is_some() {
        return Err(Fault::new(name, format!("is recorded already: `dmsim crash stop {name}`")));
    }
    if has_table_of_recorded(&device.status) {
        return Err(Fault::new(name, "has the table of a device that is recorded, and no other"));
    }
    device.refuse_suspended()?;
    device.refuse_unready()?;
    if device.status.read_only {
        return Err(Fault::new(name, "is read-only: nothing is written to it"));
    }
    refuse_suspended_below(dm, &device)?;
    // The marks go into a file beside the device's, which a device of that name would hide.
    let marks = format!("{name}.mark");
    if find(dm, &marks)?.is_some() {
        let why = format!(
            "cannot be recorded while there is a device `{marks}`: marks go into a file of that name"
        );
        return Err(Fault::new(name, why));
    }
    Ok(device)
}

/// Refuses to move a device's table while it is recorded: the recording would go with it, out of reach.
pub(crate) fn refuse_recorded(dm: &mut dyn DeviceMapper, device: &Device) -> Result<(), Fault> {
    let name = device.name();
    match is_recorded(dm, name) {
        true => {
            Err(Fault::new(name, format!("is recorded: `dmsim crash stop {name}` ends that first")))
        }
        false => Ok(()),
    }
}

/// Tells whether a device is recorded.
pub(crate) fn is_recorded(dm: &mut dyn DeviceMapper, name: &str) -> bool {
    recorded(dm, name).is_ok()
}

/// Finds a device that is recorded, and the device below that has its table.
fn recorded(dm: &mut dyn DeviceMapper, word: &str) -> Result<(Device, Device), Fault> {
    let name = device_name(dm.mount(), word);
    let device = find(dm, &name)?.ok_or_else(|| Fault::new(word, "no such device"))?;
    let not = || Fault::new(device.name(), "is not recorded by `dmsim crash`");
    let dev = words(&device)?.0.ok_or_else(not)?;
    let below = by_id(dm, Id::Dev(dev))?.ok_or_else(not)?;
    match has_table_of_recorded(&below.status) {
        true => Ok((device, below)),
        false => Err(not()),
    }
}

/// Tells whether a device was made to have the table of one that is recorded.
pub fn has_table_of_recorded(status: &DevStatus) -> bool {
    status.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(MADE_FOR_CRASH))
}

/// The two devices of a line of `log-writes`: what is logged, and the log.
fn words(device: &Device) -> Result<(Option<DevNumber>, Option<DevNumber>), Fault> {
    let Some(line) = device.only(LOG_WRITES) else {
        return Err(Fault::new(device.name(), "is not recorded by `dmsim crash`"));
    };
    let mut words = line.params.split_whitespace().map(|word| word.parse().ok());
    Ok((words.next().flatten(), words.next().flatten()))
}

fn log_of(dm: &mut dyn DeviceMapper, device: &Device) -> Result<PathBuf, Fault> {
    let dev = words(device)?.1.ok_or_else(|| Fault::new(device.name(), "its log has no path"))?;
    path_of(dm, dev)
}
