//! The folder of one mapped device, as the kernel's `/sys/block/dm-N`.

use std::fs;
use std::io;
use std::path::Path;

use sim_core::SECTOR_SIZE;

use super::Facts;
use super::place::Place;

/// What the disk below says as well as the mapped device would.
const OF_DISK: [&str; 6] =
    ["capability", "diskseq", "events", "events_async", "events_poll_msecs", "integrity"];

/// What the partition says, as it is what is read and written.
const OF_PARTITION: [&str; 3] = ["discard_alignment", "inflight", "stat"];

/// How far is read ahead, in its two places.
const READ_AHEAD: [&str; 2] = ["queue/read_ahead_kb", "bdi/read_ahead_kb"];

/// Writes what there is to say of a device itself; `slaves` and `holders` are only made.
pub(super) fn write(place: &Place, folder: &Path, facts: &Facts) -> io::Result<()> {
    let Facts { dev, block, .. } = facts;
    for name in ["dm", "queue", "bdi", "holders", "slaves"] {
        place.folder(&folder.join(name))?;
    }
    let uuid = facts.uuid.as_deref().unwrap_or_default();
    let name = facts.kernel_name();
    let files = [
        ("dev", dev.to_string()),
        ("size", (facts.bytes / SECTOR_SIZE).to_string()),
        ("ro", u32::from(facts.read_only).to_string()),
        ("dm/name", facts.name.clone()),
        ("dm/uuid", uuid.to_owned()),
        ("dm/suspended", u32::from(facts.suspended).to_string()),
        ("dm/rq_based_seq_io_merge_deadline", "0".into()),
        ("dm/use_blk_mq", "0".into()),
        ("queue/logical_block_size", block.to_string()),
        ("queue/hw_sector_size", block.to_string()),
        ("queue/physical_block_size", block.to_string()),
        ("alignment_offset", "0".into()),
        ("ext_range", "1".into()),
        ("hidden", "0".into()),
        ("range", "1".into()),
        ("removable", "0".into()),
        (
            "uevent",
            format!("MAJOR={}\nMINOR={}\nDEVNAME={name}\nDEVTYPE=disk", dev.major, dev.minor),
        ),
    ];
    let ours: Vec<&str> = files.iter().map(|(name, _)| *name).chain(READ_AHEAD).collect();
    for (name, text) in files {
        place.file(&folder.join(name), &format!("{text}\n"))?;
    }
    let disk = facts.disk.sys();
    for name in OF_DISK {
        place.link(&folder.join(name), &disk.join(name))?;
    }
    let partition = facts.disk.partition();
    for name in OF_PARTITION {
        place.link(&folder.join(name), &partition.join(name))?;
    }
    // libdevmapper writes to this one, so it has to be the kernel's own.
    let read_ahead = disk.join("queue/read_ahead_kb");
    for name in READ_AHEAD {
        match read_ahead.exists() {
            true => place.link(&folder.join(name), &read_ahead)?,
            false => {
                let kib = u64::from(facts.read_ahead) * SECTOR_SIZE / 1024;
                place.file(&folder.join(name), &format!("{kib}\n"))?;
            }
        }
    }
    place.link(&folder.join("subsystem"), Path::new("/sys/class/block"))?;
    // All that is said of the disk's queue and not above.
    for part in ["queue", "bdi"] {
        for entry in fs::read_dir(disk.join(part)).into_iter().flatten() {
            let entry = entry?;
            let name = Path::new(part).join(entry.file_name());
            if !ours.iter().any(|ours| name == Path::new(ours)) {
                place.link(&folder.join(name), &entry.path())?;
            }
        }
    }
    Ok(())
}
