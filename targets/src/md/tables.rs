//! Arrays that are tables of `linear` and `striped`: linear, and raid0 of one zone or several.
//!
//! md changes nothing in their superblocks while they are in use, so nothing has to.

use sim_core::{Sector, Sectors};

use super::assembly::{Candidate, Refused, freshest, too_few};
use super::superblock::{Facts, Role, Superblock};

/// A line of a table: so many sectors over places of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// How long it is.
    pub len: Sectors,
    /// The length of a chunk, where members have their turns.
    pub chunk: Option<Sectors>,
    /// The members, in turn, and where on each the line begins.
    pub places: Vec<(usize, Sector)>,
}

/// Tells whether an array is one of these.
pub fn is_flat(facts: &Facts) -> bool {
    matches!(facts.level, 0 | -1)
}

/// Returns the lines of an array's table, with the candidates counted as they are given.
pub fn spans(candidates: &[Candidate]) -> Result<Vec<Span>, Refused> {
    let members: Vec<(&Superblock, Facts)> =
        candidates.iter().map(|one| (&one.superblock, one.superblock.facts())).collect();
    let freshest = freshest(&members)?;
    let last = &members[freshest].1;
    let mut places: Vec<Option<usize>> = vec![None; last.places];
    for (nr, (_, facts)) in members.iter().enumerate() {
        let refuse = |why: String| Err(Refused { member: Some(nr), why });
        let Role::Active(place) = facts.role else {
            return refuse("is no part of the array".to_owned());
        };
        if facts.events + 1 < last.events {
            return refuse(format!("is out of date, at event {}", facts.events));
        }
        let end = facts.data_offset + facts.data_len;
        if candidates[nr].len < end - Sector::ZERO {
            let found = candidates[nr].len;
            return refuse(format!("expected {end} sectors at least, found {found}"));
        }
        match places.get_mut(place) {
            Some(taken @ None) => *taken = Some(nr),
            Some(Some(_)) => return refuse(format!("has place {place}, as another has")),
            None => {
                return refuse(format!("has place {place} of an array with {}", last.places));
            }
        }
    }
    let there: Vec<usize> = places.iter().flatten().copied().collect();
    if there.len() < places.len() {
        let missing = (0..places.len()).filter(|place| places[*place].is_none());
        return Err(too_few(places.len(), missing, ""));
    }
    let disk = |nr: &usize| {
        let facts = &members[*nr].1;
        let chunk = last.chunk.0.max(1);
        Disk { member: *nr, start: facts.data_offset, len: facts.data_len.0 / chunk * chunk }
    };
    let disks: Vec<Disk> = there.iter().map(disk).collect();
    match last.level {
        -1 => Ok(disks.iter().map(|disk| disk.span(0, disk.len)).collect()),
        _ => zones(&disks, last),
    }
}

struct Disk {
    member: usize,
    start: Sector,
    /// Whole chunks.
    len: u64,
}

impl Disk {
    fn span(&self, from: u64, to: u64) -> Span {
        let places = vec![(self.member, self.start + Sectors(from))];
        Span { len: Sectors(to - from), chunk: None, places }
    }
}

/// Returns the zones of a raid0: over all members as far as the shortest goes, then over those that
/// are longer, and so on.
fn zones(disks: &[Disk], facts: &Facts) -> Result<Vec<Span>, Refused> {
    /// As kernels before 3.14 had it: the turn goes on from zone to zone, and does not begin anew.
    const ORIGINAL: u32 = 1;
    const ALTERNATE: u32 = 2;
    let refuse = |why: String| Err(Refused { member: None, why });
    let chunk = facts.chunk.0;
    if chunk == 0 {
        return refuse("a raid0 without chunks cannot be".to_owned());
    }
    let (mut spans, mut from, mut before) = (Vec::new(), 0, 0);
    loop {
        let mut zone: Vec<&Disk> = disks.iter().filter(|disk| disk.len > from).collect();
        let Some(to) = zone.iter().map(|disk| disk.len).min() else { break };
        let count = zone.len() as u64;
        if from > 0 && count > 1 {
            match facts.raid0_layout {
                ORIGINAL => zone.rotate_left((before / chunk % count) as usize),
                ALTERNATE => {}
                other => {
                    return refuse(format!(
                        "is a raid0 of members that differ, with layout {other}: kernels before 3.14 \
                         and since lay it out in two ways, and `mdadm --update=layout-original` or \
                         `layout-alternate` says which"
                    ));
                }
            }
        }
        spans.push(match &zone[..] {
            [disk] => disk.span(from, to),
            zone => Span {
                len: Sectors((to - from) * count),
                chunk: Some(facts.chunk),
                places: zone.iter().map(|disk| (disk.member, disk.start + Sectors(from))).collect(),
            },
        });
        before += (to - from) * count;
        from = to;
    }
    Ok(spans)
}
