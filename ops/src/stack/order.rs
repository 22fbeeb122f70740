//! The order in which devices can be made: each after those that its tables name.

use std::collections::BTreeMap;

use daemon::mangle::{self, Mode, What};

use super::words::unescaped;
use super::{Device, at};

/// How far a device has been looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    No,
    /// Those below it are being looked at.
    Within,
    Done,
}

/// Sorts devices; those that name no other stay in their order.
///
/// # Errors
/// Where devices lie on one another in a circle.
pub(super) fn bottom_up(devices: Vec<Device>) -> Result<Vec<Device>, String> {
    let named: BTreeMap<&str, usize> =
        devices.iter().enumerate().map(|(at, device)| (device.name.as_str(), at)).collect();
    let below: Vec<Vec<usize>> = devices.iter().map(|device| below(device, &named)).collect();
    let mut seen = vec![Seen::No; devices.len()];
    let mut order = Vec::with_capacity(devices.len());
    for top in 0..devices.len() {
        // No recursion: a file may pile up as many devices as it likes.
        let mut way = vec![(top, 0)];
        while let Some((device, next)) = way.pop() {
            if next == 0 && seen[device] == Seen::Done {
                continue;
            }
            seen[device] = Seen::Within;
            let Some(&under) = below[device].get(next) else {
                seen[device] = Seen::Done;
                order.push(device);
                continue;
            };
            way.push((device, next + 1));
            match seen[under] {
                Seen::Done => {}
                Seen::No => way.push((under, 0)),
                Seen::Within => {
                    let [one, other] = [device, under].map(|at| mangle::decode(&devices[at].name));
                    let why = format!("`{one}` and `{other}` lie on one another in a circle");
                    return Err(at(devices[device].line, &why));
                }
            }
        }
    }
    let mut devices: Vec<Option<Device>> = devices.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|at| devices[at].take()).collect())
}

fn below(device: &Device, named: &BTreeMap<&str, usize>) -> Vec<usize> {
    let lines = device.tables().flat_map(|table| &table.lines);
    let mut below = Vec::new();
    for (_, spec) in lines {
        for word in unescaped(&spec.params).iter() {
            below.extend(mapped_name(word).and_then(|name| named.get(name.as_str()).copied()));
        }
    }
    below
}

/// Returns the mangled name of the mapped device that a word of a table may mean. A number is none, as nearly
/// every word is one.
fn mapped_name(word: &str) -> Option<String> {
    let name = match word.strip_prefix("/dev/mapper/") {
        Some(name) => name,
        None if word.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        None => word,
    };
    mangle::mangle(name, What::Name, Mode::Auto).ok()
}
