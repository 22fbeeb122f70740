//! The daemon under a seed: its control plane, its record and its restore, over a folder and disks in
//! memory. A seed makes the commands; the power goes at an operation of the record, or within a command;
//! a daemon starts over what is left, restores, and goes on.
//!
//! What must hold: what the record says after a cut is what was there after a command, none earlier than
//! the last whose client was told so, each command wholly or not at all; a restore builds all of it,
//! whenever the one before was cut off; and what is there then is what was there.

mod instance;
mod plan;

use sim_core::Rng;

use self::instance::{Cut, Instance, Machine, Stack};
use self::plan::{Action, actions};

/// Bugs that are planted, each of which must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Clients are answered before the record is durable.
    AnswersEarly,
    /// Devices are built from above.
    BuildsBackwards,
    /// A renamed device is on record twice.
    RenamesTwice,
    /// Devices that are removed stay on record.
    ForgetsRemovals,
}

/// How many times a daemon starts again, each over what the one before has left.
const STARTS: usize = 3;

/// Runs the life of a seed: commands, a cut, a restore that may be cut off too, and so on.
fn run(seed: u64, bug: Bug) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut machine = Machine::new();
    let mut there = Stack::default();
    for start in 0..STARTS {
        let plan = actions(&mut rng, 4 + start * 6);
        let folder = machine.images();
        let what = |why: String| format!("start {start}: {}", why.replace(&folder, "."));
        let left = commands(&machine, &there, &plan, &mut rng, bug).map_err(what)?;
        (machine, there) = restore(&left, &mut rng, bug).map_err(what)?;
    }
    Ok(())
}

/// What a cut has left: the folders that may be, and the stacks that may be on record in them.
struct Left {
    machines: Vec<Machine>,
    may_be: Vec<Stack>,
    /// What led there, for a message.
    story: String,
}

/// Carries commands out until the power goes.
fn commands(
    machine: &Machine,
    there: &Stack,
    plan: &[Action],
    rng: &mut Rng,
    bug: Bug,
) -> Result<Left, String> {
    // Once without a cut: what is there after each command, and how many operations it takes.
    let rehearsal = machine.copy();
    let mut instance = Instance::start(&rehearsal, rng.number(), bug);
    instance.restore()?;
    if instance.there() != *there {
        return Err(format!("{:?} is there again, and was {there:?}", instance.there()));
    }
    let seed = instance.seed();
    let begin = rehearsal.folder.operations();
    let mut states = vec![there.clone()];
    for action in plan {
        let _told = instance.take(action, Cut::Never);
        states.push(instance.there());
    }
    let operations = rehearsal.folder.operations() - begin;
    drop(instance);

    // Then with it.
    let machine = machine.copy();
    let mut instance = Instance::start(&machine, seed, bug);
    instance.restore()?;
    let (at, turns) = (rng.below(plan.len()), rng.below(9) as u32);
    let by_operation = operations > 0 && rng.below(3) > 0;
    let fails_once = rng.below(4) == 0;
    let operation = 1 + rng.number() % operations.max(1);
    if by_operation {
        machine.folder.fail(operation, !fails_once);
    }
    // What the last client was told is on record, and all that has been there since.
    let mut may_be = vec![there.clone()];
    let mut story = Vec::new();
    for (number, action) in plan.iter().enumerate() {
        let is_last = !by_operation && number == at;
        let cut = if is_last { Cut::After(turns) } else { Cut::Never };
        let told = instance.take(action, cut);
        story.push(format!("{action:?}: {told:?}"));
        if is_last {
            // Not at all, or wholly: what it was going to do, or has done by now.
            may_be.extend([states[number + 1].clone(), instance.there()]);
            break;
        }
        may_be.push(instance.there());
        match told {
            Ok(()) if !instance.is_in_batch() => {
                may_be.drain(..may_be.len() - 1);
            }
            Ok(()) => {}
            // The record could not be written: with the power gone nothing else happens.
            Err(_) if !fails_once => break,
            Err(_) => {}
        }
    }
    let when =
        if by_operation { format!("operation {operation}") } else { format!("{turns} turns") };
    let story = format!("{}\ncut at {when} (once: {fails_once})", story.join("\n"));
    drop(instance);
    Ok(Left { machines: machine.after_a_cut(), may_be, story })
}

/// Restores over each of the folders that a cut may have left, and goes on with one of them.
fn restore(left: &Left, rng: &mut Rng, bug: Bug) -> Result<(Machine, Stack), String> {
    let Left { machines, may_be, story } = left;
    let chosen = rng.below(machines.len());
    let mut next = None;
    for (number, machine) in machines.iter().enumerate() {
        let wrong = |why: String| format!("folder {number}: {why}\nafter:\n{story}");
        let instance = Instance::start(&machine.copy(), rng.number(), bug);
        let found = instance.past();
        if !may_be.contains(&found) {
            return Err(wrong(format!("on record is {found:#?}\nwhich is none of {may_be:#?}")));
        }
        drop(instance);
        restore_cut_off(machine, &found, rng, bug).map_err(wrong)?;
        if number == chosen {
            next = Some((machine.copy(), found));
        }
    }
    Ok(next.expect("one of them was chosen"))
}

/// A restore whose record is cut off at any operation leaves on record what was to be restored; and one
/// that is not builds all of it.
fn restore_cut_off(machine: &Machine, past: &Stack, rng: &mut Rng, bug: Bug) -> Result<(), String> {
    let whole = machine.copy();
    let mut instance = Instance::start(&whole, rng.number(), bug);
    let begin = whole.folder.operations();
    instance.restore()?;
    let operations = whole.folder.operations() - begin;
    if instance.there() != *past {
        return Err(format!("built was {:#?}, to be built {past:#?}", instance.there()));
    }
    if instance.pending() > 0 {
        return Err(format!("{} are not restored yet, it says", instance.pending()));
    }
    drop(instance);
    for operation in 1..=operations {
        let machine = machine.copy();
        let mut instance = Instance::start(&machine, rng.number(), bug);
        machine.folder.fail(operation, true);
        // All is built; that it is, is not on record.
        let _ = instance.restore();
        drop(instance);
        for left in machine.after_a_cut() {
            let found = Instance::start(&left, 0, bug).past();
            if found != *past {
                return Err(format!(
                    "a restore was cut off at operation {operation}: on record is {found:#?}, and was {past:#?}"
                ));
            }
        }
    }
    Ok(())
}

/// Asserts that a bug is found.
#[track_caller]
fn finds(bug: Bug, words: &str) {
    const SEEDS: u64 = 300;
    let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, bug).err()?)));
    let (seed, why) = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
    println!("{bug:?}: after {seed} seeds: {}", why.lines().next().unwrap_or_default());
    assert!(why.contains(words), "{why}");
    assert_eq!(run(seed, bug), Err(why), "the seed repeats it");
}

#[test]
fn what_was_acknowledged_is_there_after_any_cut_and_restore() {
    testkit::each_seed("-p dmsim-daemon what_was_acknowledged", 150, |seed| run(seed, Bug::None));
}

#[test]
fn an_answer_before_the_record_is_durable_is_found() {
    finds(Bug::AnswersEarly, "which is none of");
}

#[test]
fn a_restore_in_the_wrong_order_is_found() {
    finds(Bug::BuildsBackwards, "could not be restored");
}

#[test]
fn a_rename_that_is_recorded_twice_is_found() {
    finds(Bug::RenamesTwice, "which is none of");
}

#[test]
fn a_removal_that_is_not_recorded_is_found() {
    finds(Bug::ForgetsRemovals, "which is none of");
}
