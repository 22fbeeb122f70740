//! Where a leg's data lies on its image: from the end of the metadata on, and after the set has been given
//! more legs in a ring there.
//!
//! A reshape needs room in front of the data. So there is a ring, as long as what a leg has and the room;
//! each time that legs are added, the data's device begins earlier by the room, at the ring's end first, and
//! data moves back by as much. What is behind the data then is the room of the next time.

use sim_core::{Sector, Sectors, TargetSpec};
use targets::lines::DeviceWord;
use targets::lines::raid::MAX_LEGS;

use super::META;
use crate::commands::one;

/// A ring is shorter, so that no place in it overflows.
const LONGEST: u64 = 1 << 54;

/// How the legs of a set lie that was given more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Ring {
    /// How long it is: what a leg has, and the room.
    len: Sectors,
    room: Sectors,
    /// Where data begins for a set that has [`Ring::legs`]; before, it began later by the room.
    start: Sectors,
    /// How many legs there were.
    before: u32,
    /// How many there are, or are to be: the superblocks tell whether it has come to that.
    legs: u32,
}

/// The sectors of an image that are a leg's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Stretch {
    /// Where they begin behind the metadata.
    start: Sectors,
    /// Where they go on at the end of the metadata.
    turn: Sectors,
    len: Sectors,
}

impl Ring {
    /// Begins a ring for a set of so many legs, whose data lies right behind the metadata.
    pub(in super::super) fn new(data: Sectors, room: Sectors, legs: usize) -> Ring {
        let legs = legs as u32;
        Ring { len: data + room, room, start: Sectors::ZERO, before: legs, legs }
    }

    /// Returns the ring of a set of `now` legs that gets more; none where it is of another number.
    pub(in super::super) fn grown(&self, now: usize, legs: usize) -> Option<Ring> {
        let start = self.start(now)?;
        let start = Sectors((start.0 + self.len.0 - self.room.0) % self.len.0);
        Some(Ring { start, before: now as u32, legs: legs as u32, ..*self })
    }

    /// How much a leg has.
    pub(in super::super) fn data(&self) -> Sectors {
        self.len - self.room
    }

    pub(in super::super) fn room(&self) -> Sectors {
        self.room
    }

    pub(in super::super) fn legs(&self) -> usize {
        self.legs as usize
    }

    /// Returns what is a leg's data for a set of so many legs, by its superblocks; nothing where it is of
    /// another number. The room lies behind the data, or before it while that moves.
    pub(in super::super) fn stretch(&self, legs: usize) -> Option<Stretch> {
        let start = self.start(legs)?;
        Some(Stretch { start, turn: self.len, len: self.len })
    }

    fn start(&self, legs: usize) -> Option<Sectors> {
        match u32::try_from(legs).ok()? {
            legs if legs == self.legs => Some(self.start),
            legs if legs == self.before => Some(Sectors((self.start.0 + self.room.0) % self.len.0)),
            _ => None,
        }
    }

    /// Returns its words for a label.
    pub(super) fn to_words(self) -> [u64; 5] {
        [self.len.0, self.room.0, self.start.0, self.before.into(), self.legs.into()]
    }

    /// Reads the words of a label; nothing where they make no ring.
    pub(super) fn from_words([len, room, start, before, legs]: [u64; 5]) -> Option<Ring> {
        let legs_fit = |legs: u64| (1..=MAX_LEGS as u64).contains(&legs);
        let fits = len < LONGEST && room > 0 && room < len && start < len;
        let fits = fits && legs_fit(before) && legs_fit(legs);
        let (before, legs) = (before as u32, legs as u32);
        let (len, room, start) = (Sectors(len), Sectors(room), Sectors(start));
        fits.then_some(Ring { len, room, start, before, legs })
    }
}

impl Stretch {
    /// Data that lies right behind the metadata.
    pub(in super::super) fn whole(len: Sectors) -> Stretch {
        Stretch { start: Sectors::ZERO, turn: len, len }
    }

    /// How long an image has to be.
    pub(in super::super) fn needs(&self) -> Sectors {
        META + self.turn
    }

    /// Returns the table of a device that is these sectors of an image.
    pub(in super::super) fn table(&self, image: &DeviceWord) -> Vec<TargetSpec> {
        let first = self.len.min(self.turn - self.start);
        let parts = [(self.start, first), (Sectors::ZERO, self.len - first)];
        let mut table: Vec<TargetSpec> = Vec::new();
        for (at, len) in parts.into_iter().filter(|(_, len)| !len.is_zero()) {
            let start = if table.is_empty() { Sector::ZERO } else { first.to_sector() };
            let params = format!("{image} {}", META + at);
            table.extend(
                one(len, "linear", &params).into_iter().map(|line| TargetSpec { start, ..line }),
            );
        }
        table
    }

    /// Tells whether a sector of the device lies here on the image, with some behind it.
    pub(in super::super) fn lies(&self, sector: Sector, len: Sectors, image: Sector) -> bool {
        let at = (self.start.0 + sector.0) % self.turn.0;
        len.0 <= self.turn.0 - at && image.0.checked_sub(META.0) == Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(stretch: Stretch) -> Vec<String> {
        let table = stretch.table(&DeviceWord("a".to_owned()));
        table.iter().map(|line| format!("{} {} {}", line.start, line.len, line.params)).collect()
    }

    #[test]
    fn each_time_that_a_set_grows_the_room_lies_before_the_data() {
        let first = Ring::new(Sectors(1000), Sectors(64), 3);
        let meta = META.0;
        let second = first.grown(3, 4).expect("three legs");
        // As it was, where the superblocks have three legs yet.
        let whole = places(second.stretch(3).expect("it had three"));
        assert_eq!(whole, [format!("0 1064 a {meta}")]);
        let now = places(second.stretch(4).expect("it has four"));
        assert_eq!(now, [format!("0 64 a {}", meta + 1000), format!("64 1000 a {meta}")]);
        let third = second.grown(4, 6).expect("four legs");
        assert_eq!(third.stretch(4), second.stretch(4), "it lies as it did");
        let now = places(third.stretch(6).expect("it has six"));
        assert_eq!(now, [format!("0 128 a {}", meta + 936), format!("128 936 a {meta}")]);
        assert_eq!(third.stretch(3), None);
        // What was cut off before it began is asked for again, with more.
        assert_eq!(third.grown(4, 5).expect("four legs").stretch(5), third.stretch(6));
        assert_eq!(Ring::from_words(third.to_words()), Some(third));
    }

    #[test]
    fn words_that_make_no_ring_are_none() {
        let good = Ring::new(Sectors(1000), Sectors(64), 3).to_words();
        assert!(Ring::from_words(good).is_some());
        let bad = [(0, 64), (0, u64::MAX), (1, 0), (1, 1064), (2, 1064), (3, 0), (4, 0), (4, 300)];
        for (word, value) in bad {
            let mut words = good;
            words[word] = value;
            assert_eq!(Ring::from_words(words), None, "{words:?}");
        }
    }
}
