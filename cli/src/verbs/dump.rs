//! `dump`: what an image holds.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use daemon::{Fault, Instance};
use ops::DeviceMapper;
use ops::open::Holds;
use ops::partitions::locate;
use ops::snapshot;
use recognise::Found;
use serde::Serialize;
use serde_json::json;

use crate::args::dump::Dump;
use crate::client;
use crate::output::{complain, print};
use crate::show::{self, print_json};

/// The exit status where nothing is known.
const NOTHING: u8 = 4;

/// Prints what an image holds.
pub(super) fn run(
    instance: impl FnOnce() -> Result<Instance, Fault>,
    options: &Dump,
) -> Result<ExitCode, Fault> {
    let image = options.header.as_ref().unwrap_or(&options.image);
    // A file needs no instance, and none is started. Where one runs, it knows the names.
    let mut client = match image.exists() {
        true => None,
        false => instance().ok().and_then(|instance| client::find(&instance).ok().flatten()),
    };
    let dm = client.as_mut().map(|client| client as &mut dyn DeviceMapper);
    let image = &locate(dm, image)?;
    let wants_container = options.uuid || options.quiet || options.kind.is_some();
    if !wants_container && snapshot::is_store(image) {
        return dump_store(image, options.json, options.entries);
    }
    if options.entries {
        return Err(Fault::new(
            image.display(),
            "has no entries to list: it is no snapshot's store",
        ));
    }
    if !wants_container && let Some(shown) = dump_other(image, options.json)? {
        return Ok(shown);
    }
    dump_header(image, options)
}

/// Prints what an image holds that is no container; nothing where it is one, or nothing that is known.
fn dump_other(path: &Path, json: bool) -> Result<Option<ExitCode>, Fault> {
    fn show<T: Serialize + Display>(json: bool, kind: &str, value: &T) -> Result<ExitCode, Fault> {
        match json {
            true => print_json(&json!({ "type": kind, "holds": value })),
            false => print(&format!("{}\n", value.to_string().trim_end())),
        }
    }
    let holds = match ops::open::look(path) {
        Ok(holds) => holds,
        // Said by who looks for a container, as it is nothing that is known.
        Err(fault) if fault.status == NOTHING => return Ok(None),
        Err(fault) => return Err(fault),
    };
    let found = match holds {
        Holds::Member(told) => {
            return show(json, "linux_raid_member", &format!("member of {told}")).map(Some);
        }
        Holds::Known(found) => *found,
    };
    match &found {
        Found::Container(_) | Found::Nothing => Ok(None),
        Found::Lvm2(volume) => {
            volume.warnings.iter().for_each(|what| complain!("dmsim: warning: {what}"));
            show(json, "LVM2_member", volume.as_ref()).map(Some)
        }
        Found::Lvm1(member) => show(json, "LVM1_member", member.as_ref()).map(Some),
        Found::Evms(header) => show(json, "evms", header).map(Some),
        Found::Partitions(table) => {
            table.warnings.iter().for_each(|what| complain!("dmsim: warning: {what}"));
            show(json, "partitions", table).map(Some)
        }
        Found::Signature(signature) => show(json, signature.kind, signature).map(Some),
        Found::Image(format) => {
            let format = format.clone().of_file(&path.display().to_string());
            show(json, format.name, &format).map(Some)
        }
    }
}

fn dump_header(path: &Path, options: &Dump) -> Result<ExitCode, Fault> {
    let container = match ops::open::header(path) {
        // The exit status says it.
        Err(fault) if options.quiet => return Ok(ExitCode::from(fault.status)),
        other => other?,
    };
    match options.expected().check(&container, path) {
        Err(fault) if options.quiet => return Ok(ExitCode::from(fault.status)),
        other => other?,
    }
    if options.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    for warning in container.warnings() {
        complain!("dmsim: warning: {warning}");
    }
    match (options.uuid, options.json) {
        (true, _) => match container.uuid() {
            Some(uuid) => print(&format!("{uuid}\n")),
            None => Err(Fault::new(path.display(), "has no uuid")),
        },
        (false, true) => print_json(&container.dump()),
        (false, false) => print(&container.dump().to_string()),
    }
}

/// Prints what a snapshot's store holds; fails where it is damaged.
fn dump_store(path: &Path, json: bool, entries: bool) -> Result<ExitCode, Fault> {
    let store = snapshot::Summary::read(path)?;
    let mut to = BufWriter::new(io::stdout().lock());
    let written = match json {
        true => show::write_json(&store, &mut to, entries),
        false => show::write_text(&store, &mut to, path, entries),
    };
    match written.and_then(|()| to.flush()) {
        // A reader that has read enough is no fault.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Fault::new("standard output", error));
        }
        Ok(()) | Err(_) => {}
    }
    Ok(if store.is_damaged() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
