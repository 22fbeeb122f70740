//! Where sectors of a table lie below it, and the other way round.

use super::{Entry, Table};
use crate::spots::{Located, Shown, Shows, Spots};
use crate::{DevNumber, Sector, Sectors};

/// How many runs of one target are tried where it cannot say which of its sectors lies somewhere.
const MAX_TRIED: u32 = 1 << 16;

/// The most sectors of a device that are told of one below it.
const MAX_SHOWN: usize = 1024;

impl Table {
    /// Says where a sector of the device lies; none past the end.
    pub(crate) fn locate(&self, sector: Sector) -> Option<Located> {
        let entry = self.find(sector)?;
        let offset = (sector - entry.begin).to_sector();
        let (mut spots, told) = self.barrier.run((Spots::default(), None), || entry.spots(offset));
        if told.is_none() {
            spots.spots.clear();
            let name = entry.target_type.name();
            spots.notes.insert(0, format!("a `{name}` target does not say where its sectors lie"));
        }
        Some(Located {
            target_type: entry.target_type.name().to_owned(),
            start: entry.begin,
            len: entry.len,
            run: told.unwrap_or(Sectors(1)),
            spots: spots.spots,
            notes: spots.notes,
        })
    }

    /// Says which sectors of the device lie at a sector of a device below.
    pub(crate) fn shows(&self, below: DevNumber, sector: Sector) -> Shows {
        let mut shows = Shows::default();
        for entry in &self.entries {
            let mut uses = false;
            self.barrier.run((), || {
                let mut each = |area: &crate::Area| uses |= area.number() == below;
                entry.target.iterate_devices(&mut each);
                entry.target.writes_to(&mut each);
            });
            if uses {
                let found = self.barrier.run(None, || Some(entry.shows(below, sector, &mut shows)));
                let whole = found.unwrap_or(Found::NotAll);
                if whole == Found::NotAll {
                    shows.notes.push(format!(
                        "the `{}` target at {} does not say which of its sectors lie there",
                        entry.target_type.name(),
                        entry.begin
                    ));
                }
            }
            if shows.shown.len() >= MAX_SHOWN {
                shows.notes.push(format!("more than {MAX_SHOWN} sectors lie there"));
                shows.shown.truncate(MAX_SHOWN);
                break;
            }
        }
        shows
    }
}

/// Whether all sectors that lie somewhere were found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    All,
    NotAll,
}

impl Entry {
    /// Asks the target where one of its sectors lies; what it says ends with it.
    fn spots(&self, offset: Sector) -> (Spots, Option<Sectors>) {
        let mut spots = Spots::default();
        let run = self.target.spots(offset, &mut spots);
        let left = self.len - offset.from_start();
        (spots, run.map(|run| run.min(left).max(Sectors(1))))
    }

    /// Adds the sectors of the target that lie at one below: those that it names, or else, where it has
    /// not too many runs, those that are found by asking for each.
    fn shows(&self, below: DevNumber, sector: Sector, shows: &mut Shows) -> Found {
        if let Some(mut named) = self.target.shown_from(below, sector) {
            named.sort_unstable();
            named.dedup();
            for offset in named.into_iter().filter(|offset| offset.0 < self.len.0) {
                self.add_shown(offset, below, sector, shows);
            }
            return Found::All;
        }
        let mut offset = Sector::ZERO;
        for _ in 0..MAX_TRIED {
            if offset.0 >= self.len.0 {
                return Found::All;
            }
            let (spots, Some(run)) = self.spots(offset) else { return Found::NotAll };
            for spot in spots.spots {
                let ahead = sector.0.wrapping_sub(spot.sector.0);
                if spot.below == below && ahead < run.0 {
                    let sector = self.begin + offset.from_start() + Sectors(ahead);
                    shows.shown.push(self.shown(sector, spot.role));
                }
            }
            offset += run;
        }
        if offset.0 >= self.len.0 { Found::All } else { Found::NotAll }
    }

    fn add_shown(&self, offset: Sector, below: DevNumber, sector: Sector, shows: &mut Shows) {
        let (spots, told) = self.spots(offset);
        let here =
            spots.spots.into_iter().filter(|spot| (spot.below, spot.sector) == (below, sector));
        for spot in here.filter(|_| told.is_some()) {
            shows.shown.push(self.shown(self.begin + offset.from_start(), spot.role));
        }
    }

    fn shown(&self, sector: Sector, role: String) -> Shown {
        Shown { sector, target_type: self.target_type.name().to_owned(), role }
    }
}
