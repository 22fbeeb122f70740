//! How an array starts: which members are taken, what each lacks, and what is to be synchronized; or
//! why it does not start. The rules are mdadm's and md's.
//!
//! The member with the highest count of events is believed. One whose count is a single event behind
//! was cut off while superblocks were written, and is as good, where the freshest has it in its place.
//! One that is further behind is *stale*: it is taken back where the bitmap says all that it lacks, and
//! left out otherwise. What a place lacks, a spare gets.

use std::fmt;

use sim_core::{Sector, Sectors};

use super::superblock::{DONE, Facts, Role, Superblock};
use crate::raid::bitmap::{Header, STALE};
use crate::raid::layout::{Layout, Parity, Raid10};
use crate::raid::superblock::Geometry;

/// A device that may be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it says.
    pub superblock: Superblock,
    /// How long it is.
    pub len: Sectors,
    /// The header of its bitmap, where it has one that makes sense.
    pub bitmap: Option<Header>,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What md does by itself.
    Careful,
    /// As `mdadm --assemble --force`: parity that may be wrong is taken for right where a member lacks,
    /// and stale members are taken for fresh where there are too few others.
    Force,
}

/// An array that can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// The candidate that is believed.
    pub freshest: usize,
    /// How the array is made.
    pub geometry: Geometry,
    /// What lies where.
    pub layout: Layout,
    /// Who has which place.
    pub places: Vec<Taken>,
    /// Those that have none, and why.
    pub left_out: Vec<(usize, LeftOut)>,
    /// How many events there were.
    pub events: u64,
    /// What is to be synchronized.
    pub resync: Resync,
    /// The array has a bitmap, which says what was being written.
    pub bitmap: Option<Header>,
    /// The bitmap is to be believed.
    pub bitmap_is_good: bool,
}

/// What is to be made the same at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// Nothing.
    Nothing,
    /// What has bits in the bitmap.
    ByBitmap,
    /// Everything from a sector on.
    From(Sector),
}

/// A place in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This candidate has it, and all of what the array has.
    InSync(usize),
    /// This one has it, and is rebuilt.
    Rebuilt {
        /// Which candidate it is.
        member: usize,
        /// What lies before it has.
        from: Sector,
        /// Its events, where behind that it lacks what has bits.
        back: Option<u64>,
        /// It was a spare until now.
        was_spare: bool,
    },
    /// Nobody.
    Nobody,
}

/// Why a member is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It is behind by its count of events, and no bitmap says by what.
    Stale {
        /// Its events.
        events: u64,
    },
    /// It has failed, as it says itself.
    Failed,
    /// It was used without the others, and these without it.
    Apart,
    /// It is a spare, and none is needed.
    Spare,
    /// It lacks what was not rebuilt onto it yet.
    Behind,
}

/// Why an array does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The member that is the reason, if one is.
    pub member: Option<usize>,
    /// The reason.
    pub why: String,
}

impl Refused {
    pub(crate) fn of(member: usize, why: impl Into<String>) -> Refused {
        Refused { member: Some(member), why: why.into() }
    }

    pub(crate) fn all(why: impl Into<String>) -> Refused {
        Refused { member: None, why: why.into() }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftOut::Stale { events } => write!(f, "is out of date, at event {events}"),
            LeftOut::Failed => f.write_str("has failed"),
            LeftOut::Apart => f.write_str("was used without the others, and these without it"),
            LeftOut::Spare => f.write_str("is a spare"),
            LeftOut::Behind => f.write_str("is not rebuilt"),
        }
    }
}

impl Taken {
    /// Returns the candidate.
    pub fn member(&self) -> Option<usize> {
        match self {
            Taken::InSync(member) | Taken::Rebuilt { member, .. } => Some(*member),
            Taken::Nobody => None,
        }
    }

    fn is_in_sync(&self) -> bool {
        matches!(self, Taken::InSync(_))
    }
}

/// Returns the words for an array, which people know it by.
pub fn name_of(facts: &Facts) -> String {
    let level = match facts.level {
        -1 => "linear".to_owned(),
        level => format!("raid{level}"),
    };
    let of = format!("{level} of {} members", facts.places);
    if facts.name.is_empty() {
        of
    } else {
        format!("{level} `{}` of {} members", facts.name, facts.places)
    }
}

/// Returns the member with the most events that has a place, having seen that all are of one array.
pub(super) fn freshest(members: &[(&Superblock, Facts)]) -> Result<usize, Refused> {
    for (nr, (_, facts)) in members.iter().enumerate() {
        if let Some(what) = facts.unsupported {
            return Err(Refused::of(nr, format!("{what}, which is not supported")));
        }
    }
    let active =
        |(_, (_, facts)): &(usize, &(&Superblock, Facts))| matches!(facts.role, Role::Active(_));
    let all = members.iter().enumerate().filter(active);
    let freshest = all.rev().max_by_key(|(_, (_, facts))| facts.events).map(|(nr, _)| nr);
    let Some(freshest) = freshest else {
        return Err(Refused::all(
            "none of these has a place in an array: they are spares, or failed",
        ));
    };
    let (superblock, last) = &members[freshest];
    for (nr, (other, facts)) in members.iter().enumerate() {
        let set = |superblock: &Superblock, facts: &Facts| (facts.uuid, superblock.version());
        if set(other, facts) != set(superblock, last) {
            let why = format!("is of another array, a {}", name_of(facts));
            return Err(Refused::of(nr, why));
        }
        let shape =
            |facts: &Facts| (facts.level, facts.layout, facts.chunk, facts.places, facts.size);
        if facts.role != Role::Spare && shape(facts) != shape(last) {
            return Err(Refused::of(nr, "says otherwise than the others how the array is made"));
        }
    }
    Ok(freshest)
}

/// Decides how an array starts, of the levels that keep more than the data: 1, 4, 5, 6 and 10.
pub fn decide(candidates: &[Candidate], mode: Mode) -> Result<Assembly, Refused> {
    let members: Vec<(&Superblock, Facts)> = candidates
        .iter()
        .map(|candidate| (&candidate.superblock, candidate.superblock.facts()))
        .collect();
    let freshest = freshest(&members)?;
    let last = &members[freshest].1;
    let layout = layout(&shape(last), &name_of(last))?;
    for (nr, (candidate, (_, facts))) in candidates.iter().zip(&members).enumerate() {
        let needed = facts.data_offset + last.size;
        if facts.role != Role::Faulty && (candidate.len < needed - Sector::ZERO) {
            let (has, needs) = (candidate.len, needed.0);
            return Err(Refused::of(nr, format!("expected {needs} sectors at least, found {has}")));
        }
    }
    let bitmap = candidates[freshest].bitmap.clone();
    let is_good = |header: &Header| header.events >= last.events && header.state & STALE == 0;
    let bitmap_is_good = bitmap.as_ref().is_some_and(is_good);
    if last.bitmap.is_some() && bitmap.is_none() {
        return Err(Refused::of(freshest, "has a bitmap that makes no sense"));
    }
    let cleared = bitmap.as_ref().filter(|_| bitmap_is_good).map(|header| header.events_cleared);
    let mut choosing =
        Choosing { members, freshest, cleared, places: Vec::new(), left_out: Vec::new() };
    choosing.choose()?;
    let mut forced = false;
    while !has_enough(&layout, &choosing.places) {
        match mode == Mode::Force && choosing.take_stale() {
            true => forced = true,
            false => return Err(choosing.too_few(mode)),
        }
    }
    choosing.take_spares(&layout);
    let last = &choosing.members[freshest].1;
    let in_sync = choosing.places.iter().filter(|place| place.is_in_sync()).count();
    let is_whole = in_sync == choosing.places.len();
    let is_dirty = last.resync_offset != DONE || forced;
    if matches!(layout, Layout::Parity(_)) && is_dirty && !is_whole && mode == Mode::Careful {
        let why = format!(
            "assembled from {in_sync} members, not enough to start it while not clean: what was being \
             written may be wrong everywhere; `raid assemble --force` takes it as it is"
        );
        return Err(Refused::all(why));
    }
    let resync = match () {
        () if !is_dirty => Resync::Nothing,
        // Nothing to compare it with, or nothing that tells what is right.
        () if in_sync == 1 => Resync::Nothing,
        () if matches!(layout, Layout::Parity(_)) && !is_whole => Resync::Nothing,
        () if bitmap_is_good && !forced => Resync::ByBitmap,
        () if forced => Resync::From(Sector::ZERO),
        () => Resync::From(Sector(last.resync_offset)),
    };
    Ok(Assembly {
        freshest,
        geometry: geometry(last),
        layout,
        events: last.events,
        resync,
        bitmap,
        bitmap_is_good,
        places: choosing.places,
        left_out: choosing.left_out,
    })
}

/// Members that get their places.
struct Choosing<'a> {
    members: Vec<(&'a Superblock, Facts)>,
    freshest: usize,
    /// From so many events on, a stale member lacks no more than what has bits.
    cleared: Option<u64>,
    places: Vec<Taken>,
    left_out: Vec<(usize, LeftOut)>,
}

impl Choosing<'_> {
    fn choose(&mut self) -> Result<(), Refused> {
        let (count, events) = {
            let last = &self.members[self.freshest].1;
            (last.places, last.events)
        };
        self.places = vec![Taken::Nobody; count];
        let mut stale = Vec::new();
        for (nr, (_, facts)) in self.members.iter().enumerate() {
            let place = match facts.role {
                Role::Active(place) => place,
                Role::Spare => {
                    self.left_out.push((nr, LeftOut::Spare));
                    continue;
                }
                Role::Faulty | Role::Journal => {
                    self.left_out.push((nr, LeftOut::Failed));
                    continue;
                }
            };
            let Some(taken) = self.places.get_mut(place) else {
                let why = format!("has place {place} of an array with {count}");
                return Err(Refused::of(nr, why));
            };
            let (freshest, last) = &self.members[self.freshest];
            let known = freshest.role_of(facts.number) == facts.role;
            // Neither what has bits nor a count of events says by what such a one differs.
            if self.members[nr].0.role_of(last.number) != last.role && !known {
                if facts.events.abs_diff(events) > 1 {
                    self.left_out.push((nr, LeftOut::Apart));
                    continue;
                }
                return Err(Refused::of(nr, used_apart(last, facts)));
            }
            if facts.events != events && !(known && facts.events + 1 == events) {
                stale.push((nr, place));
                continue;
            }
            if taken.member().is_some() {
                return Err(Refused::of(nr, format!("has place {place}, as another has")));
            }
            *taken = match facts.recovery_offset {
                DONE => Taken::InSync(nr),
                from => Taken::Rebuilt {
                    member: nr,
                    from: Sector(from),
                    back: facts.recovers_by_bitmap.then_some(facts.events),
                    was_spare: false,
                },
            };
        }
        // The freshest of them first.
        stale.sort_by_key(|(nr, _)| std::cmp::Reverse(self.members[*nr].1.events));
        for (nr, place) in stale {
            let facts = &self.members[nr].1;
            let events = facts.events;
            let is_known = self.cleared.is_some_and(|cleared| events >= cleared);
            match self.places[place] {
                Taken::Nobody if is_known && facts.recovery_offset == DONE => {
                    let (member, from, back) = (nr, Sector::ZERO, Some(events));
                    self.places[place] = Taken::Rebuilt { member, from, back, was_spare: false };
                }
                _ => self.left_out.push((nr, LeftOut::Stale { events })),
            }
        }
        Ok(())
    }

    /// Takes the freshest of those that are stale for good; tells whether there was one.
    fn take_stale(&mut self) -> bool {
        let place_of = |nr: usize| match self.members[nr].1.role {
            Role::Active(place) => Some(place),
            Role::Spare | Role::Faulty | Role::Journal => None,
        };
        let back = self.places.iter().filter_map(|place| match place {
            Taken::Rebuilt { member, back: Some(events), .. } => Some((*member, *events)),
            _ => None,
        });
        let out = self.left_out.iter().filter_map(|(nr, why)| match why {
            LeftOut::Stale { events } => Some((*nr, *events)),
            LeftOut::Failed | LeftOut::Apart | LeftOut::Spare | LeftOut::Behind => None,
        });
        let free = |nr: usize| {
            place_of(nr).filter(|place| {
                let taken = self.places[*place].member();
                taken.is_none_or(|member| member == nr)
            })
        };
        let all = back.chain(out).filter_map(|(nr, events)| Some((events, nr, free(nr)?)));
        let Some((_, nr, place)) = all.max() else { return false };
        self.places[place] = Taken::InSync(nr);
        self.left_out.retain(|(other, _)| *other != nr);
        true
    }

    /// Gives spares the places that nobody has.
    fn take_spares(&mut self, layout: &Layout) {
        let size = layout.recovery_len();
        for place in self.places.iter_mut().filter(|place| place.member().is_none()) {
            let fits = |(nr, why): &(usize, LeftOut)| {
                *why == LeftOut::Spare && self.members[*nr].1.data_len >= size
            };
            let Some(at) = self.left_out.iter().position(fits) else { return };
            let (member, _) = self.left_out.remove(at);
            let (from, back) = (Sector::ZERO, None);
            *place = Taken::Rebuilt { member, from, back, was_spare: true };
        }
    }

    fn too_few(&self, mode: Mode) -> Refused {
        let missing = (0..self.places.len()).filter(|place| !self.places[*place].is_in_sync());
        let stale = self.left_out.iter().any(|(_, why)| matches!(why, LeftOut::Stale { .. }))
            || self
                .places
                .iter()
                .any(|place| matches!(place, Taken::Rebuilt { back: Some(_), .. }));
        let force = match stale && mode == Mode::Careful {
            true => "; --force takes those that are out of date for good",
            false => "",
        };
        too_few(self.places.len(), missing, force)
    }
}

/// Says that two members were each used without the other, though both count as many events.
fn used_apart(last: &Facts, facts: &Facts) -> String {
    let place = |facts: &Facts| match facts.role {
        Role::Active(place) => format!("member {place}"),
        Role::Spare | Role::Faulty | Role::Journal => "another member".to_owned(),
    };
    format!(
        "was used without {}, and that without {}, so that they differ: name the one that is right alone, and give it \
         the other as a new member",
        place(last),
        place(facts)
    )
}

/// Refuses an array of which there are too few, and says whose places are empty.
pub(crate) fn too_few(count: usize, missing: impl Iterator<Item = usize>, advice: &str) -> Refused {
    let missing: Vec<String> = missing.map(|place| place.to_string()).collect();
    let (there, without) = (count - missing.len(), missing.join(", "));
    Refused::all(format!(
        "assembled from {there} of {count} members, not enough to start it (without {without}){advice}"
    ))
}

/// Tells whether those in sync have all of the data.
pub(crate) fn has_enough(layout: &Layout, places: &[Taken]) -> bool {
    let lost = |place: usize| !places[place].is_in_sync();
    match layout {
        Layout::Raid0 { .. } => !(0..places.len()).any(lost),
        Layout::Raid1 { .. } => (0..places.len()).any(|place| !lost(place)),
        Layout::Raid10(raid10) => raid10.has_enough(lost),
        Layout::Parity(parity) => {
            (0..places.len()).filter(|place| lost(*place)).count() <= parity.parities()
        }
    }
}

fn geometry(facts: &Facts) -> Geometry {
    Geometry {
        level: facts.level as u32,
        layout: if facts.level == 1 { 0 } else { facts.layout },
        chunk_sectors: if facts.level == 1 { 0 } else { facts.chunk.0 as u32 },
    }
}

/// What the layout of an array is made by.
pub(crate) struct Shape {
    pub(crate) level: i32,
    pub(crate) layout: u32,
    pub(crate) chunk: Sectors,
    pub(crate) places: usize,
    pub(crate) size: Sectors,
}

/// Makes the layout of an array, which people know by a name.
pub(crate) fn layout(shape: &Shape, name: &str) -> Result<Layout, Refused> {
    const LEAST_CHUNK: u64 = 8;
    const MOST_CHUNK: u64 = 1 << 31;
    const MOST_OF_DEVICE: u64 = 1 << 46;
    let Shape { level, layout, chunk, places: legs, size: device } = *shape;
    if !(1..=crate::lines::raid::MAX_LEGS).contains(&legs) {
        return Err(Refused::all(format!("an array of {legs} members cannot be")));
    }
    // Whatever is counted of these, in bytes too, fits into 64 bits.
    if device.0 > MOST_OF_DEVICE {
        return Err(Refused::all(format!("members of {device} sectors cannot be")));
    }
    let has_chunks = level != 1;
    let is_chunk =
        |chunk: u64| (LEAST_CHUNK..=MOST_CHUNK).contains(&chunk) && chunk.is_power_of_two();
    if has_chunks && !is_chunk(chunk.0) {
        return Err(Refused::all(format!("chunks of {chunk} sectors cannot be")));
    }
    let made = match level {
        1 => Some(Layout::Raid1 { legs, device }),
        4..=6 => Parity::new(level as u32, layout, legs, chunk, device).map(Layout::Parity),
        10 => Raid10::new(layout, legs, chunk, device).map(Layout::Raid10),
        0 | -1 => return Err(Refused::all("needs no target `md`: it is `striped` and `linear`")),
        other => return Err(Refused::all(format!("is of level {other}, which is not supported"))),
    };
    let made = made.filter(|layout| !layout.is_empty());
    made.ok_or_else(|| Refused::all(format!("a {name} of layout {layout:#x} cannot be")))
}

fn shape(facts: &Facts) -> Shape {
    let Facts { level, layout, chunk, places, size, .. } = *facts;
    Shape { level, layout, chunk, places, size }
}
