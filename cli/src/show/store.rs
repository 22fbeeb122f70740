//! What a snapshot's store holds, as text and as JSON.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use ops::size::print_size;
use ops::snapshot::{StoreRun, Summary};
use targets::snapshot::store::format::Damage;

/// Writes what a store holds; with the list of its runs, if they are asked for.
pub(crate) fn write_text(
    store: &Summary,
    to: &mut impl Write,
    path: &Path,
    entries: bool,
) -> io::Result<()> {
    let Summary { header, layout, size, full_areas, in_area, entries: count, runs, .. } = store;
    let valid = if header.valid { "yes" } else { "no: it was full, or failed" };
    let chunk = store.chunk();
    let bytes = print_size(chunk * sim_core::SECTOR_SIZE);
    let (full, of) = (full_areas, layout.entries());
    let lines: [(&str, String); 9] = [
        ("Snapshot store", path.display().to_string()),
        ("Version", header.version.to_string()),
        ("Valid", valid.to_owned()),
        ("Chunk size", format!("{chunk} sectors ({bytes})")),
        ("Size", format!("{size} sectors ({} chunks)", layout.chunk().whole_in(*size))),
        ("Areas", format!("{full} full, then one with {in_area} of {of} entries")),
        ("Exceptions", format!("{count} in {runs} runs")),
        (
            "Chunks",
            format!(
                "next free {}; {} before it unused, {} free",
                store.next_free, store.unused, store.free
            ),
        ),
        ("Status", store.status()),
    ];
    for (name, value) in lines {
        writeln!(to, "{:<16}{value}", format!("{name}:"))?;
    }
    for damage in &store.damage.first {
        writeln!(to, "damaged: {damage}")?;
    }
    and_more(to, store.damage.rest(), "damaged entries")?;
    for chunk in &store.shared.first {
        writeln!(to, "damaged: chunk {chunk} of the store is named twice")?;
    }
    and_more(to, store.shared.rest(), "chunks that are named twice")?;
    if let Some(why) = &store.broken {
        writeln!(to, "damaged: {why}")?;
    }
    if !entries {
        return Ok(());
    }
    writeln!(to, "\n{:<24}chunks of the store", "chunks of the origin")?;
    store.each_run(&mut |StoreRun { old, new, len }| {
        let (old, new) = (Span(old, len), Span(new, len));
        writeln!(to, "{:<24}{new}", old.to_string())
    })
}

/// The same as JSON.
pub(crate) fn write_json(store: &Summary, to: &mut impl Write, entries: bool) -> io::Result<()> {
    let bytes = |sectors: u64| sectors.saturating_mul(sim_core::SECTOR_SIZE);
    let damage: Vec<_> = store.damage.first.iter().map(damage_json).collect();
    let value = serde_json::json!({
        "type": "snapshot",
        "version": store.header.version,
        "valid": store.header.valid,
        "chunk_size_bytes": bytes(store.chunk()),
        "size_bytes": store.size.bytes(),
        "chunks": store.layout.chunk().whole_in(store.size),
        "entries_per_area": store.layout.entries(),
        "full_areas": store.full_areas,
        "exceptions": store.entries,
        "run_count": store.runs,
        "next_free": store.next_free,
        "unused_chunks": store.unused,
        "free_chunks": store.free,
        "allocated_bytes": bytes(store.allocated()),
        "metadata_bytes": bytes(store.metadata()),
        "status": store.status(),
        "damaged": store.is_damaged(),
        "damaged_entries": store.damage.count,
        "damage": damage,
        "shared_chunks": store.shared.count,
        "shared": store.shared.first,
        "fault": store.broken,
    });
    let text = serde_json::to_string_pretty(&value)?;
    if !entries {
        return writeln!(to, "{text}");
    }
    // The list is written as it is read: it may be longer than memory.
    let open = text.trim_end().trim_end_matches('}').trim_end();
    write!(to, "{open},\n  \"entries\": [")?;
    let mut comma = "";
    store.each_run(&mut |StoreRun { old, new, len }| {
        let before = std::mem::replace(&mut comma, ",");
        write!(to, "{before}\n    {{\"old\": {old}, \"new\": {new}, \"len\": {len}}}")
    })?;
    writeln!(to, "\n  ]\n}}")
}

fn and_more(to: &mut impl Write, count: u64, what: &str) -> io::Result<()> {
    match count {
        0 => Ok(()),
        _ => writeln!(to, "damaged: and {count} more {what}"),
    }
}

fn damage_json(damage: &Damage) -> serde_json::Value {
    serde_json::json!({
        "area": damage.area,
        "index": damage.index,
        "old": damage.entry.old,
        "new": damage.entry.new,
        "why": damage.to_string(),
    })
}

/// `first` alone, or `first-last`.
struct Span(u64, u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span(first, 1) => write!(f, "{first}"),
            Span(first, len) => write!(f, "{first}-{}", first + (len - 1)),
        }
    }
}
