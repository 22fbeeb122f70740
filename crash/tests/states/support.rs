//! Logs made step by step, and the dumb way to a state.

use std::fs::File;
use std::sync::Arc;

use crash::log::{Entry, What, head};
use crash::{Promises, Recording, State};
use proptest::prelude::*;
use sim_core::{SECTOR_SIZE, Sectors};
use targets::log_writes::format::Superblock;
use tempfile::TempDir;

/// How long the device is, in sectors.
pub(crate) const SIZE: u64 = 48;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write { sector: u64, len: u64, byte: u8, fua: bool },
    Discard { sector: u64, len: u64 },
    Flush,
    Mark(&'static str),
}

pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..12_u64, 1..5_u64);
    let step = prop_oneof![
        6 => (place(), 1..4_u8, any::<bool>(), any::<bool>()).prop_map(|((sector, len), byte, a, b)| {
            Step::Write { sector, len, byte, fua: a && b }
        }),
        1 => place().prop_map(|(sector, len)| Step::Discard { sector, len }),
        2 => Just(Step::Flush),
        1 => Just(Step::Mark("here")),
    ];
    prop::collection::vec(step, 0..most)
}

#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) recording: Arc<Recording>,
    /// What each entry writes.
    pub(crate) data: Vec<Vec<u8>>,
    pub(crate) base: Vec<u8>,
    pub(crate) dir: TempDir,
}

/// Writes a log of the steps, and a base that is not all zeros.
pub(crate) fn made(steps: &[Step], unit: u32) -> Made {
    let dir = tempfile::tempdir().expect("a folder");
    let mut log = vec![0; unit as usize];
    let mut all = Vec::new();
    Superblock { entries: steps.len() as u64, unit }.write(&mut log);
    for step in steps {
        let (sector, len, what, data) = match step {
            Step::Write { sector, len, byte, fua } => {
                let what = What::Write { preflush: false, fua: *fua, metadata: false, data: 0 };
                // No two sectors of a write are alike.
                let data = (0..*len).flat_map(|n| [*byte + 16 * n as u8; 512]).collect();
                (*sector, *len, what, data)
            }
            Step::Discard { sector, len } => (*sector, *len, What::Discard, Vec::new()),
            Step::Flush => (0, 0, What::Flush, Vec::new()),
            Step::Mark(text) => (0, 0, What::Mark((*text).to_owned()), text.as_bytes().to_vec()),
        };
        let is_mark = matches!(what, What::Mark(_));
        let entry = Entry { sector, len: Sectors(len), what };
        let mut header = vec![0; unit as usize];
        let text_len = if is_mark { data.len() as u64 } else { 0 };
        head(&entry, unit, text_len).write(&mut header);
        if is_mark {
            header[32..32 + data.len()].copy_from_slice(&data);
        }
        log.extend(header);
        if !is_mark {
            log.extend(&data);
        }
        all.push(match step {
            Step::Discard { len, .. } => vec![0; *len as usize * 512],
            Step::Write { .. } => data,
            Step::Flush | Step::Mark(_) => Vec::new(),
        });
    }
    let base: Vec<u8> = (0..SIZE).flat_map(|sector| [(sector / 20) as u8; 512]).collect();
    std::fs::write(dir.path().join("log"), log).expect("room");
    std::fs::write(dir.path().join("base"), &base).expect("room");
    let open = |name: &str| File::open(dir.path().join(name)).expect("it is there");
    let recording =
        Recording::new(open("log"), Some(open("base")), Promises::default()).expect("a log");
    Made { recording: Arc::new(recording), data: all, base, dir }
}

/// What a state has, read in two parts that meet somewhere.
pub(crate) fn whole(recording: &Recording, state: &State) -> Vec<u8> {
    let mut bytes = vec![0; (SIZE * SECTOR_SIZE) as usize];
    let (first, second) = bytes.split_at_mut((state.cut % SIZE as usize) * 512);
    recording.read(state, 0, first).expect("it is there");
    recording.read(state, state.cut as u64 % SIZE, second).expect("it is there");
    bytes
}

/// What a state has: a copy of the base, on which all is written that is there, in the order of the log.
pub(crate) fn model(made: &Made, state: &State) -> Vec<u8> {
    let mut disk = made.base.clone();
    let volatile = volatile(made, state.cut);
    let entries = made.recording.entries().iter().zip(&made.data).enumerate();
    for (number, (entry, data)) in entries.take(state.cut) {
        let loss = state.losses.iter().find(|loss| loss.entry == number);
        let loss = loss.filter(|_| volatile.contains(&number));
        for (n, bytes) in (0..).zip(data.chunks_exact(512)) {
            if loss.is_none_or(|loss| loss.kept.has(n)) {
                disk[(entry.sector + n) as usize * 512..][..512].copy_from_slice(bytes);
            }
        }
    }
    disk
}

/// Lists what a power cut may lose: what changes something, has no flush behind it, and no FUA either, but for the
/// last, which had not ended.
pub(crate) fn volatile(made: &Made, cut: usize) -> Vec<usize> {
    let entries = made.recording.entries();
    let mut volatile = Vec::new();
    for (number, entry) in entries.iter().enumerate().take(cut) {
        match entry.what {
            What::Flush => volatile.clear(),
            What::Write { fua: true, .. } if number + 1 < cut => {}
            What::Write { .. } | What::Discard => volatile.push(number),
            What::Mark(_) | What::Nothing => {}
        }
    }
    volatile
}
