//! `dmsim dump` of a store: checks it without loading it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

use sim_core::Sectors;
use targets::snapshot::store::format::{Damage, Entry, Header, Layout, MAGIC};

use super::store::{Start, StoreFile};
use crate::fault::{About, Fault};
use crate::size::print_size;

/// The most that is told of one by one; the rest is counted.
const MOST: usize = 1000;

/// Tells whether a file begins as a store does.
pub(crate) fn is_store(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut magic, 0));
    read.is_ok() && magic == MAGIC.to_le_bytes()
}

/// What a store holds, and what is wrong with it.
struct Summary {
    header: Header,
    layout: Layout,
    size: Sectors,
    /// Full areas, and the entries of the one after them.
    area: u64,
    in_area: u64,
    entries: u64,
    runs: u64,
    next_free: u64,
    /// Chunks for data before the next free one that no exception names.
    unused: u64,
    /// Chunks for data from there on.
    free: u64,
    damage: Told<Damage>,
    shared: Told<u64>,
    /// Why the list could not be read to its end.
    broken: Option<String>,
}

/// The first of many things, and how many there are.
struct Told<T> {
    first: Vec<T>,
    count: u64,
}

impl<T> Told<T> {
    fn nothing() -> Told<T> {
        Told { first: Vec::new(), count: 0 }
    }

    fn push(&mut self, thing: T) {
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(thing);
        }
    }

    fn rest(&self) -> u64 {
        self.count - self.first.len() as u64
    }
}

/// Prints a store; fails where it is damaged.
pub(crate) fn dump(path: &Path, json: bool, entries: bool) -> Result<ExitCode, Fault> {
    let store = StoreFile::open(path).about(path.display())?;
    let (header, layout) = match store.start() {
        Ok(Start::Store(header, layout)) => (header, layout),
        Ok(Start::Zeros) => {
            return Err(Fault::new(path.display(), "expected a store, found zeros"));
        }
        Err(why) => return Err(Fault::new(path.display(), format!("damaged header: {why}"))),
    };
    let summary = summarize(&store, header, layout);
    let mut to = BufWriter::new(io::stdout().lock());
    let written = match json {
        true => summary.write_json(&mut to, entries.then_some(&store)),
        false => summary.write_text(&mut to, path, entries.then_some(&store)),
    };
    match written.and_then(|()| to.flush()) {
        // A reader that has read enough is no fault.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Fault::new("standard output", error));
        }
        Ok(()) | Err(_) => {}
    }
    Ok(if summary.is_damaged() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn summarize(store: &StoreFile, header: Header, layout: Layout) -> Summary {
    let (mut damage, mut shared) = (Told::nothing(), Told::nothing());
    let (mut entries, mut runs, mut last) = (0, 0, None);
    let mut count = |entry: Entry| {
        entries += 1;
        runs += u64::from(last.is_none_or(|last| !goes_on(last, entry)));
        last = Some(entry);
    };
    let (scan, broken) = store.scan(layout, &mut count, &mut |found| damage.push(found));
    let scanned = scan.finish(&mut |chunk| shared.push(chunk));
    let taken = entries - damage.count - shared.count;
    let chunks = layout.chunk().whole_in(store.len);
    let next_free = scanned.next_free;
    Summary {
        header,
        layout,
        size: store.len,
        area: scanned.area,
        in_area: scanned.entries.len() as u64,
        entries,
        runs,
        next_free,
        unused: data_before(layout, next_free).saturating_sub(taken),
        free: data_before(layout, chunks).saturating_sub(data_before(layout, next_free)),
        damage,
        shared,
        broken,
    }
}

/// Tells whether an entry is about the chunks after those of another.
fn goes_on(last: Entry, next: Entry) -> bool {
    last.old.checked_add(1) == Some(next.old) && last.new.checked_add(1) == Some(next.new)
}

/// Counts the chunks for data before this one.
fn data_before(layout: Layout, chunk: u64) -> u64 {
    match chunk.checked_sub(1) {
        None => 0,
        Some(after_header) => after_header - after_header.div_ceil(layout.entries() + 1),
    }
}

impl Summary {
    fn is_damaged(&self) -> bool {
        self.damage.count + self.shared.count > 0 || self.broken.is_some()
    }

    fn chunk(&self) -> u64 {
        self.layout.chunk().sectors().0
    }

    fn allocated(&self) -> u64 {
        self.next_free * self.chunk()
    }

    /// The header's chunk, and one for each area up to the current one.
    fn metadata(&self) -> u64 {
        (self.area + 2) * self.chunk()
    }

    /// What the status of a snapshot would be.
    fn status(&self) -> String {
        match (self.is_damaged(), self.header.valid) {
            (true, _) => "(cannot be loaded)".to_owned(),
            (false, false) => "Invalid".to_owned(),
            (false, true) => format!("{}/{} {}", self.allocated(), self.size, self.metadata()),
        }
    }

    fn write_text(
        &self,
        to: &mut impl Write,
        path: &Path,
        listed: Option<&StoreFile>,
    ) -> io::Result<()> {
        let Summary { header, layout, size, area, in_area, entries, runs, .. } = self;
        let valid = if header.valid { "yes" } else { "no: it was full, or failed" };
        let chunk = self.chunk();
        let bytes = print_size(chunk * sim_core::SECTOR_SIZE);
        let (full, of) = (area, layout.entries());
        let lines: [(&str, String); 9] = [
            ("Snapshot store", path.display().to_string()),
            ("Version", header.version.to_string()),
            ("Valid", valid.to_owned()),
            ("Chunk size", format!("{chunk} sectors ({bytes})")),
            ("Size", format!("{size} sectors ({} chunks)", layout.chunk().whole_in(*size))),
            ("Areas", format!("{full} full, then one with {in_area} of {of} entries")),
            ("Exceptions", format!("{entries} in {runs} runs")),
            (
                "Chunks",
                format!(
                    "next free {}; {} before it unused, {} free",
                    self.next_free, self.unused, self.free
                ),
            ),
            ("Status", self.status()),
        ];
        for (name, value) in lines {
            writeln!(to, "{:<16}{value}", format!("{name}:"))?;
        }
        for damage in &self.damage.first {
            writeln!(to, "damaged: {damage}")?;
        }
        and_more(to, self.damage.rest(), "damaged entries")?;
        for chunk in &self.shared.first {
            writeln!(to, "damaged: chunk {chunk} of the store is named twice")?;
        }
        and_more(to, self.shared.rest(), "chunks that are named twice")?;
        if let Some(why) = &self.broken {
            writeln!(to, "damaged: {why}")?;
        }
        let Some(store) = listed else { return Ok(()) };
        writeln!(to, "\n{:<24}chunks of the store", "chunks of the origin")?;
        each_run(store, *layout, &mut |Run { old, new, len }| {
            let (old, new) = (Span(old, len), Span(new, len));
            writeln!(to, "{:<24}{new}", old.to_string())
        })
    }

    fn write_json(&self, to: &mut impl Write, listed: Option<&StoreFile>) -> io::Result<()> {
        let damage: Vec<_> = self.damage.first.iter().map(damage_json).collect();
        let value = serde_json::json!({
            "type": "snapshot",
            "version": self.header.version,
            "valid": self.header.valid,
            "chunk_size": self.chunk(),
            "size": self.size.0,
            "chunks": self.layout.chunk().whole_in(self.size),
            "entries_per_area": self.layout.entries(),
            "full_areas": self.area,
            "exceptions": self.entries,
            "runs": self.runs,
            "next_free": self.next_free,
            "unused_chunks": self.unused,
            "free_chunks": self.free,
            "allocated": self.allocated(),
            "metadata": self.metadata(),
            "status": self.status(),
            "damaged": self.is_damaged(),
            "damaged_entries": self.damage.count,
            "damage": damage,
            "shared_chunks": self.shared.count,
            "shared": self.shared.first,
            "fault": self.broken,
        });
        let text = serde_json::to_string_pretty(&value)?;
        let Some(store) = listed else { return writeln!(to, "{text}") };
        // The list is written as it is read: it may be longer than memory.
        let open = text.trim_end().trim_end_matches('}').trim_end();
        write!(to, "{open},\n  \"entries\": [")?;
        let mut comma = "";
        each_run(store, self.layout, &mut |Run { old, new, len }| {
            let before = std::mem::replace(&mut comma, ",");
            write!(to, "{before}\n    {{\"old\": {old}, \"new\": {new}, \"len\": {len}}}")
        })?;
        writeln!(to, "\n  ]\n}}")
    }
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

/// Chunks one after the other, in the origin and in the store.
struct Run {
    old: u64,
    new: u64,
    len: u64,
}

/// Calls `each` with the runs of a store, in the order in which they lie there.
fn each_run(
    store: &StoreFile,
    layout: Layout,
    each: &mut dyn FnMut(Run) -> io::Result<()>,
) -> io::Result<()> {
    let (mut run, mut last, mut result) = (None::<Run>, None, Ok(()));
    let mut take = |entry: Entry| {
        match &mut run {
            Some(run) if last.is_some_and(|last| goes_on(last, entry)) => run.len += 1,
            _ => {
                let next = Run { old: entry.old, new: entry.new, len: 1 };
                if let Some(done) = run.replace(next).filter(|_| result.is_ok()) {
                    result = each(done);
                }
            }
        }
        last = Some(entry);
    };
    // What is wrong with it was told already.
    let _ = store.scan(layout, &mut take, &mut |_| {});
    result?;
    run.map_or(Ok(()), each)
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
