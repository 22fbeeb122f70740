//! A record that lies where earlier versions kept it, on its way to where it lies now.

use super::*;

/// What `a` and `b` are on one record, and `b` as it is there and `c` on another.
fn two_records() -> (Simulated, Simulated) {
    let now = Rig::new();
    for command in [create("a"), load("a", "0 8 zero"), resume("a"), create("b")] {
        now.run(command).unwrap();
    }
    let before = now.folder.copy();
    now.run(remove("a")).unwrap();
    let later = Rig::over(&before, MARGIN);
    let (name, uuid) = ("c".to_owned(), None);
    later.run(Command::DevCreate { name, uuid, minor: Some(5) }).unwrap();
    (now.folder.copy(), later.folder.copy())
}

fn take_over(now: &Simulated, before: &Simulated) -> Result<Vec<String>, Fault> {
    let (now, before) = (Box::new(now.clone()), Box::new(before.clone()));
    let (keeper, damage) = Keeper::open_in(now, Some(before), MARGIN)?;
    assert_eq!(damage, None);
    let mut names: Vec<String> =
        past(&keeper).devices.into_iter().map(|device| device.name).collect();
    names.sort();
    Ok(names)
}

#[test]
fn a_record_from_before_is_lost_at_no_step_and_taken_over_twice_at_none() {
    // Each of the two folders is the one in which the power goes.
    for fails in [0, 1] {
        for step in 1.. {
            let (now, before) = two_records();
            [&now, &before][fails].fail(step, true);
            let done = take_over(&now, &before);
            for now in now.after_a_cut() {
                for before in before.after_a_cut() {
                    let names = take_over(&now, &before).unwrap();
                    assert_eq!(names, ["a", "b", "c"], "step {step} of {fails}");
                    assert!(!before.names().contains(&NAME.to_owned()), "once is enough");
                }
            }
            if let Ok(names) = done {
                assert_eq!(names, ["a", "b", "c"]);
                break;
            }
        }
    }
}

#[test]
fn a_folder_without_a_record_leaves_no_trace() {
    let (now, before) = (Simulated::default(), Simulated::default());
    assert_eq!(take_over(&now, &before).unwrap(), Vec::<String>::new());
    assert!(now.names().is_empty() && before.names().is_empty());
}
