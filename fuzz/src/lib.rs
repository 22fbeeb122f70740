//! The bodies of the fuzz targets.
//!
//! Each takes bytes, and panics when something does not hold that must. cargo-fuzz makes the
//! bytes; on a stable toolchain the tests of this crate replay the seeds in `seeds/`.

#![forbid(unsafe_code)]

use std::sync::{Arc, OnceLock};

use backing::{Memory, Pool, block_on};
use sim_core::control::{Answer, Command, Id, Report, Slot, WhenOpen};
use sim_core::{
    Access, Backing, BlockDevice, Control, DevNumber, Errno, Held, NoLog, Sectors, TargetSpec,
    parse_table,
};

/// Two disks in memory.
struct Disks([Arc<Memory>; 2]);

impl Backing for Disks {
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno> {
        let disk = self.0.iter().find(|disk| disk.number() == number);
        disk.map(|disk| disk.clone() as Arc<dyn BlockDevice>).ok_or(Errno::NXIO)
    }

    fn by_word(&self, word: &str, _base: &str) -> Result<Arc<dyn BlockDevice>, Errno> {
        match word {
            "a" | "/dev/loop0" => Ok(self.0[0].clone()),
            "b" | "/dev/loop1" => Ok(self.0[1].clone()),
            _ => Err(Errno::NOENT),
        }
    }
}

/// Loads whatever text it is given as a table. Nothing may panic; a table that is taken prints a
/// text from which the same table is made again.
pub fn table_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(lines) = parse_table(text) else { return };
    let lines: Vec<TargetSpec> = lines.into_iter().map(|(_, spec)| spec).collect();
    // Stripes by the thousand take memory, and show nothing that ten do not.
    if lines.len() > 64 || text.len() > 4096 {
        return;
    }
    let control = control();
    let id = || Id::Name("fuzzed".to_owned());
    let call = |command| block_on(control.execute(command));
    let done = call(Command::DevCreate { name: "fuzzed".into(), uuid: None, minor: None });
    done.expect("the device of the last run is gone");
    if let Some(printed) = load(&control, lines) {
        let again = load(&control, printed.clone());
        assert_eq!(again.as_ref(), Some(&printed), "a table's text makes the same table");
    }
    call(Command::DevRemove { id: id(), open: WhenOpen::Refuse }).expect("nobody has it open");
}

/// Loads and resumes a table, and returns its lines as the targets print them.
fn load(control: &Control, targets: Vec<TargetSpec>) -> Option<Vec<TargetSpec>> {
    let id = || Id::Name("fuzzed".to_owned());
    let call = |command| block_on(control.execute(command));
    let (access, base) = (Access::ReadWrite, "/".to_owned());
    call(Command::TableLoad { id: id(), access, targets, base }).ok()?;
    call(Command::DevResume { id: id(), held: Held::Flush }).ok()?;
    let (report, slot, device_names) = (Report::Table, Slot::Live, false);
    match call(Command::TableStatus { id: id(), report, slot, device_names }) {
        Ok(Answer::Table(_, lines)) => Some(lines),
        other => panic!("a table was loaded, and is not reported: {other:?}"),
    }
}

/// One control plane for all runs: making one costs more than a run.
fn control() -> Arc<Control> {
    static CONTROL: OnceLock<Arc<Control>> = OnceLock::new();
    let make = || {
        let disk = |minor| {
            let number = DevNumber { major: 7, minor };
            Memory::new(number, &format!("loop{minor}"), Sectors(4096), 512)
        };
        let disks = Arc::new(Disks([disk(0), disk(1)]));
        Control::new(targets::registry(), disks, Pool::new(1), Arc::new(NoLog))
    };
    CONTROL.get_or_init(make).clone()
}
