//! A journal that has failed: taken up again where it can be, and what helps where it cannot.
//!
//! As with the kernel, nothing can be written to a set whose journal has failed. What the journal has is then what
//! a crash would have left of it, and loading the table again replays it.

use std::path::PathBuf;

use daemon::Fault;
use sim_core::Access;
use targets::lines::raid::{JournalHealth, JournalMode};

use super::super::leg::file_of;
use super::super::leg::journal::is_journal;
use super::super::leg::label::Label;
use super::super::replace::{label_of, swap};
use super::super::state::{Line, look_at, number};
use crate::device_mapper::DeviceMapper;
use crate::devices::Device;
use crate::files::fresh;
use crate::watch::Watch;

/// Takes the journal of a set up again, if it has failed, and is its own still. Returns what was done; nothing
/// where it is in use.
///
/// # Errors
/// Where it cannot be taken up: the fault says why, and what helps.
pub(super) fn take_up(
    dm: &mut dyn DeviceMapper,
    device: &Device,
    line: &Line,
    watch: &dyn Watch,
) -> Result<Option<String>, Fault> {
    let name = device.name();
    let has_failed =
        |dm: &mut dyn DeviceMapper| Ok(look_at(dm, name)?.status.journal == JournalHealth::Failed);
    if !has_failed(dm)? {
        return Ok(None);
    }
    // What the legs got when it failed is in no log, and what that has is older.
    let is_older = line.params.journal_mode == Some(JournalMode::WriteBack);
    let why = match barred(dm, line)? {
        _ if is_older => {
            "writes ended in it (`writeback`), so that it may be older than the legs".to_owned()
        }
        Some(why) => why,
        None => match swap(dm, device, &device.live, watch) {
            Ok(()) if !has_failed(dm)? => return Ok(Some("its journal is used again".to_owned())),
            Ok(()) => "it has failed again".to_owned(),
            Err(fault) => fault.to_string(),
        },
    };
    let again = match is_older {
        true => "Instead of it".to_owned(),
        false => {
            format!("Once it is as it was, `dmsim heal {name}` takes it up again; where it is lost")
        }
    };
    let legs = legs(dm, line)?;
    let why = format!(
        "its journal has failed, and nothing can be written: {why}. {again}, `dmsim raid remove {name}` and `dmsim raid \
         assemble {legs} --name {name} --journal IMAGE --force` give the set an empty image for one, and what the lost \
         one alone had is gone"
    );
    Err(Fault::new(name, why))
}

/// Says why the image of a journal cannot be used; nothing where it can.
fn barred(dm: &mut dyn DeviceMapper, line: &Line) -> Result<Option<String>, Fault> {
    let Some(path) = path(dm, line)? else { return Ok(Some("its device is gone".to_owned())) };
    let shown = path.display();
    let image = dm.images()?.into_iter().find(|image| image.path == path);
    if let Some(fault) = image.and_then(|image| image.fault) {
        return Ok(Some(format!("{shown}: {fault}")));
    }
    let file = match fresh(&path, Access::ReadOnly) {
        Ok(file) => file,
        Err(fault) => return Ok(Some(fault.to_string())),
    };
    // A log that lost its beginning would be taken for an empty one, and what it had for written.
    let set = label_of(dm, line)?;
    let is_own = match (Label::read(&file), set) {
        (Ok(Some(own)), Some(set)) => own.is_of_same(&set) && is_journal(&file),
        _ => false,
    };
    Ok((!is_own).then(|| format!("{shown}: does not begin as a journal of this set")))
}

fn path(dm: &mut dyn DeviceMapper, line: &Line) -> Result<Option<PathBuf>, Fault> {
    file_of(dm, number(line.params.journal_dev.as_ref()))
}

/// Lists the images of the legs, as a command names them.
fn legs(dm: &mut dyn DeviceMapper, line: &Line) -> Result<String, Fault> {
    let mut legs = Vec::new();
    for leg in &line.legs {
        let file = file_of(dm, number(leg.data.as_ref()))?;
        legs.extend(file.map(|file| file.display().to_string()));
    }
    Ok(legs.join(" "))
}
