//! The way back: unmounted, and let go of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon::protocol::User;
use daemon::{About, Fault, mangle};

use super::kinds;
use super::machine;
use super::table::{Place, Way, places};
use crate::device_mapper::DeviceMapper;
use crate::devices::{NO_SUCH, find};
use crate::watch::{Watch, go_on};
use crate::words::device_name;

/// How long a program may take to write what it has left, and to end.
const TIME: Duration = Duration::from_secs(60);

/// How long what opened the device and has ended, or came meanwhile, is taken for the mount's.
const LATE: Duration = Duration::from_secs(5);

/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(10);

/// The most users of a directory that are named.
const MOST: usize = 5;

/// Unmounts what is mounted of a device, or at a directory, and waits until the device is let go of.
///
/// # Errors
/// Where nothing of this instance is mounted so, or it is in use, and by whom.
pub fn unmount(dm: &mut dyn DeviceMapper, word: &str, watch: &dyn Watch) -> Result<(), Fault> {
    let (device, chosen) = chosen(dm, word)?;
    let users: Vec<User> = dm.users()?.into_iter().filter(|user| user.device == device).collect();
    let (serving, strangers): (Vec<User>, Vec<User>) = users.into_iter().partition(serves);
    let is_of = |users: &[User], pid| users.iter().any(|user| user.pid == pid);
    // The last mount first: it may lie over an earlier one.
    for place in chosen.iter().rev() {
        let shown = mangle::decode(&device);
        refuse_roots(place, &shown)?;
        take_away(&place.at).map_err(|said| still_mounted(place, &shown, &said))?;
    }
    // Another mount of it, as by `mount --bind`, keeps it open.
    if places(dm.mount()).iter().any(|place| place.device == device) {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        let users = dm.users()?.into_iter().filter(|user| user.device == device);
        let left: Vec<User> =
            users.filter(|user| !is_of(&strangers, user.pid) && !is_hidden(user)).collect();
        let Some(user) = left.first() else { return Ok(()) };
        let is_sure = left.iter().any(|user| is_of(&serving, user.pid) || !user.loops.is_empty());
        match begun.elapsed() {
            passed if passed > TIME && is_sure => {
                let why = format!(
                    "is unmounted, but {user} still has it open after {} s",
                    TIME.as_secs()
                );
                return Err(Fault::new(mangle::decode(&device), why));
            }
            // One that came meanwhile is none of the mount's.
            passed if passed > LATE && !is_sure => return Ok(()),
            _ => {}
        }
        go_on(word, watch)?;
        std::thread::sleep(PERIOD);
    }
}

/// Finds what a word means: a device that is mounted, or a directory where one is.
fn chosen(dm: &mut dyn DeviceMapper, word: &str) -> Result<(String, Vec<Place>), Fault> {
    let all = places(dm.mount());
    let name = device_name(dm.mount(), word);
    if find(dm, &name)?.is_some() {
        let its: Vec<Place> = all.into_iter().filter(|place| place.device == name).collect();
        return match its.is_empty() {
            true => Err(Fault::new(mangle::decode(&name), "is not mounted")),
            false => Ok((name, its)),
        };
    }
    let dir = real(Path::new(word)).about(word)?;
    let at = all.into_iter().rfind(|place| place.at == dir);
    let Some(place) = at else {
        let why = match word.contains('/') || dir.exists() {
            true => "no device of this instance is mounted there",
            false => NO_SUCH,
        };
        return Err(Fault::new(word, why));
    };
    Ok((place.device.clone(), vec![place]))
}

/// Returns a directory's path without links. One whose program is dead cannot be asked itself.
fn real(dir: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(dir)?;
    if let Ok(real) = path.canonicalize() {
        return Ok(real);
    }
    Ok(match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path,
    })
}

fn refuse_roots(place: &Place, device: &str) -> Result<(), Fault> {
    match (machine::is_root(), place.way) {
        (true, _) | (false, Way::Fuse) => Ok(()),
        (false, Way::Loop) => {
            let why = format!("root mounted it at {}, and unmounts it", place.at.display());
            Err(Fault::new(device, why))
        }
    }
}

/// Unmounts what is on a directory; returns what was complained of.
pub(super) fn take_away(dir: &Path) -> Result<(), String> {
    let (program, words): (_, &[&str]) = match (machine::is_root(), machine::fusermount()) {
        (true, _) => (machine::program("umount").unwrap_or_else(|| "umount".into()), &["--"]),
        (false, Some(program)) => (program, &["-u", "--"]),
        (false, None) => return Err(daemon::NO_FUSERMOUNT.to_owned()),
    };
    let mut command = Command::new(program);
    command.args(words).arg(dir).env("LC_ALL", "C").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("umount: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Says that a directory is still mounted, and who is in the way.
fn still_mounted(place: &Place, device: &str, said: &str) -> Fault {
    let at = place.at.display();
    if !said.contains("busy") {
        return Fault::new(device, format!("is still mounted at {at}: {said}"));
    }
    let by = match &users_of(&place.at)[..] {
        [] => "by whom cannot be seen from here".to_owned(),
        users => users.join(", "),
    };
    Fault::new(device, format!("is still mounted at {at}, which is busy: {by}"))
}

/// Names the processes that have something below a directory open, of those that may be looked at.
fn users_of(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        let links = ["cwd", "root", "exe"].map(of).into_iter();
        let files = fs::read_dir(of("fd")).into_iter().flatten().flatten().map(|file| file.path());
        let used = links.chain(files).filter_map(|link| Some((fs::read_link(&link).ok()?, link)));
        let Some((path, link)) = used.into_iter().find(|(path, _)| path.starts_with(dir)) else {
            continue;
        };
        let program = fs::read_to_string(of("comm")).unwrap_or_default();
        let how = match link.ends_with("cwd") {
            true => "is in".to_owned(),
            false => "uses".to_owned(),
        };
        found.push(format!("{} (pid {pid}) {how} {}", program.trim_end(), path.display()));
    }
    found.truncate(MOST);
    found
}

/// Tells whether a process is in another process namespace, where nothing can be said of it.
fn is_hidden(user: &User) -> bool {
    user.pid == 0
}

/// Tells whether who has a device open is what serves a mount of it, or may be.
fn serves(user: &User) -> bool {
    // It left the open file to a process that cannot be looked at, as ntfs-3g's is where it is setuid root.
    let has_ended = user.program.is_none() && !is_hidden(user);
    if has_ended || !user.loops.is_empty() || user.program.as_deref().is_some_and(kinds::serves) {
        return true;
    }
    let files = fs::read_dir(format!("/proc/{}/fd", user.pid)).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|file| file == Path::new("/dev/fuse"))
}
