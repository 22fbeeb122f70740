//! Where a sector lies below a target, and which sectors of it lie at one: told, with no I/O.

use serde::{Deserialize, Serialize};

use crate::{Area, DevNumber, Sector, Sectors};

/// One place below a target where a sector of it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// The device below.
    pub below: DevNumber,
    /// The sector of that device.
    pub sector: Sector,
    /// What lies there, in a few words (`data`, `leg 1`, `parity P, leg 2`).
    pub role: String,
}

/// Takes what a target says of where a sector lies.
#[derive(Debug, Default)]
pub struct Spots {
    pub(crate) spots: Vec<Spot>,
    pub(crate) notes: Vec<String>,
}

impl Spots {
    /// Adds a place: a sector of an area, counted from the area's first.
    pub fn at(&mut self, area: &Area, sector: Sector, role: impl Into<String>) {
        let sector = area.start.wrapping_add(sector.from_start());
        self.spots.push(Spot { below: area.number(), sector, role: role.into() });
    }

    /// Adds what is to be known of the sector besides, as a sentence without a full stop.
    pub fn say(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// The target that a sector of a device belongs to, and where it says that the sector lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The target's type.
    pub target_type: String,
    /// Where the target begins on its device.
    pub start: Sector,
    /// How long it is.
    pub len: Sectors,
    /// How many sectors, from the one that was asked about on, lie side by side with it in all places.
    pub run: Sectors,
    /// The places; none where the target has none, or cannot say.
    pub spots: Vec<Spot>,
    /// What the target says besides.
    pub notes: Vec<String>,
}

/// A sector of a device that lies at a sector below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The sector of the device.
    pub sector: Sector,
    /// The type of its target.
    pub target_type: String,
    /// What of it lies there, as in [`Spot::role`].
    pub role: String,
}

/// What a device has of a sector below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shows {
    /// The device's sectors that lie there.
    pub shown: Vec<Shown>,
    /// What is not known, and why.
    pub notes: Vec<String>,
}
