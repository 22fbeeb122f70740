//! The types of `raid`: level and layout by a name.

use std::fmt;

use crate::raid::layout::{Format, Raid10};

/// A type of `raid`, as a table line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the kernel's names")]
pub enum Kind {
    Raid0,
    Raid1,
    Raid10Far,
    Raid10Offset,
    Raid10Near,
    Raid10,
    Raid4,
    Raid5N,
    Raid5Ls,
    Raid5Rs,
    Raid5La,
    Raid5Ra,
    Raid6Zr,
    Raid6Nr,
    Raid6Nc,
    Raid6N6,
    Raid6Ls6,
    Raid6Rs6,
    Raid6La6,
    Raid6Ra6,
}

/// What types have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Chunks dealt out, no redundancy.
    Raid0,
    /// The same on each leg.
    Raid1,
    /// Copies of chunks.
    Raid10,
    /// One parity: raid4 and raid5.
    Raid5,
    /// Two parities.
    Raid6,
}

/// A type: its name, what it has in common with others, and md's word for where parity lies.
struct Entry(Kind, &'static str, Family, u32);

/// In the kernel's order: where several fit, the last one is meant.
const TABLE: [Entry; 20] = [
    Entry(Kind::Raid0, "raid0", Family::Raid0, 0),
    Entry(Kind::Raid1, "raid1", Family::Raid1, 0),
    Entry(Kind::Raid10Far, "raid10_far", Family::Raid10, 3),
    Entry(Kind::Raid10Offset, "raid10_offset", Family::Raid10, 2),
    Entry(Kind::Raid10Near, "raid10_near", Family::Raid10, 1),
    Entry(Kind::Raid10, "raid10", Family::Raid10, 0),
    Entry(Kind::Raid4, "raid4", Family::Raid5, 4),
    Entry(Kind::Raid5N, "raid5_n", Family::Raid5, 5),
    Entry(Kind::Raid5Ls, "raid5_ls", Family::Raid5, 2),
    Entry(Kind::Raid5Rs, "raid5_rs", Family::Raid5, 3),
    Entry(Kind::Raid5La, "raid5_la", Family::Raid5, 0),
    Entry(Kind::Raid5Ra, "raid5_ra", Family::Raid5, 1),
    Entry(Kind::Raid6Zr, "raid6_zr", Family::Raid6, 8),
    Entry(Kind::Raid6Nr, "raid6_nr", Family::Raid6, 9),
    Entry(Kind::Raid6Nc, "raid6_nc", Family::Raid6, 10),
    Entry(Kind::Raid6N6, "raid6_n_6", Family::Raid6, 5),
    Entry(Kind::Raid6Ls6, "raid6_ls_6", Family::Raid6, 18),
    Entry(Kind::Raid6Rs6, "raid6_rs_6", Family::Raid6, 19),
    Entry(Kind::Raid6La6, "raid6_la_6", Family::Raid6, 16),
    Entry(Kind::Raid6Ra6, "raid6_ra_6", Family::Raid6, 17),
];

impl Kind {
    /// Returns the type of a name, in whatever case its letters are.
    pub fn named(name: &str) -> Option<Kind> {
        TABLE.iter().find(|entry| entry.1.eq_ignore_ascii_case(name)).map(|entry| entry.0)
    }

    /// Returns the type that the kernel calls a set of this level and layout, as a superblock has
    /// them.
    pub fn of(level: u32, layout: u32) -> Option<Kind> {
        let fits = |entry: &&Entry| match entry.2 {
            family if family.level() != level => false,
            Family::Raid10 => match Raid10::parse(layout) {
                Some((format, ..)) => entry.0.format() == format,
                None => entry.3 == layout,
            },
            _ => entry.3 == layout,
        };
        TABLE.iter().rev().find(fits).map(|entry| entry.0)
    }

    /// Returns the type of a set, or one of its level where dm-raid has none for its layout, as for some
    /// of md's.
    pub fn nearest(level: u32, layout: u32) -> Kind {
        Kind::of(level, layout).unwrap_or(match level {
            0 => Kind::Raid0,
            1 => Kind::Raid1,
            // md has its parity elsewhere than dm-raid.
            4 => Kind::Raid4,
            6 => Kind::Raid6Ls6,
            10 => Kind::Raid10,
            _ => Kind::Raid5Ls,
        })
    }

    /// Returns every type.
    pub fn all() -> impl Iterator<Item = Kind> {
        TABLE.iter().map(|entry| entry.0)
    }

    /// Returns what the type has in common with others.
    pub fn family(self) -> Family {
        self.entry().2
    }

    /// Returns md's number for the layout, before any parameter has been read.
    pub fn algorithm(self) -> u32 {
        self.entry().3
    }

    /// Returns the kernel's name.
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// Returns which format a raid10 type is called after, near for the others.
    fn format(self) -> Format {
        match self {
            Kind::Raid10Far => Format::Far,
            Kind::Raid10Offset => Format::Offset,
            _ => Format::Near,
        }
    }

    fn entry(self) -> &'static Entry {
        TABLE.iter().find(|entry| entry.0 == self).expect("every type is in the table")
    }
}

impl Family {
    /// Returns md's level.
    pub fn level(self) -> u32 {
        match self {
            Family::Raid0 => 0,
            Family::Raid1 => 1,
            Family::Raid10 => 10,
            Family::Raid5 => 5,
            Family::Raid6 => 6,
        }
    }

    /// Returns how many legs' worth of a stripe is parity.
    pub fn parities(self) -> usize {
        match self {
            Family::Raid0 | Family::Raid1 | Family::Raid10 => 0,
            Family::Raid5 => 1,
            Family::Raid6 => 2,
        }
    }

    /// Returns how few legs a type is meant for. The kernel does not hold lines to it, only what
    /// `delta_disks` leaves.
    pub fn least_legs(self) -> u32 {
        match self {
            Family::Raid6 => 4,
            _ => 2,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
