//! The verbs that dmsetup does not have.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use backing::{Attach, Attached};
use sim_core::control::Id;
use sim_core::{Access, Registry, SECTOR_SIZE};

use crate::args::{self, Start, Verb};
use crate::client::{Client, unexpected};
use crate::describe::{Description, Failing};
use crate::fault::{About, Fault};
use crate::instance::Instance;
use crate::launch::{self, Failed};
use crate::machine::Machine;
use crate::output::print;
use crate::protocol::{Outcome, Request};
use crate::size::print_size;
use crate::{daemon, demo, logging, mirror, new_target, open, snapshot, tree};

/// Carries out one verb. `dir` is the directory that was typed, which the demonstration takes for
/// its own.
pub(crate) fn run(verb: Verb, dir: Option<&Path>, registry: Registry) -> Result<ExitCode, Fault> {
    let instance = || Instance::find(dir);
    match verb {
        Verb::Start(options) if options.foreground => serve(&instance()?, registry, &options),
        Verb::Start(options) => start(&instance()?, &options),
        Verb::Stop { force } => stop(&instance()?, force),
        Verb::Attach(image) => attach(&instance()?, image),
        Verb::Detach { name } => {
            let base = std::env::current_dir().about("detach")?;
            done(&instance()?, &Request::Detach { word: name, base })
        }
        Verb::Images { json } => images(&instance()?, json),
        Verb::Open(options) => open::open(&instance()?, &options),
        Verb::Close { name } => open::close(&instance()?, &name),
        Verb::Dump { image, json, entries } if snapshot::is_store(&image) => {
            snapshot::dump(&image, json, entries)
        }
        Verb::Dump { image, entries: true, .. } => {
            Err(Fault::new(image.display(), "has no entries to list: it is no snapshot's store"))
        }
        Verb::Dump { image, json, entries: false } => open::dump(&image, json),
        Verb::Snapshot(options) => snapshot::take(&instance()?, &options),
        Verb::Merge(options) => snapshot::merge(&instance()?, &options),
        Verb::Drop(options) => snapshot::discard(&instance()?, &options),
        Verb::Wait(options) if options.sync => mirror::wait(&instance()?, &options.name),
        Verb::Wait(options) => snapshot::wait(&instance()?, &options.name),
        Verb::Mirror(options) => mirror::change(&instance()?, &options),
        Verb::Check(options) => mirror::check(&instance()?, &options),
        Verb::Fail(options) => mirror::fail(&instance()?, &options),
        Verb::Heal(options) => mirror::heal(&instance()?, &options),
        Verb::Diff(options) => snapshot::diff(&instance()?, &options),
        Verb::Restore { forget: true, .. } => done(&instance()?, &Request::Forget),
        Verb::Restore { forget: false, key_files, headers } => {
            restore(&instance()?, &open::Keys::new(key_files, headers))
        }
        Verb::Tree { json } => {
            let stack = tree::stack(&mut Client::connect(&instance()?)?)?;
            match json {
                true => print_json(&stack),
                false => print(&tree::draw(&stack, tree::Branches::of_locale())),
            }
        }
        Verb::Info { json: _, name, uuid } => info(&instance()?, name, uuid),
        // It makes an instance of its own.
        Verb::Demo(options) => demo::run(&options, dir),
        Verb::NewTarget(options) => new_target::run(&options, &registry),
    }
}

/// Starts the daemon, and says what is left from before.
fn start(instance: &Instance, options: &Start) -> Result<ExitCode, Fault> {
    launch::launch(instance, options).map_err(|failed| match failed {
        Failed::AlreadyRuns(fault) | Failed::Fault(fault) => fault,
    })?;
    let welcome = Client::connect(instance)?.welcome;
    if let Some(damage) = welcome.damage {
        eprintln!("dmsim: {damage}");
    }
    let pending = welcome.pending;
    if pending > 0 {
        eprintln!(
            "dmsim: {}: {pending} images and devices are on record from before: \
             `dmsim restore` brings them back, `dmsim restore --forget` drops the record",
            instance.record().display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Is the daemon.
fn serve(instance: &Instance, registry: Registry, options: &Start) -> Result<ExitCode, Fault> {
    logging::start();
    if !options.detached {
        daemon::run(instance, with_plugins(registry, options)?, options, || {})?;
        return Ok(ExitCode::SUCCESS);
    }
    // Fails for the leader of a process group, which this is not: it was forked by a command.
    let _ = rustix::process::setsid();
    let result = with_plugins(registry, options)
        .and_then(|registry| daemon::run(instance, registry, options, || tell(launch::READY)));
    if let Err(fault) = &result {
        tell(&fault.to_string());
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Adds the target types of the plug-ins that were asked for.
fn with_plugins(mut registry: Registry, options: &Start) -> Result<Registry, Fault> {
    for plugin in &options.plugins {
        let loaded = sdk::load(plugin, &mut registry);
        loaded.map_err(|error| Fault::new(error.path.display(), error.why))?;
    }
    Ok(registry)
}

/// Tells the command that started the daemon, and lets it go.
fn tell(what: &str) {
    let _ = print(&format!("{what}\n"));
    // From here on, standard output is the log. Where that cannot be, the command notices the
    // end of the pipe when the daemon ends.
    let _ = rustix::stdio::dup2_stdout(rustix::stdio::stderr());
}

fn stop(instance: &Instance, force: bool) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    match client.ask(&Request::Stop { force })? {
        Outcome::Done => client.wait_for_end().map(|()| ExitCode::SUCCESS),
        other => Err(unexpected(other)),
    }
}

fn attach(instance: &Instance, image: args::Attach) -> Result<ExitCode, Fault> {
    let path = std::path::absolute(&image.image).about(image.image.display())?;
    let ask = Attach {
        path,
        name: image.name,
        number: None,
        access: if image.read_only { Access::ReadOnly } else { Access::ReadWrite },
        sector_size: image.sector_size.unwrap_or(512),
        create: image.create,
        preallocate: image.preallocate,
    };
    match Client::connect_or_start(instance)?.ask(&Request::Attach(ask))? {
        Outcome::Attached(image) => print(&format!("{}\n", image.number)),
        other => Err(unexpected(other)),
    }
}

fn done(instance: &Instance, request: &Request) -> Result<ExitCode, Fault> {
    Client::connect(instance)?.done(request).map(|()| ExitCode::SUCCESS)
}

fn restore(instance: &Instance, keys: &open::Keys) -> Result<ExitCode, Fault> {
    let mut client = Client::connect_or_start(instance)?;
    let keyless = match client.ask(&Request::Keyless)? {
        Outcome::Keyless(keyless) => keyless,
        other => return Err(unexpected(other)),
    };
    let filled = keys.fill(&keyless);
    let restored = match client.ask(&Request::Restore(filled))? {
        Outcome::Restored(restored) => restored,
        other => return Err(unexpected(other)),
    };
    print(&restored.done.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    for (name, why) in &restored.failed {
        eprintln!("dmsim: restore: {name}: {why}");
    }
    Ok(if restored.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn images(instance: &Instance, json: bool) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let images = client.images()?;
    let devices = client.describe()?;
    // For whom it is made to fail, and how.
    let failing = |image: &Attached| -> Vec<String> {
        let for_one = |device: &Description| {
            let how = Failing::text(&device.failing, image.number)?;
            Some(format!("{how}, for {}", device.name))
        };
        devices.iter().filter_map(for_one).collect()
    };
    if json {
        let json = |image: &Attached| image_json(image, &failing(image));
        return print_json(&images.iter().map(json).collect::<Vec<_>>());
    }
    let name = |image: &Attached| image.name.clone().unwrap_or(image.kernel_name.clone());
    let width = images.iter().map(|image| name(image).len()).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  {:8}  {:>12}  Acc  Open  File\n", "Name", "Dev", "Size");
    for image in &images {
        let access = if image.access.is_read_only() { "ro" } else { "rw" };
        let mut fault =
            image.fault.as_ref().map(|why| format!("  fails: {why}")).unwrap_or_default();
        failing(image).iter().for_each(|how| fault += &format!("  {how}"));
        let (name, dev) = (name(image), image.number.to_string());
        let (size, users) = (print_size(image.size.0 * SECTOR_SIZE), image.users);
        let file = image.path.display();
        writeln!(text, "{name:width$}  {dev:8}  {size:>12}  {access:3}  {users:4}  {file}{fault}")
            .expect("a string takes what is written");
    }
    print(&text)
}

fn image_json(image: &Attached, failing: &[String]) -> serde_json::Value {
    serde_json::json!({
        "name": image.name,
        "kernel_name": image.kernel_name,
        "major": image.number.major,
        "minor": image.number.minor,
        "file": image.path,
        "size": image.size.0,
        "read_only": image.access.is_read_only(),
        "sector_size": image.sector_size,
        "open_count": image.users,
        "fault": image.fault,
        "failing": failing,
    })
}

fn info(
    instance: &Instance,
    name: Option<String>,
    uuid: Option<String>,
) -> Result<ExitCode, Fault> {
    let id = name.map(Id::Name).or(uuid.map(Id::Uuid));
    match Client::connect(instance)?.ask(&Request::Describe(id))? {
        Outcome::Described(devices) => print_json(&devices),
        other => Err(unexpected(other)),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Fault> {
    let text = serde_json::to_string_pretty(value).about("json")?;
    print(&format!("{text}\n"))
}
