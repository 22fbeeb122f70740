//! The verbs that dmsetup does not have.

mod crash;
mod dump;
mod events;
mod fault;
mod mount;
mod open;
mod partitions;
mod raid;
mod restore;
mod see;
mod shell;
mod stack;
mod test_plugin;
mod trace;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use backing::Attach;
use daemon::client::{no_daemon, unexpected};
use daemon::folders::barred_to_others;
use daemon::launch::{self, Failed, launch, this_program};
use daemon::protocol::{Outcome, Request};
use daemon::{About, Client, Description, Fault, Instance, mangle, refuse_looped};
use ops::{DeviceMapper, mirror, snapshot};
use sdk::PluginError;
use sim_core::control::{Answer, Command, Id};
use sim_core::{Access, Registry};

use crate::args::mirror::{Change, Check};
use crate::args::snapshot::{Diff, Take};
use crate::args::{self, Start, Verb, Wait};
use crate::keys::RestoreKeys;
use crate::output::{complain, print};
use crate::show::{self, print_json};
use crate::terminal::Terminal;
use crate::{client, demo, logging, new_target, top};
pub(crate) use events::DAEMON_ENDED;
use restore::{bring_back, forget, restore, tell_failed};

/// Carries out one verb. `dir` is the directory that was typed, which the demonstration takes for
/// its own.
pub(crate) fn run(verb: Verb, dir: Option<&Path>, registry: Registry) -> Result<ExitCode, Fault> {
    let instance = || Instance::find(dir);
    match verb {
        Verb::Start(options) if options.foreground => {
            let instance = instance()?;
            let told = options.state.as_ref().map(|state| instance.with_state(state));
            serve(&told.unwrap_or(instance), registry, &options)
        }
        Verb::Start(options) => start(&instance()?, &options),
        Verb::Guard { mount, number, daemon } => {
            daemon::guard(&mount, &number, daemon).map(|()| ExitCode::SUCCESS)
        }
        Verb::Nodes { tree } => nodes(&tree),
        Verb::HandOver { dir } => shell::hand_over(&dir).map(|()| ExitCode::SUCCESS),
        Verb::Shell(options) => shell::run(&instance()?, &options),
        Verb::Stop { force } => stop(&instance()?, force),
        Verb::Attach(image) => attach(&instance()?, image),
        Verb::Detach { name } => {
            let base = std::env::current_dir().about("detach")?;
            done(&instance()?, &Request::Detach { word: name, base })
        }
        Verb::Resize { image } => resize(&instance()?, image),
        Verb::Images { json } => images(&instance()?, json),
        Verb::Open(options) => open::open(&instance()?, &options),
        Verb::Close(options) => open::close(&instance()?, &options),
        Verb::Mount(options) => mount::mount(&instance()?, options),
        Verb::Umount(options) => mount::umount(&instance()?, &options),
        Verb::Dump(options) => {
            if !options.quiet {
                // What a dump looks at needs no instance.
                warn_of_merge(&options.image, instance().ok().as_ref());
            }
            dump::run(instance, &options)
        }
        Verb::Partitions(options) => partitions::run(instance, &options),
        Verb::Snapshot(options) => take(&instance()?, options),
        Verb::Merge(options) => merge(&instance()?, options),
        Verb::Drop(options) => {
            let instance = instance()?;
            let mut client = client::connect(&instance)?;
            let instance = client.served(&instance);
            ended(snapshot::give_up(&mut client, &instance, &options.name))
        }
        Verb::Wait(options) => wait(&instance()?, &options),
        Verb::Mirror(options) => change_mirror(&instance()?, options),
        Verb::Raid(options) => raid::run(&instance()?, options),
        Verb::Check(options) => check(&instance()?, &options),
        Verb::Fault(options) => fault::fault(&instance()?, &options),
        Verb::Fail(options) => fault::fail(&instance()?, &options),
        Verb::Heal(options) => fault::heal(&instance()?, &options),
        Verb::Diff(options) => diff(&instance()?, &options),
        Verb::Stack(options) => stack::run(&instance()?, options),
        Verb::Events(options) => events::run(&instance()?, &options),
        Verb::Crash(options) => crash::run(instance, &options),
        Verb::Restore { forget: true, names, .. } => forget(&instance()?, names),
        Verb::Restore { forget: false, key_files, headers, .. } => {
            restore(&instance()?, &RestoreKeys { verb: "restore", files: key_files, headers })
        }
        Verb::Tree { json } => {
            let stack = ops::stack(&mut client::connect(&instance()?)?)?;
            match json {
                true => print_json(&stack),
                false => print(&show::tree(&stack, show::Branches::of_locale())),
            }
        }
        Verb::Graph(options) => see::graph(&instance()?, &options),
        Verb::Top(options) => top::run(&instance()?, &options),
        Verb::Trace(options) => trace::run(&instance()?, &options),
        Verb::Heat(options) => see::heat(&instance()?, &options),
        Verb::Where(options) => see::places(&instance()?, &options),
        Verb::Info { json: _, name, uuid } => info(&instance()?, name, uuid),
        // It makes an instance of its own.
        Verb::Demo(options) => demo::run(&options, dir),
        Verb::NewTarget(options) => new_target::run(&options, &registry),
        Verb::TestPlugin(options) => test_plugin::run(&options, registry),
    }
}

/// The exit status of what has no output.
fn ended(result: Result<(), Fault>) -> Result<ExitCode, Fault> {
    result.map(|()| ExitCode::SUCCESS)
}

fn take(instance: &Instance, options: Take) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?.quiet(options.quiet);
    let (instance, watch) = (client.served(instance), Terminal::watch()?);
    let file = snapshot::take(&mut client, &instance, &options.ask(), &watch)?;
    print(&format!("{}\n", file.display()))
}

/// Serves block nodes to the daemon that is at the other end of the standard input.
fn nodes(tree: &Path) -> Result<ExitCode, Fault> {
    // By what is there now: a later daemon may have another in its place when this one is dead.
    let tree = std::fs::File::open(tree).about(tree.display())?;
    let socket = io::stdin().as_fd().try_clone_to_owned().about("nodes")?;
    daemon::allow_most_files();
    let served = block_frontend::serve(socket.into());
    block_frontend::Tree::leave(tree.into());
    served.about("nodes")?.wait();
    Ok(ExitCode::SUCCESS)
}

fn wait(instance: &Instance, options: &Wait) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let (name, watch) = (&options.name, Terminal::watch()?);
    ended(match options.sync {
        true if ops::raid::is_set(&mut client, name)? => ops::raid::wait(&mut client, name, &watch),
        true => mirror::wait(&mut client, name, &watch),
        false => {
            let instance = client.served(instance);
            snapshot::wait(&mut client, &instance, name, &watch)
        }
    })
}

fn change_mirror(instance: &Instance, options: Change) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?.quiet(options.quiet);
    let watch = Terminal::watch()?;
    let Change { name, add, drop, log, region_size, resync_rate, quiet: _ } = options;
    ended(match (add, drop) {
        (Some(image), _) => {
            let ask = mirror::Add { name, image, log, region_size, resync_rate };
            mirror::add(&mut client, &ask, &watch)
        }
        (None, Some(leg)) => mirror::drop_leg(&mut client, &name, &leg, &watch),
        (None, None) => mirror::set_resync_rate(&mut client, &name, resync_rate.unwrap_or(0)),
    })
}

fn check(instance: &Instance, options: &Check) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let watch = Terminal::watch()?;
    let found = mirror::check(&mut client, &options.name, options.from.as_deref(), &watch)?;
    match options.json {
        true => print_json(&found)?,
        false => print(&show::check(&found))?,
    };
    let differs = !found.differing.is_empty() && !found.repaired;
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn diff(instance: &Instance, options: &Diff) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let differs = snapshot::diff(&mut client, &options.name, &Terminal::watch()?)?;
    match options.json {
        true => print_json(&differs),
        false => print(&show::diff(&differs, options)),
    }
}

/// Starts the daemon, and says what is left from before.
fn start(instance: &Instance, options: &Start) -> Result<ExitCode, Fault> {
    client::refuse_inside()?;
    launch(&this_program(), instance, &options.options()).map_err(|failed| match failed {
        Failed::AlreadyRuns(fault) | Failed::Fault(fault) => fault,
    })?;
    let client = client::connect(instance)?;
    let (instance, welcome) = (client.served(instance), client.welcome);
    client::say_what_is_in_memory(&instance);
    if options.allow_other
        && let Some(bars) = barred_to_others(&welcome.mount)
    {
        complain!(
            "dmsim: {}: others cannot pass it, so that --allow-other lets nobody in: `chmod o+x` it, \
             or choose another place by --mount",
            bars.display()
        );
    }
    if let Some(damage) = welcome.damage {
        complain!("dmsim: {damage}");
    }
    let pending = welcome.pending;
    if pending > 0 {
        complain!(
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
        let (registry, plugins) = with_plugins(instance, registry, options)?;
        daemon::run(instance, registry, &options.options(), || record(instance, &plugins))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Fails for the leader of a process group, which this is not: it was forked by a command.
    let _ = rustix::process::setsid();
    let result = with_plugins(instance, registry, options).and_then(|(registry, plugins)| {
        daemon::run(instance, registry, &options.options(), || {
            record(instance, &plugins);
            tell(launch::READY);
        })
    });
    if let Err(fault) = &result {
        tell(&fault.to_string());
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Adds the target types of the plug-ins that were asked for, or else of those on record; returns
/// which these are.
fn with_plugins(
    instance: &Instance,
    mut registry: Registry,
    options: &Start,
) -> Result<(Registry, Vec<PathBuf>), Fault> {
    let (plugins, way_out) = match options {
        Start { no_plugin: true, .. } => (Vec::new(), ""),
        Start { plugins, .. } if !plugins.is_empty() => (plugins.clone(), ""),
        Start { .. } => (
            daemon::plugins::recorded(instance)?,
            "; it is on record from an earlier start: `dmsim start --no-plugin` starts without",
        ),
    };
    for plugin in &plugins {
        let loaded = sdk::load(plugin, &mut registry);
        let fault = |error: PluginError| {
            Fault::new(error.path.display(), format!("{}{way_out}", error.why))
        };
        loaded.map_err(fault)?;
    }
    Ok((registry, plugins))
}

/// Puts the plug-ins of this daemon on record. Where that cannot be, it serves all the same.
fn record(instance: &Instance, plugins: &[PathBuf]) {
    if let Err(fault) = daemon::plugins::record(instance, plugins) {
        complain!("dmsim: {fault}");
    }
}

/// Tells the command that started the daemon, and lets it go.
fn tell(what: &str) {
    let _ = print(&format!("{what}\n"));
    // From here on, standard output is the log. Where that cannot be, the command notices the
    // end of the pipe when the daemon ends.
    let _ = rustix::stdio::dup2_stdout(rustix::stdio::stderr());
}

fn stop(instance: &Instance, force: bool) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let faulty: Vec<String> = client
        .describe()?
        .iter()
        .filter(|device| has_faults(device))
        .map(|device| mangle::decode(&device.name))
        .collect();
    let active = match client.ask(&Request::Control(Command::ListDevices))? {
        Outcome::Control(Ok(Answer::Devices(devices))) => devices.len(),
        _ => 0,
    };
    match client.ask(&Request::Stop { force })? {
        Outcome::Done => client.wait_for_end()?,
        other => {
            let fault = unexpected(other);
            let ways = ops::ways_to_unmount(&client.welcome.mount);
            let why: Vec<String> = [fault.why].into_iter().chain(ways.into_values()).collect();
            return Err(Fault { why: why.join("; "), ..fault });
        }
    }
    if active > 0 {
        let (devices, them) = if active == 1 { ("device", "it") } else { ("devices", "them") };
        complain!(
            "dmsim: {active} {devices} went with the daemon, on record: `dmsim start` and `dmsim restore` bring \
             {them} back"
        );
    }
    if !faulty.is_empty() {
        complain!(
            "dmsim: faults that were armed are not on record, and gone: `{}`",
            faulty.join("`, `")
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells whether faults are armed for a device, or what is below is made to fail for it.
fn has_faults(device: &Description) -> bool {
    device.faults.is_some() || !device.failing.is_empty()
}

/// Merges a snapshot; or finishes a merge that is not, whatever it was cut off by.
fn merge(instance: &Instance, options: args::snapshot::Merge) -> Result<ExitCode, Fault> {
    let image = &PathBuf::from(&options.name);
    // A name may be that of a device, a path that of its file; what has a mark is meant by the mark.
    let by_name = !options.name.contains('/') && is_known(instance, &options.name)?;
    let by_image = (!by_name).then(|| snapshot::unfinished(image, Some(instance))).flatten();
    let options = match by_image {
        Some(unfinished) if unfinished.needs_rebuild() => {
            let mut client = client::connect_or_start(instance)?;
            let served = client.served(instance);
            let name = snapshot::rebuild(&mut client, &served, image)?;
            args::snapshot::Merge { name, ..options }
        }
        Some(unfinished) => {
            args::snapshot::Merge { name: unfinished.origin().to_owned(), ..options }
        }
        None => options,
    };
    let running = client::find(instance)?;
    let instance = running.as_ref().map_or(instance.clone(), |client| client.served(instance));
    let origin = snapshot::noted(&instance, &options.name);
    let mut client = match (running, &origin) {
        (Some(client), _) => client,
        (None, Some(_)) => client::connect_or_start(&instance)?,
        (None, None) => return Err(no_daemon(&instance)),
    };
    let watch = Terminal::watch()?;
    let is_image = options.name.contains('/') && !image.starts_with(&client.welcome.mount);
    if origin.is_none() && is_image && image.is_file() {
        let why = "has no mark of a merge, and is no snapshot: nothing is to be finished";
        return Err(Fault::new(image.display(), why));
    }
    let missing = match origin {
        Some(origin) if !is_there(&mut client, &origin)? => Some(origin),
        Some(_) | None => None,
    };
    if let Some(origin) = missing.as_ref().filter(|_| client.welcome.pending == 0) {
        // No record has it: the mark and the store are enough, for most.
        snapshot::rebuild_noted(&mut client, &instance, origin)?;
    } else if let Some(origin) = missing {
        let keys = RestoreKeys { verb: "restore", files: Vec::new(), headers: Vec::new() };
        let failed = bring_back(&mut client, &keys)?.failed;
        tell_failed(&failed);
        if !is_there(&mut client, &origin)? {
            let why = "the merge into it is not finished, and it could not be brought back: `dmsim \
                       restore` first, where a key is in a file with --key-file";
            return Err(Fault::new(origin, why));
        }
    }
    ended(snapshot::merge(&mut client, &instance, &options.ask(), &watch))
}

/// Tells whether a device of this name is there, or a merge of that name noted.
fn is_known(instance: &Instance, name: &str) -> Result<bool, Fault> {
    let running = client::find(instance)?;
    let served = running.as_ref().map_or(instance.clone(), |client| client.served(instance));
    let is_there = running.map(|mut client| is_there(&mut client, name)).transpose()?;
    Ok(is_there == Some(true) || snapshot::noted(&served, name).is_some())
}

fn is_there(client: &mut Client, name: &str) -> Result<bool, Fault> {
    match client.ask(&Request::Describe(Some(Id::Name(name.to_owned()))))? {
        Outcome::Described(devices) => Ok(!devices.is_empty()),
        Outcome::Failed(_) => Ok(false),
        other => Err(unexpected(other)),
    }
}

/// Says that a merge which changes an image is not finished.
fn warn_of_merge(image: &Path, instance: Option<&Instance>) {
    if let Some(unfinished) = snapshot::unfinished(image, instance) {
        complain!("dmsim: warning: {unfinished}");
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
        host_device: image.host_device,
    };
    if !image.read_only && !image.host_device {
        refuse_looped(&ask.path, "--read-only attaches it without a write")?;
    }
    let mut client = client::connect_or_start(instance)?;
    match client.ask(&Request::Attach(ask))? {
        Outcome::Attached(image) => {
            warn_of_merge(&image.path, Some(&client.served(instance)));
            print(&format!("{}\n", image.number))
        }
        other => Err(unexpected(other)),
    }
}

fn resize(instance: &Instance, word: String) -> Result<ExitCode, Fault> {
    let base = std::env::current_dir().about("resize")?;
    match client::connect(instance)?.ask(&Request::Resize { word, base })? {
        Outcome::Attached(image) => print(&format!("{}\n", image.size)),
        other => Err(unexpected(other)),
    }
}

fn done(instance: &Instance, request: &Request) -> Result<ExitCode, Fault> {
    client::connect(instance)?.done(request).map(|()| ExitCode::SUCCESS)
}

fn images(instance: &Instance, json: bool) -> Result<ExitCode, Fault> {
    let mut client = client::connect(instance)?;
    let (images, devices) = (client.images()?, client.describe()?);
    match json {
        true => print_json(&show::images_json(&images, &devices)),
        false => print(&show::images(&images, &devices)),
    }
}

fn info(
    instance: &Instance,
    name: Option<String>,
    uuid: Option<String>,
) -> Result<ExitCode, Fault> {
    let id = name.map(Id::Name).or(uuid.map(Id::Uuid));
    match client::connect(instance)?.ask(&Request::Describe(id))? {
        Outcome::Described(devices) => print_json(&show::info_json(&devices)),
        other => Err(unexpected(other)),
    }
}
