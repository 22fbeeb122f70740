//! `open` and `close`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::fault::USAGE;
use daemon::launch::{Failed, launch, this_program};
use daemon::protocol::Request;
use daemon::{About, Client, Fault, Instance, Options, keep_out_of_core_dumps};
use ops::open::stack::{self, Ask, Opened};
use ops::snapshot;
use recognise::shown_line;
use sim_core::control::WhenOpen;

use crate::args::dump::Close;
use crate::args::open::Open;
use crate::args::open::stack::Form;
use crate::client;
use crate::keys::TypedKeys;
use crate::output::{complain, print};
use crate::show::{self, print_json};
use crate::terminal::Terminal;

/// The exit status where some of a stack could not be opened, and the rest is.
const IN_PART: u8 = 11;

pub(super) fn open(instance: &Instance, options: &Open) -> Result<ExitCode, Fault> {
    // Key files are read from here on.
    keep_out_of_core_dumps();
    options.check()?;
    for warning in options.warnings() {
        complain!("dmsim: warning: {warning}");
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
    let watch = Terminal::watch_to_the_end()?;
    let mut keys = TypedKeys::new(options, &watch);
    let slot = ops::open::try_key(image, &options.kind()?, &mut keys, &watch)?;
    if let (true, Some(slot)) = (options.verbose, slot) {
        complain!("dmsim: key slot {slot} opens");
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
    let watch = Terminal::watch_to_the_end()?;
    let mut keys = TypedKeys::new(options, &watch);
    let instance = client.served(instance);
    let file = ops::open::open(&mut client, &instance, &ask, &mut keys, &watch)?;
    print(&format!("{}\n", file.display())).map_err(|fault| {
        // Whoever called is told of a failure, and does not know of the device.
        fault.undone(ops::open::close(&mut client, &ask.name, WhenOpen::Refuse), CLOSED_AGAIN)
    })
}

fn open_all(instance: &Instance, ask: &Ask, options: &Open) -> Result<ExitCode, Fault> {
    let mut client = client::connect_or_start(instance)?.quiet(options.batch_mode);
    for image in &ask.images {
        warn_of_unfinished(&mut client, instance, image)?;
    }
    let instance = client.served(instance);
    let watch = Terminal::watch_to_the_end()?;
    let mut keys = TypedKeys::new(options, &watch);
    // Hundreds of devices are made durable together.
    client.done(&Request::Batch)?;
    let opened = stack::open(&mut client, &instance, ask, &mut keys, &watch);
    client.done(&Request::Commit)?;
    let opened = opened?;
    tell(&opened, options).map_err(|fault| {
        let closed = stack::close(&mut client, &instance, &opened.name, WhenOpen::Refuse);
        fault.undone(closed, CLOSED_AGAIN)
    })
}

/// What becomes of what is opened where nobody can be told of it.
const CLOSED_AGAIN: &str = "what was opened is closed again";

/// Says what was opened, and what was not.
fn tell(opened: &Opened, options: &Open) -> Result<ExitCode, Fault> {
    if options.stack.json {
        print_json(opened)?;
    } else {
        for missed in &opened.not_opened {
            let (name, why) = (shown_line(&missed.name), shown_line(&missed.why));
            complain!("dmsim: {name}: not opened: {why}");
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
    // From here on a signal ends it in its order: nothing is left of the instance.
    let watch = Terminal::watch_to_the_end()?;
    let dir = tempfile::Builder::new().prefix("dmsim-plan.").tempdir();
    let dir = dir.about(std::env::temp_dir().display())?;
    let instance = Instance::find(Some(dir.path()))?;
    launch(&this_program(), &instance, &Options::default()).map_err(|failed| match failed {
        Failed::AlreadyRuns(fault) | Failed::Fault(fault) => fault,
    })?;
    let mut client = client::connect(&instance)?;
    let ask = Ask { read_only: true, ..ask.clone() };
    let mut keys = TypedKeys::new(options, &watch);
    // Nothing of it is to last: without this, each device would be made durable by itself.
    client.done(&Request::Batch)?;
    let opened = stack::open(&mut client, &instance, &ask, &mut keys, &watch);
    client.done(&Request::Stop { force: true })?;
    client.wait_for_end()?;
    tell(&opened?, options)
}

fn warn_of_unfinished(client: &mut Client, instance: &Instance, image: &Path) -> Result<(), Fault> {
    let instance = client.served(instance);
    for unfinished in snapshot::unfinished_below(client, &instance, image)? {
        complain!("dmsim: warning: {unfinished}");
    }
    Ok(())
}

pub(super) fn close(instance: &Instance, options: &Close) -> Result<ExitCode, Fault> {
    let open = if options.deferred { WhenOpen::Defer } else { WhenOpen::Refuse };
    let mut client = client::connect(instance)?;
    let instance = client.served(instance);
    match stack::find_stack(&mut client, &instance, &options.name)? {
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
