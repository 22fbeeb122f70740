//! The bodies of the fuzz targets: functions of bytes that panic when something is wrong.

#![forbid(unsafe_code)]

use sim_core::control::{Answer, Command, Report, Slot};
use sim_core::{KeyText, Registry, Sector, Sectors, TargetSpec, TargetType};
use testkit::conformance::Suite;
use testkit::{World, id};

use crate_name::TargetName;

/// Takes whatever text it is given as the words of a table line. Nothing may panic; a line that
/// is taken prints words from which the same target is made again.
pub fn table(data: &[u8]) {
    let Ok(words) = std::str::from_utf8(data) else { return };
    let world = World::new(0, Registry::new().with::<TargetName>());
    world.add_disk(Sectors(4096));
    world.create(0).expect("a world without devices");
    let line = TargetSpec {
        start: Sector(0),
        len: Sectors(1024),
        target_type: "target-word".to_owned(),
        params: words.into(),
    };
    if let Some(printed) = load(&world, vec![line]) {
        assert_eq!(load(&world, printed.clone()), Some(printed));
    }
}

/// Changes what the target keeps on its device, as the bytes have it, and brings it up again. That may
/// be refused; nothing may panic, and nothing may hang. A target that keeps nothing passes.
pub fn format(data: &[u8]) {
    let suite = Suite::of::<TargetName>(TargetName::EXAMPLE);@SEAL@
    suite.format(data).unwrap_or_else(|why| panic!("{why}"));
}

/// Brings a table into use, and returns its lines as the target prints them.
fn load(world: &World, lines: Vec<TargetSpec>) -> Option<Vec<TargetSpec>> {
    world.load(0, lines).ok()?;
    world.resume(0).ok()?;
    let (report, slot, device_names) = (Report::Table, Slot::Live, false);
    let keys = KeyText::Zeros;
    match world.execute(Command::TableStatus { id: id(0), report, slot, device_names, keys }) {
        Ok(Answer::Table(_, lines)) => Some(lines),
        other => panic!("a table was loaded, and is not reported: {other:?}"),
    }
}
