//! How a dirty log comes to be what its device has, before its target comes into use.

use sim_core::{Area, Bio, Sector, TargetLog};

use super::device::{read_all, write_all};
use super::image::{Header, Image};
use super::log::Keeper;
use crate::parts::bits::{Bits, NoMemory};

/// What is in sync when the target comes into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialSync {
    /// What the log says; nothing by a log in memory.
    AsLogged,
    /// Nothing (`sync`).
    Nothing,
    /// Everything (`nosync`).
    Everything,
}

/// What a log has said.
pub(crate) struct Loaded {
    /// The regions that are in sync.
    pub(crate) sync: Bits,
    /// It was read, and is written for this target's regions.
    pub(crate) well: bool,
}

/// Reads the log of a device, and writes it again with this target's number of regions. As in the
/// kernel, no fault of the device keeps the target from coming into use.
pub(crate) async fn load<K: Keeper>(
    keeper: &K,
    device: &Area,
    regions: u64,
    initial: InitialSync,
    log: &TargetLog,
) -> Result<Loaded, NoMemory> {
    let name = device.number();
    let mut image = Image::new(regions, device.limits().logical_block());
    let trusted = read(device, &mut image, initial, log).await?;
    let sync = image.clean().try_clone()?;
    if !trusted {
        let what = "Failed to read header on dirty region log device";
        log.line(format_args!("{name}: {what}"));
        fail(keeper);
    }
    let written = write_all(device, &image).await;
    keeper.with_log(|log| {
        log.image = Some(image);
        log.settle();
    });
    let flushed = written && device.submit(Sector::ZERO, Bio::flush()).await.is_ok();
    if written && !flushed {
        keeper.with_log(|log| log.flush_failed = true);
    }
    if !flushed {
        let what = "Failed to write header on dirty region log device";
        log.line(format_args!("{name}: {what}"));
        fail(keeper);
        keeper.with_log(|log| log.header_is_volatile());
    }
    Ok(Loaded { sync, well: flushed })
}

/// Makes the image what the log is from now on; tells whether what the device holds is a log that
/// can be trusted.
async fn read(
    device: &Area,
    image: &mut Image,
    initial: InitialSync,
    log: &TargetLog,
) -> Result<bool, NoMemory> {
    let fresh = initial != InitialSync::AsLogged;
    let read = read_all(device, image).await?;
    let (header, known) = match read {
        true => image.header(fresh),
        false => (Header::NEW, Ok(())),
    };
    if known.is_err() {
        log.line("incompatible disk log version");
    }
    let trusted = read && known.is_ok();
    let header = if trusted { header } else { Image::distrust(header) };
    image.fit(header, initial == InitialSync::Everything);
    Ok(trusted)
}

fn fail<K: Keeper>(keeper: &K) {
    if keeper.with_log(|log| !std::mem::replace(&mut log.failed, true)) {
        keeper.log_has_failed();
    }
}
