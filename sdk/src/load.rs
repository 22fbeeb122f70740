//! Loads a library, and believes nothing of what it says of itself before it is checked.

use std::ffi::c_char;
use std::mem::size_of;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use sim_core::{AnyTargetType, Features, Registry};

use crate::abi::{
    self, MAJOR, MAX_NAME, MAX_TYPES, MIN_TYPE, MINOR, Plugin, PluginHead, TargetType,
};
use crate::ctr::PluginType;
use crate::instance::{Calls, Order, Origin};
use crate::last_words;
use crate::rust::{RustPlugin, take_over};

/// Why a plug-in was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct PluginError {
    /// The library, from the root on.
    pub path: PathBuf,
    /// What is wrong with it: expected and found.
    pub why: String,
}

type EntryPoint = unsafe extern "C" fn() -> *const Plugin;

/// Loads a library, and adds all its types to `registry`, or none of them. It stays loaded for as
/// long as the process runs. Its code runs here, with all rights of this process.
pub fn load(path: &Path, registry: &mut Registry) -> Result<(), PluginError> {
    load_as(path, registry, Order::SideBySide)
}

/// As [`load()`], for tests under a simulation: callbacks that may block run one at a time, and where
/// one does I/O, the simulation chooses who comes next.
pub fn load_in_turn(path: &Path, registry: &mut Registry) -> Result<(), PluginError> {
    load_as(path, registry, Order::InTurn)
}

fn load_as(path: &Path, registry: &mut Registry, order: Order) -> Result<(), PluginError> {
    // With a slash in it, so that the file is not looked for along the library path.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let added = open(&path, order).and_then(|types| {
        let mut all = registry.clone();
        for target_type in types {
            let name = target_type.name().to_owned();
            let taken = |_| format!("target type `{name}` is there already");
            all.add(target_type).map_err(taken)?;
        }
        Ok(all)
    });
    *registry = added.map_err(|why| PluginError { path, why })?;
    Ok(())
}

fn open(path: &Path, order: Order) -> Result<Vec<Arc<dyn AnyTargetType>>, String> {
    // SAFETY: whoever names a plug-in wants its initialisers run.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| causes(&error))?;
    // Never unloaded: its code and its constants are good for ever from here on.
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: the header gives the symbol this type.
    let entry = unsafe { library.get::<EntryPoint>(b"dmsim_plugin\0") };
    if let Ok(entry) = entry {
        // SAFETY: `dmsim_plugin` of the header takes nothing and returns a description.
        let plugin = unsafe { entry() };
        // SAFETY: the description lives as long as the library.
        return unsafe { types(plugin, path, order) };
    }
    // SAFETY: `export_target!` gives the symbol this type.
    match unsafe { library.get::<*const RustPlugin>(b"dmsim_rust_plugin\0") } {
        // SAFETY: the library stays loaded.
        Ok(plugin) => Ok(unsafe { take_over(*plugin) }?.iter().cloned().collect()),
        Err(_) => Err("no plug-in: it exports neither dmsim_plugin nor dmsim_rust_plugin".into()),
    }
}

/// Reads the description of a library.
///
/// # Safety
/// `plugin` must be null, or what `dmsim_plugin` of a library that stays loaded returned.
unsafe fn types(
    plugin: *const Plugin,
    path: &Path,
    order: Order,
) -> Result<Vec<Arc<dyn AnyTargetType>>, String> {
    if plugin.is_null() {
        return Err("the plug-in refuses to be loaded".to_owned());
    }
    // SAFETY: every major version begins with these.
    let head = unsafe { abi::copy(plugin.cast::<PluginHead>(), size_of::<PluginHead>()) };
    let minor = check_version(&head)?;
    check_size("struct dmsim_plugin", head.size, size_of::<Plugin>(), size_of::<Plugin>())?;
    // SAFETY: it is as long as ours.
    let plugin = unsafe { abi::copy(plugin, size_of::<Plugin>()) };
    if !(1..=MAX_TYPES).contains(&plugin.target_count) || plugin.targets.is_null() {
        let found = plugin.target_count;
        return Err(format!("expected 1 to {MAX_TYPES} target types, found {found}"));
    }
    if plugin.reserved != 0 {
        return Err(format!(
            "struct dmsim_plugin: reserved: expected 0, found {}",
            plugin.reserved
        ));
    }
    last_words::install().map_err(|error| format!("handlers of signals: {error}"))?;
    let mut types: Vec<Arc<dyn AnyTargetType>> = Vec::new();
    for index in 0..plugin.target_count as usize {
        let at = plugin.targets.wrapping_add(index);
        // SAFETY: the library says that there are so many.
        let target_type = unsafe { at.read_unaligned() };
        // SAFETY: it is in the library, which stays.
        let target_type = unsafe { read_type(target_type, minor, (path, order)) };
        types.push(Arc::new(target_type.map_err(|why| format!("target type {index}: {why}"))?));
    }
    Ok(types)
}

fn check_version(head: &PluginHead) -> Result<u16, String> {
    let PluginHead { abi_major, abi_minor, .. } = *head;
    match (abi_major, abi_minor) {
        (MAJOR, minor) if minor <= MINOR => Ok(minor),
        (MAJOR, _) => Err(format!(
            "the plug-in needs version {abi_major}.{abi_minor} of the interface, \
             and this dmsim has {MAJOR}.{MINOR}: a newer dmsim may load it"
        )),
        _ => Err(format!(
            "the plug-in is for version {abi_major}.{abi_minor} of the interface, \
             and this dmsim has {MAJOR}.{MINOR}: it must be built anew"
        )),
    }
}

/// Checks a struct's length, which counts in pointers.
fn check_size(what: &str, found: u32, min: usize, max: usize) -> Result<usize, String> {
    let len = found as usize;
    if (min..=max).contains(&len) && len.is_multiple_of(size_of::<usize>()) {
        return Ok(len);
    }
    let range = if min == max { min.to_string() } else { format!("{min} to {max}") };
    Err(format!("{what}: expected {range} bytes, found {found}"))
}

/// Reads one type. A struct shorter than ours has none of the callbacks at its end.
///
/// # Safety
/// `from` must be null, or a type of a library that stays loaded.
unsafe fn read_type(
    from: *const TargetType,
    minor: u16,
    (path, order): (&Path, Order),
) -> Result<PluginType, String> {
    if from.is_null() {
        return Err("a null pointer".to_owned());
    }
    // SAFETY: it begins with its size.
    let size = unsafe { from.cast::<u32>().read_unaligned() };
    let max = abi::type_len(minor);
    let len = check_size("struct dmsim_target_type", size, MIN_TYPE, max)?;
    // SAFETY: it is as long as it says.
    let from = unsafe { abi::copy(from, len) };
    // SAFETY: the name is in the library as well.
    let name = unsafe { read_name(from.name) }?;
    let missing = |call: &str| format!("`{name}` has no {call}");
    if from.reserved != 0 {
        return Err(format!("`{name}`: reserved: expected 0, found {}", from.reserved));
    }
    let text = format!("plug-in {}: target type `{name}`", path.display());
    let calls = Calls {
        origin: Box::leak(Box::new(Origin { text, order })),
        ctr: from.ctr.ok_or_else(|| missing("ctr"))?,
        dtr: from.dtr,
        read: from.read.ok_or_else(|| missing("read"))?,
        write: from.write.ok_or_else(|| missing("write"))?,
        flush: from.flush,
        discard: from.discard,
        write_zeroes: from.write_zeroes,
        status: from.status,
        message: from.message,
        preresume: from.preresume,
        postsuspend: from.postsuspend,
    };
    let features = features(from.features).map_err(|why| format!("`{name}`: {why}"))?;
    Ok(PluginType { name, version: from.version, features, calls })
}

fn features(bits: u32) -> Result<Features, String> {
    let unknown = bits & !(abi::SINGLETON | abi::ALWAYS_WRITEABLE | abi::IMMUTABLE);
    if unknown != 0 {
        return Err(format!("unknown features {unknown:#x}"));
    }
    Ok(Features {
        singleton: bits & abi::SINGLETON != 0,
        always_writeable: bits & abi::ALWAYS_WRITEABLE != 0,
        immutable: bits & abi::IMMUTABLE != 0,
        ..Features::NONE
    })
}

/// Reads a type's name, and not a byte further than the longest one goes.
///
/// # Safety
/// `from` must be null, or readable up to its zero byte.
unsafe fn read_name(from: *const c_char) -> Result<String, String> {
    if from.is_null() {
        return Err("it has no name".to_owned());
    }
    let mut name = String::new();
    loop {
        // SAFETY: no zero byte came yet.
        let byte = unsafe { from.wrapping_add(name.len()).cast::<u8>().read() };
        match byte {
            0 if name.is_empty() => return Err("its name is empty".to_owned()),
            0 => return Ok(name),
            byte if byte.is_ascii_graphic() && name.len() < MAX_NAME => name.push(byte.into()),
            _ => {
                let expected = format!("expected a name of 1 to {MAX_NAME} visible characters");
                return Err(format!("{expected}, found `{name}...`"));
            }
        }
    }
}

/// Writes an error with its causes: the loader's own words are among them.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
