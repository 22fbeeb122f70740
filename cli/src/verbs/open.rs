//! `open`, `close` and `dump`.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::fault::USAGE;
use daemon::launch::{Failed, launch, this_program};
use daemon::protocol::Request;
use daemon::{About, Client, Fault, Instance, Options, keep_out_of_core_dumps};
use ops::open::stack::{self, Ask, Opened};
use ops::snapshot;
use sim_core::control::WhenOpen;

use crate::args::dump::{Close, Dump};
use crate::args::open::{Form, Open};
use crate::client;
use crate::keys::TypedKeys;
use crate::output::print;
use crate::show::{self, print_json};
use crate::terminal::Terminal;

/// The exit status where some of a stack could not be opened, and the rest is.
const IN_PART: u8 = 11;

pub(super) fn open(instance: &Instance, options: &Open) -> Result<ExitCode, Fault> {
    // Key files are read from here on.
    keep_out_of_core_dumps();
    options.check()?;
    for warning in options.warnings() {
        eprintln!("dmsim: warning: {warning}");
    }
    match options.form()? {
        Form::One { image, .. } if options.test_passphrase => try_key(&image, options),
        Form::One { .. } if options.stack.json || options.stack.plan => {
            let why =
                "--json and --plan are of all that an image holds: leave NAME out, or say --name";
            Err(Fault::new("open", why).with_status(USAGE))
        }
        Form::One { image, name } => open_one(instance, options, image, name),
        Form::All { images, name } => {
            let ask = options.ask_all(images, name);
            if options.stack.plan { plan(&ask, options) } else { open_all(instance, &ask, options) }
        }
    }
}

fn try_key(image: &Path, options: &Open) -> Result<ExitCode, Fault> {
    let slot = ops::open::try_key(image, &options.kind()?, &mut TypedKeys::new(options))?;
    if let (true, Some(slot)) = (options.verbose, slot) {
        eprintln!("dmsim: key slot {slot} opens");
    }
    Ok(ExitCode::SUCCESS)
}

fn open_one(
    instance: &Instance,
    options: &Open,
    image: PathBuf,
    name: String,
) -> Result<ExitCode, Fault> {
    let mut client = client::connect_or_start(instance)?.quiet(options.batch_mode);
    warn_of_unfinished(&mut client, instance, &image)?;
    let ask = options.ask(image, name)?;
    let file = ops::open::open(&mut client, &ask, &mut TypedKeys::new(options))?;
    print(&format!("{}\n", file.display()))
}

fn open_all(instance: &Instance, ask: &Ask, options: &Open) -> Result<ExitCode, Fault> {
    let mut client = client::connect_or_start(instance)?.quiet(options.batch_mode);
    for image in &ask.images {
        warn_of_unfinished(&mut client, instance, image)?;
    }
    let instance = client.served(instance);
    let (mut keys, watch) = (TypedKeys::new(options), Terminal::watch()?);
    // Hundreds of devices are made durable together.
    client.done(&Request::Batch)?;
    let opened = stack::open(&mut client, &instance, ask, &mut keys, &watch);
    client.done(&Request::Commit)?;
    tell(&opened?, options)
}

/// Says what was opened, and what was not.
fn tell(opened: &Opened, options: &Open) -> Result<ExitCode, Fault> {
    if options.stack.json {
        print_json(opened)?;
    } else {
        for missed in &opened.not_opened {
            eprintln!("dmsim: {}: not opened: {}", missed.name, missed.why);
        }
        print(&match options.stack.plan {
            true => show::planned(opened),
            false => show::opened(opened),
        })?;
    }
    Ok(if opened.not_opened.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(IN_PART) })
}

/// Opens everything in an instance of its own, where nothing can be written, and says how.
fn plan(ask: &Ask, options: &Open) -> Result<ExitCode, Fault> {
    let dir = tempfile::Builder::new().prefix("dmsim-plan.").tempdir();
    let dir = dir.about(std::env::temp_dir().display())?;
    let instance = Instance::find(Some(dir.path()))?;
    launch(&this_program(), &instance, &Options::default()).map_err(|failed| match failed {
        Failed::AlreadyRuns(fault) | Failed::Fault(fault) => fault,
    })?;
    let mut client = client::connect(&instance)?;
    let ask = Ask { read_only: true, ..ask.clone() };
    let (mut keys, watch) = (TypedKeys::new(options), Terminal::watch()?);
    let opened = stack::open(&mut client, &instance, &ask, &mut keys, &watch);
    client.done(&Request::Stop { force: true })?;
    client.wait_for_end()?;
    tell(&opened?, options)
}

fn warn_of_unfinished(client: &mut Client, instance: &Instance, image: &Path) -> Result<(), Fault> {
    let instance = client.served(instance);
    for unfinished in snapshot::unfinished_below(client, &instance, image)? {
        eprintln!("dmsim: warning: {unfinished}");
    }
    Ok(())
}

pub(super) fn close(instance: &Instance, options: &Close) -> Result<ExitCode, Fault> {
    let open = if options.deferred { WhenOpen::Defer } else { WhenOpen::Refuse };
    let mut client = client::connect(instance)?;
    let instance = client.served(instance);
    match stack::is_stack(&mut client, &instance, &options.name)? {
        Some(stack) => {
            client.done(&Request::Batch)?;
            let closed = stack::close(&mut client, &instance, &stack, open);
            client.done(&Request::Commit)?;
            closed?;
        }
        None => ops::open::close(&mut client, &options.name, open)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn dump(options: &Dump) -> Result<ExitCode, Fault> {
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
