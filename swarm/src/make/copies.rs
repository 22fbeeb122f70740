//! Lines of the targets that keep more than one copy, or something of their own.

use super::{Line, Maker, Promises, Space};

/// What is zeroed at the start of what a target keeps metadata on.
const METADATA: u64 = 64;

pub(super) fn log_writes(maker: &mut Maker<'_>) -> Option<Line> {
    let len = maker.length();
    let space = maker.whole(len);
    let len = len - len % space.block;
    // A log without room is given up, and writes go on.
    let room = maker.one(&[4000, 4000, 4000, 90]);
    let log = maker.own(room);
    let words = format!("log-writes {} {}", space.below.number(), log.below.number());
    let line = Line::over_all(&[space, log.clone()], len, words);
    Some(Line {
        alone: true,
        wipes: vec![log.wipe(METADATA)],
        messages: vec!["mark here".to_owned()],
        ..line
    })
}

pub(super) fn mirror(maker: &mut Maker<'_>) -> Option<Line> {
    let legs = maker.one(&[2, 2, 2, 3]);
    let len = maker.length();
    let spaces: Vec<Space> = (0..legs).map(|_| maker.space(len, 8)).collect();
    let mut all = spaces.clone();
    // A region is copied by itself: it is whole blocks.
    let block = spaces.iter().map(|space| space.block).max().unwrap_or(1);
    let region = maker.one(&[2, 4, 8, 16]).max(block);
    let mut wipes = Vec::new();
    let sync = maker.one(&["", " sync", " nosync"]);
    if sync == " nosync" {
        wipes.extend(spaces.iter().map(|space| space.wipe(len)));
    }
    let arguments = if sync.is_empty() { 1 } else { 2 };
    let log = if maker.chance(2) {
        format!("core {arguments} {region}{sync}")
    } else {
        let log = maker.own(METADATA);
        wipes.push(log.wipe(METADATA));
        all.push(log.clone());
        format!("disk {} {} {region}{sync}", arguments + 1, log.below.number())
    };
    let features = maker.one(&["", "", " 2 handle_errors keep_log"]);
    let texts: Vec<String> = spaces.iter().map(Space::text).collect();
    let words = format!("mirror {log} {legs} {}{features}", texts.join(" "));
    let line = Line::over_all(&all, len - len % all.iter().map(|space| space.block).max()?, words);
    let messages = vec![
        "behind".to_owned(),
        "resync".to_owned(),
        format!("resync_rate {}", maker.one(&[0, 100, 5000])),
    ];
    // A leg that failed and comes back is taken for good after a restart, as in the kernel; and what
    // no log says stays different.
    let durable = line.promises.durable && !(log.starts_with("core") && sync == " nosync");
    let promises = Promises { faults: false, faults_and_cut: false, durable, ..line.promises };
    Some(Line { promises, wipes, messages, alone: true, ..line })
}

/// Chooses a store for a snapshot of so many sectors, and writes the words after the origin.
fn store(maker: &mut Maker<'_>, len: u64, alone: bool) -> (Space, String, Promises) {
    let chunk = maker.one(&[4u64, 8, 2, 16, 32]);
    let kind = maker.one(&["P", "P", "P", "PO", "N"]);
    let chunks = len.div_ceil(chunk);
    let room = chunk * (2 * chunks + 6 + chunks / (chunk * 32));
    let too_small = maker.chance(8);
    let space = maker.own(if too_small { (chunk * 4).max(METADATA) } else { room });
    // What goes down to the origin is seen by all others that lie on it.
    let features =
        if alone && maker.chance(4) { " 2 discard_zeroes_cow discard_passdown_origin" } else { "" };
    // An I/O error of the store, and one that is full, make the snapshot invalid.
    let promises = Promises {
        bytes: !too_small,
        well: !too_small,
        durable: kind != "N",
        faults: false,
        faults_and_cut: false,
    };
    (space, format!("{kind} {chunk}{features}"), promises)
}

/// A snapshot that nobody but itself writes the origin of: it may be merged too.
pub(super) fn snapshot(maker: &mut Maker<'_>) -> Option<Line> {
    let len = maker.length();
    let origin = maker.whole(len);
    let len = len - len % origin.block;
    let (cow, words, promises) = store(maker, len, true);
    if !origin.len.is_multiple_of(cow.block) {
        return None;
    }
    let devices = format!("{} {}", origin.below.number(), cow.below.number());
    let line = Line::over_all(&[origin, cow.clone()], len, format!("snapshot {devices} {words}"));
    let mut all = line.words;
    if words.starts_with('P') && maker.registry.find("snapshot-merge").is_some() && maker.chance(2)
    {
        all.push(format!("snapshot-merge {devices} {words}"));
    }
    let promises = line.promises.and(promises);
    Some(Line { words: all, promises, alone: true, wipes: vec![cow.wipe(METADATA)], ..line })
}

/// An origin, and snapshots of it beside.
pub(super) fn origin(maker: &mut Maker<'_>) -> Option<Line> {
    let len = maker.length();
    let origin = maker.whole(len);
    let len = len - len % origin.block;
    let device = origin.below.number();
    let snapshots = if maker.registry.find("snapshot").is_some() { maker.rng.below(3) } else { 0 };
    // All before the first is made: the store of one that lies on another waits for itself.
    let stores: Vec<_> = (0..snapshots).map(|_| store(maker, len, false)).collect();
    if stores.iter().any(|(cow, ..)| !origin.len.is_multiple_of(cow.block)) {
        return None;
    }
    for (cow, words, promises) in stores {
        let words = format!("snapshot {device} {} {words}", cow.below.number());
        let line = Line::over_all(&[origin.clone(), cow.clone()], len, words);
        let promises = line.promises.and(promises);
        maker.device(Line { promises, alone: true, wipes: vec![cow.wipe(METADATA)], ..line });
    }
    let line = Line::over(&origin, len, format!("snapshot-origin {device}"));
    Some(Line { alone: true, ..line })
}

/// Levels with copies, and with parity: type, legs, how many of them have data.
const RAIDS: [(&str, u64, u64); 16] = [
    ("raid0", 3, 3),
    ("raid1", 2, 1),
    ("raid1", 3, 1),
    ("raid10", 4, 2),
    ("raid10", 2, 1),
    ("raid4", 3, 2),
    ("raid5_ls", 3, 2),
    ("raid5_la", 4, 3),
    ("raid5_rs", 3, 2),
    ("raid5_ra", 4, 3),
    ("raid5_n", 3, 2),
    ("raid6_zr", 4, 2),
    ("raid6_nr", 5, 3),
    ("raid6_nc", 4, 2),
    ("raid6_n_6", 4, 2),
    ("raid6_ls_6", 5, 3),
];

/// The sectors of a journal: the least.
const JOURNAL: u64 = 8192;

pub(super) fn raid(maker: &mut Maker<'_>) -> Option<Line> {
    let (kind, legs, data) = maker.one(&RAIDS);
    let chunk = if kind == "raid1" { 0 } else { 8 };
    // Far copies lie in whole parts of a leg.
    let rows = if kind == "raid10" { 16 } else { 8 };
    let leg = rows * (1 + maker.rng.below(8) as u64);
    let has_parity = !["raid0", "raid1", "raid10"].contains(&kind);
    // raid10 is refused without.
    let has_metadata = kind != "raid0" && (kind == "raid10" || !maker.chance(4));
    let is_raid6 = kind.starts_with("raid6");
    // A raid6 needs its syndromes: it is always synchronized first.
    let nosync = kind != "raid0" && !is_raid6 && maker.chance(2);
    // Without metadata a raid1 is not synchronized by itself: its legs are the same from the start.
    let same = nosync || !has_metadata;
    let region = if leg < 16 { 8 } else { maker.one(&[8, 16]) };
    let (mut all, mut wipes, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..legs {
        if has_metadata {
            let meta = maker.own(METADATA);
            wipes.push(meta.wipe(METADATA));
            texts.push(meta.below.number().to_string());
            all.push(meta);
        } else {
            texts.push("-".to_owned());
        }
        let space = maker.whole(leg);
        if same {
            wipes.push(space.wipe(leg));
        }
        texts.push(space.below.number().to_string());
        all.push(space);
    }
    let mut options: Vec<String> = Vec::new();
    options.extend(nosync.then(|| "nosync".to_owned()));
    options.extend((kind != "raid0").then(|| format!("region_size {region}")));
    if kind == "raid10" {
        let format = maker.one(&["near", "far", "offset"]);
        options.push(format!("raid10_copies 2 raid10_format {format}"));
    }
    if kind == "raid1" && maker.chance(3) {
        options.push(format!("write_mostly {}", maker.rng.below(legs as usize)));
    }
    let has_journal = has_parity && has_metadata && !nosync && maker.chance(4);
    if has_journal {
        let journal = maker.own(JOURNAL);
        wipes.push(journal.wipe(METADATA));
        let mode = maker.one(&["writethrough", "writeback"]);
        options.push(format!("journal_dev {} journal_mode {mode}", journal.below.number()));
        all.push(journal);
    }
    let options = options.join(" ");
    let count = 1 + options.split_whitespace().count();
    let gap = if options.is_empty() { "" } else { " " };
    let words = format!("raid {kind} {count} {chunk}{gap}{options} {legs} {}", texts.join(" "));
    let line = Line::over_all(&all, leg * data, words);
    if line.block > 8 {
        return None;
    }
    let messages = ["check", "repair", "idle", "frozen", "resync", "recover"].map(str::to_owned);
    let promises = match kind {
        "raid0" => Promises::ALL,
        _ => Promises {
            // What no superblock says is taken for good after a restart.
            durable: has_metadata,
            // Before copies and parity are right for the first time, nothing makes up for a leg.
            faults: has_metadata && (nosync || maker.case.settled),
            // Copies that a cut left different read as the other one when a leg fails before they are the
            // same again; and with parity, both at once can be too much.
            faults_and_cut: has_metadata && has_journal,
            ..Promises::ALL
        },
    };
    let mut promises = line.promises.and(promises);
    // Legs that fail by themselves may fail before that.
    promises.faults &= kind == "raid0" || line.promises.well;
    let messages = if kind == "raid0" { Vec::new() } else { messages.to_vec() };
    Some(Line { promises, wipes, messages, alone: true, ..line })
}
