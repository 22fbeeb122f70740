//! Writes a state down as a log of its own.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use sim_core::{SECTOR_SIZE, Sectors};

use targets::log_writes::format::Superblock;

use crate::log::{Entry, What, head};
use crate::recording::Recording;
use crate::state::State;

/// The longest write that an entry is made of, in sectors.
const MAX_RUN: u64 = 2048;

/// Writes a log that has what differs between the base and a state, and nothing else: replayed onto the base, with
/// whatever program, it gives the state. Returns the number of its entries.
///
/// # Errors
/// What the system says of either file.
pub fn write_log(recording: &Recording, state: &State, to: &File) -> io::Result<u64> {
    let unit = recording.unit();
    let per_unit = u64::from(unit) / SECTOR_SIZE;
    let flushed = recording.flushed(state.cut);
    // Whole units, as the log counts in them.
    let mut units = Vec::new();
    for group in 0..recording.group_count() {
        let differs =
            recording.winner(state, flushed, group).hash != recording.group(group)[0].hash;
        let at = recording.sector_of(group) / per_unit;
        if differs && units.last() != Some(&at) {
            units.push(at);
        }
    }
    let mut out = BufWriter::new(to);
    out.seek(SeekFrom::Start(u64::from(unit)))?;
    let (mut entries, mut from) = (0, 0);
    let mut padding = vec![0; unit as usize];
    while from < units.len() {
        let most = (MAX_RUN / per_unit).max(1) as usize;
        let follow = |to: &usize| units[*to] == units[from] + (*to - from) as u64;
        let to =
            (from..(from + most).min(units.len())).take_while(follow).last().unwrap_or(from) + 1;
        let sectors = Sectors((to - from) as u64 * per_unit);
        let what = What::Write { preflush: false, fua: false, metadata: false, data: 0 };
        let entry = Entry { sector: units[from] * per_unit, len: sectors, what };
        padding.fill(0);
        head(&entry, unit, 0).write(&mut padding);
        out.write_all(&padding)?;
        let mut data = vec![0; sectors.bytes() as usize];
        recording.read(state, entry.sector, &mut data)?;
        out.write_all(&data)?;
        entries += 1;
        from = to;
    }
    let end = out.stream_position()?;
    out.seek(SeekFrom::Start(0))?;
    padding.fill(0);
    Superblock { entries, unit }.write(&mut padding);
    out.write_all(&padding)?;
    out.flush()?;
    drop(out);
    to.set_len(end)?;
    Ok(entries)
}
