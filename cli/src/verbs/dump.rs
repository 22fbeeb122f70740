//! `dump`: what a container or a snapshot's store holds.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use daemon::Fault;
use ops::snapshot;

use crate::args::dump::Dump;
use crate::output::print;
use crate::show::{self, print_json};

/// Prints what a container or a snapshot's store holds.
pub(super) fn run(options: &Dump) -> Result<ExitCode, Fault> {
    let image = options.header.as_ref().unwrap_or(&options.image);
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
    dump_header(image, options)
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
        eprintln!("dmsim: warning: {warning}");
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
