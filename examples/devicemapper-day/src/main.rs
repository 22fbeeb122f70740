//! A day of a program that uses the `devicemapper` crate, as Stratis does: what a test runs in `dmsim
//! shell`, over the block device that it is given.
//!
//! `cargo run --manifest-path examples/devicemapper-day/Cargo.toml -- /dev/mapper/disk`

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use devicemapper::{
    DM, DevId, Device, DmDevice, DmFlags, DmName, DmOptions, DmUuid, LinearDev,
    LinearDevTargetParams, LinearTargetParams, Sectors, TargetLine, device_exists,
    devnode_to_devno,
};

type Line = TargetLine<LinearDevTargetParams>;

fn main() -> Result<(), Box<dyn Error>> {
    let disk = std::env::args().nth(1).ok_or("which block device?")?;
    let disk = devnode_to_devno(Path::new(&disk))?.ok_or("no block device")?;
    let linear = |start: u64, length: u64, from: u64| -> Line {
        let params = LinearTargetParams::new(Device::from(disk), Sectors(from));
        TargetLine::new(Sectors(start), Sectors(length), LinearDevTargetParams::Linear(params))
    };
    let dm = DM::new()?;
    println!("interface {:?}", dm.version()?);

    let (name, uuid) = (DmName::new("day")?, DmUuid::new("day-uuid")?);
    let mut day = LinearDev::setup(&dm, name, Some(uuid), vec![linear(0, 2048, 0)])?;
    println!("{} sectors, {} devices", *day.size(), dm.list_devices()?.len());
    File::options().write(true).open(day.devnode())?.write_all(b"the first day")?;

    // Longer by what lies elsewhere, under the same number.
    let before = day.device();
    day.set_table(&dm, vec![linear(0, 2048, 0), linear(2048, 4096, 8192)])?;
    day.resume(&dm)?;
    let mut node = File::open(day.devnode())?;
    println!("{} sectors by its node", node.seek(SeekFrom::End(0))? / 512);
    drop(node);
    let (_, table) = dm.table_status(
        &DevId::Name(day.name()),
        DmOptions::default().set_flags(DmFlags::DM_STATUS_TABLE),
    )?;
    let lines = table.iter().map(|(start, length, kind, _)| format!("{start} {length} {kind}"));
    println!("{}", lines.collect::<Vec<_>>().join("; "));
    let below = dm.table_deps(&DevId::Uuid(uuid), DmOptions::default())?;
    println!("over the disk alone: {}", below == [Device::from(disk)]);

    day.suspend(&dm, DmOptions::default())?;
    let info = dm.device_info(&DevId::Name(day.name()))?;
    println!("suspended: {}", info.flags().contains(DmFlags::DM_SUSPEND));
    day.resume(&dm)?;
    let evening = DmName::new("evening")?;
    day.set_name(&dm, evening)?;
    println!("same device: {}", day.device() == before);
    println!("day: {}, evening: {}", device_exists(&dm, name)?, device_exists(&dm, evening)?);
    // In use, it stays.
    let held = File::open(day.devnode())?;
    let refused = dm.device_remove(&DevId::Name(evening), DmOptions::default()).is_err();
    drop(held);
    println!("in use it stays: {refused}");
    dm.arm_poll()?;
    day.teardown(&dm)?;
    println!("{} devices", dm.list_devices()?.len());
    Ok(())
}
