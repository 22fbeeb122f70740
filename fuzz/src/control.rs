//! Operations of the control plane in any order, against a model of its state machine.

mod model;
mod steps;

use sim_core::control::{Answer, Command, Id, Report, Slot};
use sim_core::{Access, KeyText, OpenDevice, Params, Sectors};

use crate::bytes::Bytes;
use crate::disks::World;
use model::Model;
use steps::Step;

/// The most operations of one run.
const STEPS: usize = 64;

/// Carries out the operations that the bytes stand for, on a control plane and on a model of it.
/// Both give the same answer or the same errno to each, and are in the same state after it.
pub fn control_plane(data: &[u8]) {
    let world = World::new(targets::registry(), 2, Sectors(4096), 512);
    let mut model = Model::default();
    let mut users: Vec<OpenDevice> = Vec::new();
    let mut bytes = Bytes::new(data);
    for number in 0..STEPS {
        let Some(step) = Step::next(&mut bytes) else { return };
        match &step {
            Step::Run(command, table) => {
                let found = execute(&world, command.clone());
                let expected = model.execute(command, *table);
                assert_eq!(found, expected, "step {number}: {command:?}");
            }
            Step::Open(id) => {
                let device = world.control.device(id).map_err(|failure| failure.errno);
                let known = device.is_ok();
                assert_eq!(known, model.open(id), "step {number}: open {id:?}");
                let open = device.map(|device| OpenDevice::new(device, Access::ReadOnly));
                users.extend(open.ok().map(|open| open.expect("a device that is there opens")));
            }
            Step::Release => {
                users.pop();
                world.control.reap();
                model.release();
            }
        }
        compare(&world, &mut model, number);
    }
}

type Outcome = Result<Answer, sim_core::Errno>;

/// Carries out one operation. What the model does not know is left out: the limits, and with them
/// how much is read ahead; and what targets say of how they are.
fn execute(world: &World, command: Command) -> Outcome {
    let how_targets_are = matches!(
        command,
        Command::TableStatus { report: Report::Status | Report::Measure, .. }
            | Command::DevWait { .. }
    );
    let mut answer = world.execute(command).map_err(|failure| failure.errno)?;
    if let Answer::Status(status) | Answer::Table(status, _) = &mut answer {
        // It is no state, and has a model of its own.
        status.overlap = None;
        status.read_ahead = status.read_ahead.map(|_| Sectors::ZERO);
    }
    if let (Answer::Table(_, lines), true) = (&mut answer, how_targets_are) {
        lines.iter_mut().for_each(|line| line.params = Params::default());
    }
    Ok(answer)
}

/// Compares everything that can be asked for.
fn compare(world: &World, model: &mut Model, number: usize) {
    let mut same = |command: Command| {
        let found = execute(world, command.clone());
        assert_eq!(found, model.execute(&command, 0), "after step {number}: {command:?}");
        found
    };
    let _ = same(Command::ArmPoll);
    let Ok(Answer::Devices(devices)) = same(Command::ListDevices) else {
        panic!("a list is answered with a list");
    };
    for device in devices {
        for slot in [Slot::Live, Slot::Inactive] {
            let (report, device_names) = (Report::Table, false);
            let id = Id::Dev(device.dev);
            let _ = same(Command::TableStatus {
                id: id.clone(),
                report,
                slot,
                device_names,
                keys: KeyText::Zeros,
            });
            let _ = same(Command::TableDeps { id, slot });
        }
    }
}
