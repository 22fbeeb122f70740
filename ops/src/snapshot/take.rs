//! `dmsim snapshot`: takes a snapshot of a device in use.

use std::path::{Path, PathBuf};

use daemon::fault::USAGE;
use daemon::{About, Fault, Instance, keep_out_of_core_dumps};
use sim_core::{Access, SECTOR_SIZE, Sectors};
use targets::lines::snapshot::{StoreKind, WhenFull};
use targets::snapshot::ChunkSize;

use super::cow;
use super::cow::Wish;
use super::state::{MERGE, SNAPSHOT};
use super::steps::{Below, Plan, carry_out};
use crate::crash::refuse_recorded;
use crate::device_mapper::DeviceMapper;
use crate::devices::{Device, find, name_below_taken, refuse_name_below, refuse_suspended_below};
use crate::watch::Watch;
use crate::words::{MAPPER, device_name, new_name};

/// Which snapshot to take, and how.
#[derive(Clone, Debug, Default)]
pub struct Take {
    /// The mapped device, by its name or the path of its file.
    pub origin: String,
    /// What the snapshot is to be called.
    pub name: String,
    /// What keeps what changes: a file, an attached image or a mapped device that is empty; nothing
    /// for an image of the instance's own.
    pub cow: Option<PathBuf>,
    /// Size of the image that is made, in bytes; nothing for as much as can be needed.
    pub size: Option<u64>,
    /// How much is copied at once, in bytes; nothing for what a store has, or the kernel's default.
    pub chunk: Option<u64>,
    /// Forgets the snapshot when the device goes.
    pub transient: bool,
    /// Refuses writes to the snapshot.
    pub read_only: bool,
}

/// Takes a snapshot of a device in use; returns the file that shows it.
///
/// # Errors
/// Where it cannot be taken, or `watch` interrupts it: all is as it was, or the fault says what is
/// not.
pub fn take(
    dm: &mut dyn DeviceMapper,
    instance: &Instance,
    ask: &Take,
    watch: &dyn Watch,
) -> Result<PathBuf, Fault> {
    // The origin's table may have keys in it.
    keep_out_of_core_dumps();
    let name = new_name("snapshot", &ask.name)?;
    let ask = &Take { name, ..ask.clone() };
    let plan = plan(dm, instance.cow(&ask.name).as_path(), ask)?;
    carry_out(dm, &plan, watch)?;
    Ok(dm.mount().join(&ask.name))
}

/// Checks what is asked for. Nothing is changed yet, but for the store's image where it has to be
/// made, which is the last thing.
pub(super) fn plan(dm: &mut dyn DeviceMapper, own: &Path, ask: &Take) -> Result<Plan, Fault> {
    let chunk = ask.chunk.map(chunk_size).transpose()?;
    let size = ask.size.map(|bytes| Sectors(bytes.div_ceil(SECTOR_SIZE)));
    let origin = origin(dm, &ask.origin)?;
    let name = &ask.name;
    if find(dm, name)?.is_some() {
        return Err(Fault::new("snapshot", format!("a device `{name}` is there already")));
    }
    let below = match origin.origin_of() {
        Some(dev) => Below::There(dev),
        None => Below::Make(name_below(dm, origin.name(), name)?),
    };
    let wish = Wish {
        origin: origin.name(),
        cow: ask.cow.as_deref(),
        own: own.to_owned(),
        chunk,
        size,
        origin_size: origin.size(),
        transient: ask.transient,
    };
    Ok(Plan {
        below,
        cow: cow::prepare(dm, &wish)?,
        origin: origin.name().to_owned(),
        size: origin.size(),
        name: name.clone(),
        access: if ask.read_only { Access::ReadOnly } else { Access::ReadWrite },
        store: match ask.transient {
            true => StoreKind::Transient,
            false => StoreKind::Persistent(WhenFull::Overflow),
        },
    })
}

fn chunk_size(bytes: u64) -> Result<ChunkSize, Fault> {
    let whole = bytes.is_multiple_of(SECTOR_SIZE).then_some(Sectors(bytes / SECTOR_SIZE));
    let size = whole.ok_or("expected a multiple of 512 bytes");
    let size = size.and_then(|sectors| ChunkSize::new(sectors, &[]));
    let told = size.map_err(|why| Fault::new("--chunk", why));
    told.map_err(|fault| fault.with_status(USAGE))
}

/// Names the device that the origin's table moves to.
fn name_below(dm: &mut dyn DeviceMapper, origin: &str, snapshot: &str) -> Result<String, Fault> {
    let below = format!("{origin}-real");
    if below == snapshot {
        return Err(name_below_taken(origin, &below));
    }
    refuse_name_below(dm, origin, &below)?;
    Ok(below)
}

/// Finds the device that is to have a snapshot, and refuses what cannot have one.
fn origin(dm: &mut dyn DeviceMapper, word: &str) -> Result<Device, Fault> {
    let name = &device_name(dm.mount(), word);
    let Some(device) = find(dm, name)? else { return Err(no_device(dm, word)?) };
    device.refuse_suspended()?;
    let refuse = |why: String| Err(Fault::new(device.name(), why));
    let (name, size) = (device.name(), device.size());
    if device.merge().is_some() || device.live.iter().any(|line| line.target_type == MERGE) {
        return refuse(format!("a snapshot is being merged into it: `dmsim merge {name}` first"));
    }
    if device.live.iter().any(|line| line.target_type == SNAPSHOT) {
        return refuse(format!(
            "is a snapshot, whose store no second table can use: put a device over it by `dmsim \
             create NAME --table '0 {size} linear {MAPPER}{name} 0'`, and use that instead"
        ));
    }
    if !device.status.live_present {
        return refuse(format!("has no table: `dmsim load` and `dmsim resume {name}` first"));
    }
    if device.status.inactive_present {
        return refuse(format!(
            "has another table loaded: `dmsim resume {name}` swaps it in, `dmsim clear {name}` \
             drops it"
        ));
    }
    if device.status.read_only {
        return refuse(format!(
            "is read-only, so it does not change: `dmsim create NAME --table '0 {size} snapshot \
             {MAPPER}{name} IMAGE PO 32'` puts a writable snapshot over it"
        ));
    }
    refuse_recorded(dm, &device)?;
    refuse_suspended_below(dm, &device)?;
    Ok(device)
}

fn no_device(dm: &mut dyn DeviceMapper, word: &str) -> Result<Fault, Fault> {
    let path = std::path::absolute(word).about(word)?;
    let path = path.canonicalize().unwrap_or(path);
    let images = dm.images()?;
    let image =
        images.iter().find(|image| image.name.as_deref() == Some(word) || image.path == path);
    let size = match (image, path.metadata()) {
        (Some(image), _) => image.size,
        (None, Ok(meta)) if meta.is_file() => Sectors(meta.len() / SECTOR_SIZE),
        (None, _) => return Ok(Fault::new(word, "no such device")),
    };
    let why = format!(
        "is an image, and snapshots are taken of mapped devices: `dmsim create NAME --table '0 \
         {size} linear {word} 0'` puts one over it, to be used instead"
    );
    Ok(Fault::new(word, why))
}
