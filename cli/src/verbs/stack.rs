//! `stack`: a whole stack as a file.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::protocol::Request;
use daemon::{About, Client, Fault, Instance, Options, mangle, plugins};
use ops::stack::{self, Action, Change, Device, Kind, MAX_STACK_FILE, Stack, Table};
use sim_core::Access;
use zeroize::Zeroizing;

use crate::args::stack::{Diff, Load, Save, StackFile, StackVerb};
use crate::client;
use crate::dmsetup::concise;
use crate::keys::RestoreKeys;
use crate::output::{complain, print, print_as_it_is};
use crate::show::print_json;
use crate::terminal::Terminal;

/// The exit status of a `diff` that could not look.
const TROUBLE: u8 = 2;

pub(super) fn run(
    instance: &Instance,
    options: crate::args::stack::Stack,
) -> Result<ExitCode, Fault> {
    match options.verb {
        StackVerb::Save(options) => save(instance, &options),
        StackVerb::Load(options) => load(instance, options),
        StackVerb::Diff(options) => {
            diff(instance, &options).map_err(|fault| fault.with_status(TROUBLE))
        }
    }
}

fn save(instance: &Instance, options: &Save) -> Result<ExitCode, Fault> {
    let to = &options.file.file;
    if !options.force && !is_standard(to) && to.symlink_metadata().is_ok() {
        return Err(Fault::new(to.display(), "is there already: --force writes over it"));
    }
    let mut client = client::connect(instance)?;
    let stack = stack::save(&mut client, &folder(to)?, options.how())?;
    let plugins = plugins::recorded(&client.served(instance))?;
    let text = match options.file.concise {
        true => {
            tell_what_is_left_out(&stack, &plugins);
            concise_text(&stack)
        }
        false => stack::text(&Stack { plugins, ..stack }),
    };
    if is_standard(to) {
        return print_as_it_is(&text);
    }
    // Where the power goes in between, a file that was there is there still.
    let new = beside(to);
    let mode = if options.showkeys { 0o600 } else { 0o666 };
    let written =
        File::options().write(true).create_new(true).mode(mode).open(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, to)
        });
    if written.is_err() {
        let _not_made = std::fs::remove_file(&new);
    }
    written.about(to.display()).map(|()| ExitCode::SUCCESS)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    file.with_file_name(name)
}

fn load(instance: &Instance, options: Load) -> Result<ExitCode, Fault> {
    let stack = read(&options.file)?;
    let mut client = start(instance, &stack)?;
    let keys = RestoreKeys {
        verb: "stack",
        files: options.key_files.clone(),
        headers: options.headers.clone(),
    };
    let watch = Terminal::watch_to_the_end()?;
    let mut keys = |keyless: &_| keys.fill(keyless);
    // On record together, as they are made or undone together.
    client.done(&Request::Batch)?;
    let loaded = stack::load(&mut client, &stack, options.existing(), &mut keys, &watch);
    let on_record = client.done(&Request::Commit);
    let loaded = loaded?;
    on_record?;
    for change in &loaded.differs {
        let words = change.differs.iter().find_map(|differs| differs.now.as_deref());
        complain!(
            "dmsim: warning: {}: its target prints what the file says in other words, so that a second load finds a \
             difference: `{}`",
            change.name,
            words.unwrap_or_default()
        );
    }
    if options.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    if loaded.made.is_empty() && loaded.changed.is_empty() {
        complain!(
            "dmsim: stack: nothing is to be done: all is as {} says",
            options.file.file.display()
        );
    }
    let line = |did: &'static str| move |name: &String| format!("{did} {name}\n");
    let made = loaded.made.iter().map(line("made"));
    print(&made.chain(loaded.changed.iter().map(line("changed"))).collect::<String>())
}

fn diff(instance: &Instance, options: &Diff) -> Result<ExitCode, Fault> {
    let stack = read(&options.file)?;
    let mut client = client::connect(instance)?;
    refuse_lacking(&client.served(instance), &stack)?;
    let changes = stack::diff(&mut client, &stack)?;
    match options.json {
        true => print_json(&changes)?,
        false => print(&changes.iter().map(told).collect::<String>())?,
    };
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(change: &Change) -> String {
    let action = match change.action {
        Action::Make => "make",
        Action::Reload => "reload",
        Action::Refuse => "refuse",
    };
    let kind = match change.kind {
        Kind::Image => "image",
        Kind::Device => "device",
    };
    let mut text = format!("{action} {kind} {}\n", change.name);
    for differs in &change.differs {
        text += &format!("  {}\n", differs.field);
        for (sign, said) in [('-', &differs.now), ('+', &differs.in_file)] {
            if let Some(said) = said {
                text += &format!("  {sign} {said}\n");
            }
        }
    }
    text
}

/// Connects to a daemon that has the plug-ins of a stack.
fn start(instance: &Instance, stack: &Stack) -> Result<Client, Fault> {
    let more = lacking(instance, stack)?;
    // None at all means those on record.
    let plugins = match more.is_empty() {
        true => Vec::new(),
        false => plugins::recorded(instance)?.into_iter().chain(more).collect(),
    };
    let options = Options { plugins, ..Options::default() };
    let (client, is_new) = client::find_or_start_with(instance, &options)?;
    let served = client.served(instance);
    if is_new {
        client::say_what_is_in_memory(&served);
    }
    refuse_lacking(&served, stack)?;
    Ok(client)
}

/// Lists the plug-ins of a stack that are not on record.
fn lacking(instance: &Instance, stack: &Stack) -> Result<Vec<PathBuf>, Fault> {
    let recorded = plugins::recorded(instance)?;
    let has: Vec<PathBuf> = recorded.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut lacking = Vec::new();
    for plugin in &stack.plugins {
        let path = stack.path(plugin);
        let path = path.canonicalize().about(path.display())?;
        lacking.extend(Some(path).filter(|path| !has.contains(path)));
    }
    Ok(lacking)
}

/// Refuses a stack whose plug-ins the daemon that runs does not have.
fn refuse_lacking(served: &Instance, stack: &Stack) -> Result<(), Fault> {
    match lacking(served, stack)?.first() {
        None => Ok(()),
        Some(plugin) => {
            let why = "the daemon runs without this plug-in: `dmsim stop` first, and `dmsim stack load` starts one \
                       that has it";
            Err(Fault::new(plugin.display(), why))
        }
    }
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

/// Returns the folder from which the paths in a file start, all links followed.
fn folder(file: &Path) -> Result<PathBuf, Fault> {
    let folder = match is_standard(file) {
        true => Path::new("."),
        false => file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")),
    };
    folder.canonicalize().about(folder.display())
}

fn read(options: &StackFile) -> Result<Stack, Fault> {
    let file = &options.file;
    let about =
        if is_standard(file) { "standard input".to_owned() } else { file.display().to_string() };
    // It is read where it lies, not where a link to it does.
    let folder = match is_standard(file) {
        true => folder(file)?,
        false => folder(&file.canonicalize().about(&about)?)?,
    };
    let from: Box<dyn Read> = match is_standard(file) {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(file).about(&about)?),
    };
    let mut text = Zeroizing::new(String::new());
    from.take(MAX_STACK_FILE + 1).read_to_string(&mut text).about(&about)?;
    if text.len() as u64 > MAX_STACK_FILE {
        return Err(Fault::new(about, format!("expected {MAX_STACK_FILE} bytes at most")));
    }
    match options.concise {
        true => read_concise(&text, &folder),
        false => stack::parse(&text, &folder),
    }
    .about(about)
}

fn read_concise(text: &str, folder: &Path) -> Result<Stack, String> {
    let mut devices = Vec::new();
    for entry in concise::Entries::new(text) {
        let entry = entry.map_err(|lines| lines.join(": "))?;
        let device = Device::new(0, &entry.name, entry.uuid.as_deref())?;
        let access = if entry.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let live = match entry.table.trim() {
            "" => None,
            table => Some(
                Table::read(table, access, |_| 0)
                    .map_err(|why| format!("{}: {why}", entry.name))?,
            ),
        };
        devices.push(Device { minor: entry.minor, live, ..device });
    }
    Stack::new(folder, Vec::new(), Vec::new(), devices)
}

fn concise_text(stack: &Stack) -> Zeroizing<String> {
    let devices = stack.devices.iter().map(|device| {
        let lines = device.live.iter().flat_map(|table| &table.lines).map(|(_, line)| line.clone());
        let read_only = device.live.as_ref().is_some_and(|table| table.access.is_read_only());
        let uuid = device.uuid.as_deref().map(mangle::decode);
        let name = mangle::decode(&device.name);
        let lines: Vec<_> = lines.collect();
        let text = concise::write(&name, uuid.as_deref(), device.minor, read_only, &lines);
        // A field for the table there has to be.
        if lines.is_empty() { text + "," } else { text }
    });
    Zeroizing::new(devices.collect::<Vec<_>>().join(";") + "\n")
}

/// Says what a concise text has no place for.
fn tell_what_is_left_out(stack: &Stack, plugins: &[PathBuf]) {
    for device in &stack.devices {
        let left_out = match (device.inactive.is_some(), device.suspended) {
            (true, true) => "its inactive table, and that it is suspended",
            (true, false) => "its inactive table",
            (false, true) => "that it is suspended",
            (false, false) => continue,
        };
        let name = mangle::decode(&device.name);
        complain!("dmsim: warning: {name}: a concise text leaves out {left_out}");
    }
    if !plugins.is_empty() {
        complain!("dmsim: warning: a concise text leaves out plug-ins");
    }
}
