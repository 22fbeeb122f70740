//! `info --json`.

use daemon::describe::Tables;
use daemon::{Description, mangle};
use serde_json::{Value, json};
use sim_core::SECTOR_SIZE;

/// Says of devices what is known of them.
pub(crate) fn info_json(devices: &[Description]) -> Vec<Value> {
    devices.iter().map(device_json).collect()
}

fn device_json(device: &Description) -> Value {
    let Tables { live, inactive } = device.tables;
    let uuid = Some(&device.uuid).filter(|uuid| !uuid.is_empty());
    json!({
        "name": mangle::decode(&device.name),
        "mangled_name": device.name,
        "uuid": uuid.map(|uuid| mangle::decode(uuid)),
        "major": device.major,
        "minor": device.minor,
        "open_count": device.open_count,
        "event_nr": device.event_nr,
        "state": device.state,
        "suspended": device.suspended,
        "read_only": device.read_only,
        "read_ahead": device.read_ahead,
        "size_bytes": device.size.saturating_mul(SECTOR_SIZE),
        "target_count": device.targets,
        "tables": { "live": live, "inactive": inactive },
        "alignment_offset": device.alignment_offset,
        "limits": device.limits,
        "failing": device.failing,
        "faults": device.faults,
    })
}
