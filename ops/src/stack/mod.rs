//! A whole stack, as it is and as a file says: shown as a tree, saved, compared, loaded.

mod file;
mod keys;
mod load;
mod names;
mod order;
mod plan;
mod save;
#[cfg(test)]
mod tests;
mod tree;
mod undo;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daemon::mangle::{self, Mode, What};
use sim_core::{Access, MAX_MINORS, TargetSpec, parse_table};

pub use file::{MAX_STACK_FILE, parse, text};
pub use load::{Existing, Loaded, load, refusal};
pub use plan::{Action, Change, Difference, Kind, diff};
pub use save::{How, ImagesBy, Keys, Minors, save};
pub use tree::{Node, NodeKind, stack};

/// A stack as a file says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// The folder that paths and the images in tables start from.
    pub folder: PathBuf,
    /// Libraries with target types that the daemon has to have.
    pub plugins: Vec<PathBuf>,
    /// Images that are attached.
    pub images: Vec<Image>,
    /// Mapped devices; after [`Stack::new`] each after those that its tables name.
    pub devices: Vec<Device>,
}

/// An image of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// In which line of the file it begins; zero where there is none.
    pub line: usize,
    /// The file; a relative path starts from the stack's folder.
    pub file: PathBuf,
    /// The name that table lines use.
    pub name: Option<String>,
    /// How long the file is made, in bytes, where it is not there.
    pub create: Option<u64>,
    /// Whether it may be written to.
    pub access: Access,
    /// The logical block size in bytes.
    pub sector_size: u32,
    /// It is a block device of the machine.
    pub host_device: bool,
}

/// A mapped device of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// In which line of the file it begins; zero where there is none.
    pub line: usize,
    /// The name, mangled.
    pub name: String,
    /// The uuid, mangled; any where none is said.
    pub uuid: Option<String>,
    /// The minor number; any where none is said.
    pub minor: Option<u32>,
    /// Whether it is suspended.
    pub suspended: bool,
    /// The table in use.
    pub live: Option<Table>,
    /// The table that the next resume swaps in.
    pub inactive: Option<Table>,
}

/// A table of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whether the device may be written to with it.
    pub access: Access,
    /// Its lines, each with its line of the file; zero where there is none. A key that was left out
    /// is `?` and its length in bytes.
    pub lines: Vec<(usize, TargetSpec)>,
}

impl Stack {
    /// Makes a stack of parts: each device comes after those that its tables name.
    ///
    /// # Errors
    /// Where two are called the same, or devices lie on one another in a circle; says the line.
    pub fn new(
        folder: &Path,
        plugins: Vec<PathBuf>,
        images: Vec<Image>,
        devices: Vec<Device>,
    ) -> Result<Stack, String> {
        let names = devices.iter().map(|device| (device.line, mangle::decode(&device.name)));
        unique("name", names.collect())?;
        let uuids = devices.iter().filter_map(|device| Some((device.line, device.uuid.clone()?)));
        unique("uuid", uuids.collect())?;
        let minors =
            devices.iter().filter_map(|device| Some((device.line, device.minor?.to_string())));
        unique("minor", minors.collect())?;
        let too_high = |device: &&Device| device.minor.is_some_and(|minor| minor >= MAX_MINORS);
        if let Some(device) = devices.iter().find(too_high) {
            let why = format!("minor: expected less than {MAX_MINORS}");
            return Err(at(device.line, &why));
        }
        let images_named =
            images.iter().filter_map(|image| Some((image.line, image.name.clone()?)));
        unique("image name", images_named.collect())?;
        let devices = order::bottom_up(devices)?;
        Ok(Stack { folder: folder.to_owned(), plugins, images, devices })
    }

    /// Returns where a path of the file leads.
    pub fn path(&self, file: &Path) -> PathBuf {
        self.folder.join(file)
    }
}

impl Device {
    /// Makes a device without tables.
    ///
    /// # Errors
    /// Where the name or the uuid is none that a device can have.
    pub fn new(line: usize, name: &str, uuid: Option<&str>) -> Result<Device, String> {
        if name.contains('/') {
            return Err(at(line, &format!("name: expected no `/`, found `{name}`")));
        }
        let mangled = |text: &str, what| {
            if text.is_empty() {
                return Err(at(line, "name: expected a name, found none"));
            }
            let mangled = mangle::mangle(text, what, Mode::Auto).and_then(|mangled| {
                mangle::refuse_twice(&mangled, what, Mode::Auto).map(|()| mangled)
            });
            mangled.map_err(|why| at(line, &why))
        };
        let name = mangled(name, What::Name)?;
        let uuid = uuid.filter(|uuid| !uuid.is_empty());
        let uuid = uuid.map(|uuid| mangled(uuid, What::Uuid)).transpose()?;
        let (live, inactive) = (None, None);
        Ok(Device { line, name, uuid, minor: None, suspended: false, live, inactive })
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        [&self.live, &self.inactive].into_iter().flatten()
    }
}

impl Table {
    /// Reads a table's text; `line` says in which line of the file a line of the text lies.
    ///
    /// # Errors
    /// Where a line is no table line, or there is none.
    pub fn read(
        text: &str,
        access: Access,
        line: impl Fn(usize) -> usize,
    ) -> Result<Table, String> {
        let lines = parse_table(text).map_err(|bad| {
            let why = format!("expected `start length type arguments...`, found `{}`", bad.text);
            at(line(bad.line), &why)
        })?;
        if lines.is_empty() {
            return Err(at(line(1), "expected a table line, found none"));
        }
        let lines = lines.into_iter().map(|(number, spec)| (line(number), spec)).collect();
        Ok(Table { access, lines })
    }

    fn specs(&self) -> Vec<TargetSpec> {
        self.lines.iter().map(|(_, spec)| spec.clone()).collect()
    }
}

/// Puts the line of the file before what is wrong there.
fn at(line: usize, why: &str) -> String {
    if line == 0 { why.to_owned() } else { format!("line {line}: {why}") }
}

fn unique(what: &str, said: Vec<(usize, String)>) -> Result<(), String> {
    let mut first = BTreeMap::new();
    for (line, word) in said {
        if let Some(other) = first.insert(word.clone(), line) {
            let before = if other == 0 { String::new() } else { format!(", as in line {other}") };
            return Err(at(line, &format!("{what}: `{word}` is there twice{before}")));
        }
    }
    Ok(())
}
