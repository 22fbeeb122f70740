//! Lines that Linux 6.12 has printed: each is read, and printed as it was.

use std::collections::BTreeMap;
use std::path::Path;

use sim_core::Sectors;
use targets::lines::{
    crypt, delay, dust, ebs, flakey, linear, log_writes, mirror, snapshot, snapshot_origin,
    striped, switch, unstriped,
};

/// Prints what was read; nothing where it could not be.
fn table(kind: &str, words: &str, len: Sectors) -> Option<String> {
    Some(match kind {
        "linear" => linear::Line::from_text(words, len).ok()?.to_string(),
        "striped" => striped::Line::from_text(words, len).ok()?.to_string(),
        "unstriped" => unstriped::Line::from_text(words, len).ok()?.to_string(),
        "switch" => switch::Line::from_text(words, len).ok()?.to_string(),
        "delay" => delay::Line::from_text(words, len).ok()?.to_string(),
        "flakey" => flakey::Line::from_text(words, len).ok()?.to_string(),
        "dust" => dust::Line::from_text(words, len).ok()?.to_string(),
        "log-writes" => log_writes::Line::from_text(words, len).ok()?.to_string(),
        "ebs" => ebs::Line::from_text(words, len).ok()?.to_string(),
        // What stands for an empty key that is not shown is no key.
        "crypt" if words.split(' ').nth(1) == Some("0") => words.to_owned(),
        "crypt" => crypt::Line::from_text(words, len).ok()?.to_string(),
        "mirror" => mirror::Line::from_text(words, len).ok()?.to_string(),
        "snapshot-origin" => snapshot_origin::Line::from_text(words, len).ok()?.to_string(),
        "snapshot" | "snapshot-merge" => snapshot::Line::from_text(words, len).ok()?.to_string(),
        _ => return Some(words.to_owned()),
    })
}

fn status(kind: &str, words: &str) -> Option<String> {
    Some(match kind {
        "striped" => striped::Status::parse(words)?.to_string(),
        "delay" => delay::Status::parse(words)?.to_string(),
        "dust" => dust::Status::parse(words)?.to_string(),
        "log-writes" => log_writes::Status::parse(words)?.to_string(),
        "mirror" => mirror::Status::parse(words)?.to_string(),
        "snapshot" | "snapshot-merge" => snapshot::Status::parse(words)?.to_string(),
        _ => return Some(words.to_owned()),
    })
}

#[test]
fn the_kernels_lines_are_read_and_printed_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/transcripts");
    let mut seen: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("the transcripts") {
        let Ok(text) = std::fs::read_to_string(entry.expect("an entry").path().join("transcript"))
        else {
            continue;
        };
        let mut command = "";
        for line in text.lines() {
            if let Some(next) = line.strip_prefix("$ dmsetup ") {
                command = next.split(' ').next().unwrap_or_default();
                continue;
            }
            let Some(line) = line.strip_prefix("| ") else { continue };
            // With its name in front where all devices were asked for.
            let line = line.split_once(": ").map_or(line, |(_, line)| line);
            let mut parts = line.splitn(4, ' ');
            let (Some(Ok(_)), Some(Ok(len)), Some(kind)) =
                (parts.next().map(str::parse::<u64>), parts.next().map(str::parse), parts.next())
            else {
                continue;
            };
            let words = parts.next().unwrap_or_default();
            let (what, printed) = match command {
                "table" => ("table", table(kind, words, Sectors(len))),
                "status" => ("status", status(kind, words)),
                _ => continue,
            };
            assert_eq!(printed.as_deref(), Some(words), "{what} of {kind}");
            *seen.entry((what, kind.to_owned())).or_default() += 1;
        }
    }
    for (what, kind, least) in [
        ("table", "linear", 10),
        ("table", "striped", 1),
        ("table", "crypt", 5),
        ("table", "mirror", 5),
        ("table", "snapshot", 10),
        ("table", "snapshot-merge", 3),
        ("table", "snapshot-origin", 3),
        ("table", "unstriped", 3),
        ("table", "switch", 3),
        ("table", "delay", 4),
        ("table", "flakey", 10),
        ("table", "dust", 2),
        ("table", "log-writes", 2),
        ("table", "ebs", 10),
        ("status", "delay", 10),
        ("status", "dust", 5),
        ("status", "log-writes", 10),
        ("status", "striped", 1),
        ("status", "mirror", 20),
        ("status", "snapshot", 20),
        ("status", "snapshot-merge", 3),
    ] {
        let found = seen.get(&(what, kind.to_owned())).copied().unwrap_or_default();
        assert!(found >= least, "{found} of {what} {kind} among {seen:?}");
    }
}
