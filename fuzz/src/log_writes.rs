//! The fuzz target for logs of writes: what somebody else's program has logged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crash::log::{count_all, read};
use crash::{Flushes, Plan, Promises, Recording, State, States, write_log};
use targets::log_writes::format::Superblock;

use crate::bytes::Bytes;

/// How many states are looked at.
const STATES: u64 = 40;

/// How many sectors of each are read.
const READ: u64 = 64;

/// Reads a log, counts what its writer did not count, and looks at states of it. The first byte says whether the
/// superblock is to be made right, with which unit, and whether there is a base, or flushes are lost.
///
/// # Panics
/// When something of that does, or a state is another one when it is written as a log and read again.
pub fn log_writes(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (kind, entries) = (bytes.byte(), bytes.byte());
    let unit = if kind & 1 == 0 { 512 } else { 4096 };
    let mut log = bytes.rest().to_vec();
    if kind & 2 == 0 {
        log.resize(log.len().max(unit), 0);
        Superblock { entries: entries.into(), unit: unit as u32 }.write(&mut log);
    }
    let flushes = if kind & 4 == 0 { Flushes::Kept } else { Flushes::Lost };
    let base = (kind & 8 == 0).then(|| {
        let base = file(&[7; 1 << 15]);
        base.set_len(1 << 40).expect("it is sparse");
        base
    });
    let promises = || Promises { atomic: (kind & 16 == 0).then_some(1024), flushes };
    let opened = file(&log);
    let Ok(found) = read(&opened) else {
        let _ = count_all(&opened);
        return;
    };
    assert!(found.entries.len() <= log.len() / 512, "more entries than there is room for");
    let again = || base.as_ref().map(|base| base.try_clone().expect("a descriptor"));
    if let Ok(recording) =
        Recording::new(opened.try_clone().expect("a descriptor"), again(), promises())
    {
        look(&Arc::new(recording), again);
    }
    count_all(&opened).expect("it was a log");
    let more = read(&opened).expect("it is a log").entries.len();
    assert!(more >= found.entries.len(), "entries are gone");
}

fn look(recording: &Arc<Recording>, base: impl Fn() -> Option<File>) {
    let plan = Plan { states: STATES, seed: 1, from_mark: 0, to_mark: usize::MAX };
    for state in States::new(recording.clone(), &plan) {
        assert_eq!(recording.check(&state), Ok(()), "{state}");
        assert_eq!(state.to_string().parse(), Ok(state.clone()));
        // What is written, and read again, is the same; without a base the end of the device is not known any more.
        let written = file(&[]);
        write_log(recording, &state, &written).expect("room");
        let again = Recording::new(written, base(), Promises::default()).expect("a log");
        let end = State { cut: again.entries().len(), losses: Vec::new() };
        for at in places(recording).filter(|at| at + READ <= again.size().0) {
            let (mut first, mut second) = ([0; 512 * READ as usize], [0; 512 * READ as usize]);
            recording.read(&state, at, &mut first).expect("it is there");
            again.read(&end, at, &mut second).expect("it is there");
            assert!(first == second, "{state} at {at}");
        }
    }
}

/// Where it is looked: the beginning, and some of what is written.
fn places(recording: &Recording) -> impl Iterator<Item = u64> {
    let entries = recording.entries().iter().take(4).map(|entry| entry.sector);
    let size = recording.size().0;
    [0].into_iter().chain(entries).filter(move |at| at.saturating_add(READ) <= size)
}

fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().expect("a temporary file");
    file.write_all_at(bytes, 0).expect("room");
    file
}
