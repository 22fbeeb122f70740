//! Power cuts: what is read afterwards is what was there after one of the commands, none earlier
//! than the last that was told to be on record.

use super::*;
use crate::record::contents::{Contents, Effect, Place};
use crate::record::folder::Folder;
use crate::record::log::Log;

/// Carries out a life: the first commands one by one, the rest as one batch that is not flushed.
/// Returns the bytes that are on the disk, those that may be, and what was there: after the last
/// flush, and after each command since.
fn batch() -> (Vec<u8>, Vec<u8>, Vec<Stack>) {
    let rig = Rig::new();
    let mut commands = life();
    // The last but one makes several changes.
    let remove_all = Command::RemoveAll { open: WhenOpen::Refuse };
    commands.extend([remove_all, create("e")]);
    let rest = commands.split_off(6);
    commands.into_iter().for_each(|command| rig.run(command).unwrap());
    let durable = rig.folder.bytes(NAME);
    let mut states = vec![rig.there()];
    let _change = rig.keeper.change();
    for command in rest {
        rig.perform(command).unwrap();
        rig.keeper.end_command();
        states.push(rig.there());
    }
    block_on(rig.control.commit()).unwrap();
    let tail = rig.folder.bytes(NAME).split_off(durable.len());
    (durable, tail, states)
}

fn read_bytes(bytes: &[u8]) -> Stack {
    read(&Simulated::with(NAME, bytes))
}

#[test]
fn a_cut_at_any_byte_leaves_the_first_changes_of_a_batch() {
    let (durable, tail, states) = batch();
    let mut at = 0;
    for len in 0..=tail.len() {
        let found = read_bytes(&[&durable, &tail[..len]].concat());
        // Later cuts leave no less.
        let step = states[at..].iter().position(|state| *state == found);
        at += step.unwrap_or_else(|| panic!("cut at {len}: {found:?}"));
    }
    assert_eq!(at, states.len() - 1, "all of it is there in the end");
}

#[test]
fn sectors_that_were_not_written_or_are_of_another_file_leave_the_first_changes() {
    const SECTOR: usize = 64;
    let (durable, tail, states) = batch();
    // An earlier record of the same, whose blocks the file system gives out again.
    let (stale_head, stale_tail, _) = batch();
    let stale = [stale_head, stale_tail].concat();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..4000 {
        let seed = random;
        let mut bytes = [&durable[..], &tail].concat();
        let mut at = durable.len();
        while at < bytes.len() {
            // The rest of a sector that begins with what is durable came with it, or did not.
            let end = (at / SECTOR * SECTOR + SECTOR).min(bytes.len());
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match random % 8 {
                0 => bytes[at..end].fill(0),
                1 => bytes[at..end].fill_with(|| {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    (random >> 56) as u8
                }),
                2 => (at..end).for_each(|at| bytes[at] = stale[at.min(stale.len() - 1)]),
                _ => {}
            }
            at = end;
        }
        let found = read_bytes(&bytes);
        assert!(states.contains(&found), "seed {seed:#x}: {found:?}");
    }
}

#[test]
fn whole_lines_of_another_file_are_no_part_of_this_one() {
    let (durable, tail, states) = batch();
    let (other_head, other, _) = batch();
    assert_eq!(
        durable.iter().filter(|byte| **byte == b'\n').count(),
        other_head.iter().filter(|byte| **byte == b'\n').count(),
        "the lines go on counting where these end"
    );
    assert_eq!(read_bytes(&[&durable[..], &other].concat()), states[0]);
    assert_eq!(read_bytes(&[&durable[..], &tail].concat()), states[states.len() - 1]);
}

#[test]
fn what_a_cut_has_torn_is_gone_for_good() {
    let (durable, tail, states) = batch();
    let folder = Simulated::with(NAME, &[&durable[..], &tail[..tail.len() - 1]].concat());
    let rig = Rig::over(&folder, MARGIN);
    let before = rig.past();
    assert!(states.contains(&before));
    rig.run(create("new")).unwrap();
    let after = read(&folder);
    assert_eq!(after.devices.len(), before.devices.len() + 1);
}

#[test]
fn a_byte_that_changed_on_the_disk_is_found_and_the_file_is_kept() {
    let rig = Rig::new();
    let mut states = vec![Stack::default()];
    for command in life() {
        rig.run(command).unwrap();
        states.push(rig.there());
    }
    let whole = rig.folder.bytes(NAME);
    let lines: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let (header, last) = (lines[0], lines[lines.len() - 2]);
    for at in (0..last).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let folder = Simulated::with(NAME, &bytes);
        match Rig::open(&folder, MARGIN) {
            Err(fault) => {
                assert!(at <= header, "byte {at}: {fault}");
                assert!(fault.why.contains("move it away"), "{fault}");
                assert_eq!(folder.bytes(NAME), bytes, "it is left alone");
            }
            Ok(rig) => {
                assert!(at > header, "byte {at}");
                let damage = rig.damage.as_ref().expect("it is told").to_string();
                assert!(damage.contains("record.log.damaged-1"), "{damage}");
                assert_eq!(folder.bytes("record.log.damaged-1"), bytes);
                assert!(states.contains(&rig.past()), "byte {at}");
                // And it is a good record from here on.
                rig.run(create("new")).unwrap();
                assert_eq!(read(&folder).devices.len(), rig.past().devices.len() + 1);
            }
        }
    }
}

#[test]
fn lines_that_are_missing_at_the_end_of_what_was_renamed_are_found() {
    let rig = Rig::new();
    let commands = (0..50).map(|n| if n % 2 == 0 { suspend("a") } else { resume("a") });
    let setup = [create("a"), load("a", "0 8 zero"), resume("a"), create("b"), create("c")];
    setup.into_iter().chain(commands).for_each(|command| rig.run(command).unwrap());
    // Written anew: all of it was flushed before it got its name.
    let folder = rig.folder.copy();
    let (mut log, _) = Log::open(Box::new(folder.clone()), 0).unwrap();
    log.tidy().unwrap();
    let whole = folder.bytes(NAME);
    assert!(whole.len() < rig.folder.bytes(NAME).len() / 2);
    let mut lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    lines.pop();
    let folder = Simulated::with(NAME, &lines.concat());
    let rig = Rig::over(&folder, MARGIN);
    assert!(rig.damage.is_some());
    assert!(folder.has("record.log.damaged-1"));
}

#[test]
fn a_line_that_is_missing_hides_those_after_it() {
    let (durable, tail, states) = batch();
    let lines: Vec<&[u8]> = tail.split_inclusive(|byte| *byte == b'\n').collect();
    for missing in 0..lines.len() {
        let left = [&lines[..missing], &lines[missing + 1..]].concat().concat();
        let found = read_bytes(&[&durable[..], &left].concat());
        assert!(states.contains(&found), "without line {missing} of the tail: {found:?}");
        let cut = read_bytes(&[&durable[..], &lines[..missing].concat()].concat());
        assert_eq!(found, cut, "without line {missing} of the tail");
    }
}

#[test]
fn an_id_that_leaves_no_room_is_refused() {
    let mut contents = Contents::default();
    let place = Place { at: 0, len: 1 };
    for (id, ends_well) in [(1 << 62, true), ((1 << 62) + 1, false), (u64::MAX, false)] {
        let applied = contents.apply(Effect::Image { id, past: false }, place);
        assert_eq!(applied.is_ok(), ends_well, "{applied:?}");
    }
    assert_eq!(contents.highest(), 1 << 62);
}
