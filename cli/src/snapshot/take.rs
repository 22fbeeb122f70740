//! `dmsim snapshot`: takes a snapshot of a device in use.

use std::path::Path;
use std::process::ExitCode;

use sim_core::control::MAX_NAME;
use sim_core::{Access, SECTOR_SIZE, Sectors};
use targets::snapshot::ChunkSize;

use super::Machine;
use super::cow::{self, Wish};
use super::options::Take;
use super::steps::{Below, Plan, carry_out};
use super::{Device, MERGE, SNAPSHOT, find};
use crate::client::Client;
use crate::fault::{About, Fault};
use crate::instance::Instance;
use crate::machine::{on_signals, refuse_suspended_below};
use crate::open::{MAPPER, check_name, keep_out_of_core_dumps, mapped_word};
use crate::output::print;

/// `dmsim snapshot`.
pub(crate) fn take(instance: &Instance, options: &Take) -> Result<ExitCode, Fault> {
    // The origin's table may have keys in it.
    keep_out_of_core_dumps();
    check_name("snapshot", &options.name)?;
    let mut client = Client::connect(instance)?;
    let interrupted = on_signals()?;
    let plan = plan(&mut client, instance.cow(&options.name).as_path(), options)?;
    carry_out(&mut client, &plan, &interrupted)?;
    print(&format!("{}\n", client.welcome.mount.join(&options.name).display()))
}

/// Checks what is asked for. Nothing is changed yet, but for the store's image where it has to be
/// made, which is the last thing.
pub(super) fn plan(machine: &mut dyn Machine, own: &Path, options: &Take) -> Result<Plan, Fault> {
    let chunk = options.chunk.map(chunk_size).transpose()?;
    let size = options.size.map(|bytes| Sectors(bytes.div_ceil(SECTOR_SIZE)));
    let origin = origin(machine, &options.origin)?;
    let name = &options.name;
    if find(machine, name)?.is_some() {
        return Err(Fault::new("snapshot", format!("a device `{name}` is there already")));
    }
    let below = match origin.origin_of() {
        Some(dev) => Below::There(dev),
        None => Below::Make(name_below(machine, origin.name(), name)?),
    };
    let wish = Wish {
        origin: origin.name(),
        cow: options.cow.as_deref(),
        own: own.to_owned(),
        chunk,
        size,
        origin_size: origin.size(),
        transient: options.transient,
    };
    Ok(Plan {
        below,
        cow: cow::prepare(machine, &wish)?,
        origin: origin.name().to_owned(),
        size: origin.size(),
        name: name.clone(),
        access: if options.read_only { Access::ReadOnly } else { Access::ReadWrite },
        mode: if options.transient { "N" } else { "PO" },
    })
}

fn chunk_size(bytes: u64) -> Result<ChunkSize, Fault> {
    let whole = bytes.is_multiple_of(SECTOR_SIZE).then_some(Sectors(bytes / SECTOR_SIZE));
    let size = whole.ok_or("expected a multiple of 512 bytes");
    let size = size.and_then(|sectors| ChunkSize::new(sectors, &[]));
    let told = size.map_err(|why| Fault::new("--chunk", why));
    told.map_err(|fault| fault.with_status(crate::USAGE))
}

/// Names the device that the origin's table moves to.
fn name_below(machine: &mut dyn Machine, origin: &str, snapshot: &str) -> Result<String, Fault> {
    let below = format!("{origin}-real");
    if below.len() > MAX_NAME {
        let why = format!("its name is too long for a device `{below}`: `dmsim rename` it");
        return Err(Fault::new(origin, why));
    }
    if below == snapshot || find(machine, &below)?.is_some() {
        let why = format!("its table moves to a device `{below}`, and that name is taken");
        return Err(Fault::new(origin, why));
    }
    Ok(below)
}

/// Finds the device that is to have a snapshot, and refuses what cannot have one.
fn origin(machine: &mut dyn Machine, word: &str) -> Result<Device, Fault> {
    let mapped = mapped_word(machine.mount(), Path::new(word)).filter(|_| word.contains('/'));
    let name = mapped.as_deref().and_then(|word| word.strip_prefix(MAPPER)).unwrap_or(word);
    let Some(device) = find(machine, name)? else { return Err(no_device(machine, word)?) };
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
    refuse_suspended_below(machine, &device)?;
    Ok(device)
}

fn no_device(machine: &mut dyn Machine, word: &str) -> Result<Fault, Fault> {
    let path = std::path::absolute(word).about(word)?;
    let path = path.canonicalize().unwrap_or(path);
    let images = machine.images()?;
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
