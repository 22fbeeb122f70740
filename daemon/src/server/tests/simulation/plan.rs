//! What clients ask for: random, of few names, so that it meets.

use sim_core::control::{Command, Id, NewName, Slot, WhenOpen};
use sim_core::{Access, Held, Rng, Sector, Sectors, parse_table};

use super::instance::{DISK, FIRST_DISK, FIRST_IMAGE, IMAGES};

/// How long each device is: a device that others lie on never gets too short for them.
const LEN: u64 = 16;

/// How many names devices have.
const NAMES: usize = 5;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Control(Command),
    /// This one of the machine's image files.
    Attach(usize),
    Detach(usize),
    /// What follows is one batch.
    Batch,
    Commit,
    /// A bio for a device, as a program may send one meanwhile.
    Write(u32),
}

/// Chooses what clients ask for.
pub(super) fn actions(rng: &mut Rng, count: usize) -> Vec<Action> {
    // Most of what is chosen by chance is refused; a device with a table comes of three.
    let mut all = Vec::new();
    while all.len() < count {
        match rng.below(4) {
            0 => all.extend(device(rng)),
            _ => all.push(action(rng)),
        }
    }
    all
}

fn name(rng: &mut Rng) -> String {
    format!("n{}", rng.below(NAMES))
}

fn id(rng: &mut Rng) -> Id {
    Id::Name(name(rng))
}

/// Makes a device with a table.
fn device(rng: &mut Rng) -> Vec<Action> {
    let name = name(rng);
    let uuid = (rng.below(2) == 0).then(|| format!("U-{}", rng.below(100)));
    let id = || Id::Name(name.clone());
    let load = load(id(), rng);
    let create = Command::DevCreate { name: name.clone(), uuid, minor: None };
    let resume = Command::DevResume { id: id(), held: Held::Flush };
    [create, load, resume].map(Action::Control).into()
}

fn load(id: Id, rng: &mut Rng) -> Command {
    let table = table(rng);
    let targets = parse_table(&table).expect("a table of ours");
    let targets = targets.into_iter().map(|(_, target)| target).collect();
    Command::TableLoad { id, access: Access::ReadWrite, targets, base: "/".to_owned() }
}

fn table(rng: &mut Rng) -> String {
    let mut below = || match rng.below(5) {
        0 => format!("7:{}", FIRST_IMAGE + rng.below(IMAGES) as u32),
        1 | 2 => format!("7:{}", FIRST_DISK + rng.below(DISK) as u32),
        _ => format!("253:{}", rng.below(NAMES)),
    };
    let (one, other) = (below(), below());
    let half = LEN / 2;
    match rng.below(7) {
        0 => format!("0 {LEN} zero"),
        1 => format!("0 {half} error\n{half} {half} linear {one} 0"),
        2 => format!("0 {LEN} striped 2 4 {one} 0 {other} 0"),
        3 => format!("0 {LEN} mirror core 2 8 nosync 2 {one} 0 {other} 0"),
        _ => format!("0 {LEN} linear {one} 0"),
    }
}

fn action(rng: &mut Rng) -> Action {
    let held = [Held::Flush, Held::NoFlush][rng.below(2)];
    Action::Control(match rng.below(20) {
        0 => return Action::Attach(rng.below(IMAGES)),
        1 => return Action::Attach(rng.below(IMAGES)),
        2 => return Action::Detach(rng.below(IMAGES)),
        3 => return Action::Batch,
        4 | 5 => return Action::Commit,
        6 | 7 => return Action::Write(rng.below(NAMES) as u32),
        8 => Command::DevSuspend { id: id(rng), held },
        9 | 10 => Command::DevResume { id: id(rng), held },
        11 => load(id(rng), rng),
        12 => Command::TableClear { id: id(rng) },
        13 | 14 => Command::DevRename { id: id(rng), new: NewName::Name(name(rng)) },
        15 => {
            let uuid = NewName::Uuid(format!("U-{}", rng.below(100)));
            Command::DevRename { id: id(rng), new: uuid }
        }
        16 => Command::DevRemove { id: id(rng), open: WhenOpen::Refuse },
        17 => Command::DevRemove { id: id(rng), open: WhenOpen::Defer },
        18 if rng.below(4) == 0 => Command::RemoveAll { open: WhenOpen::Refuse },
        18 => Command::SetReadAhead { id: id(rng), sectors: Sectors(8 * rng.below(4) as u64) },
        _ => Command::TargetMsg {
            id: id(rng),
            sector: Sector(0),
            message: "resync_rate 0".into(),
            slot: Slot::Live,
        },
    })
}
