//! What can go wrong with the I/O of a simulated disk.

use sim_core::{Bio, Op, Sector, Sectors};

/// Which bios of a disk go wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One bio fails, of any kind, after so many others: 0 is the next to end. It changes nothing.
    After(u64),
    /// Every bio that touches the range fails, and changes nothing.
    Range(Sector, Sectors),
    /// The bio after so many others is damaged, and those after it if the fault lasts.
    At {
        /// How many others end before it.
        after: u64,
        /// Whether it is the only one.
        lasts: FaultSpan,
        /// What becomes of it.
        damage: Damage,
    },
    /// As `At`, of the bios alone that make something durable: flushes, and writes with FUA or
    /// with a flush before them. That is where targets write what they could not lose.
    AtDurable {
        /// How many others of these end before it.
        after: u64,
        /// Whether it is the only one.
        lasts: FaultSpan,
        /// What becomes of it.
        damage: Damage,
    },
}

/// How long a fault stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSpan {
    /// For one bio.
    Once,
    /// For every bio from the first on, until the disk is healed.
    ForGood,
}

/// What becomes of a bio. All but the first three are lies: the bio ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It fails and changes nothing.
    Error,
    /// So many sectors of it are carried out, then it fails.
    Short(Sectors),
    /// All of it is carried out, then it fails: the answer was lost, and what it was about was not.
    DoneThenError,
    /// So many sectors of it are carried out; the rest is left as it was. A flush does nothing.
    Torn(Sectors),
    /// One bit of its data, counted from the first and modulo the length, is the other way round.
    Corrupt(u64),
    /// It is carried out at this sector, or the last where it fits.
    Misdirected(Sector),
    /// A read gives what is durable, older than the current content; anything else does nothing.
    Stale,
}

/// The faults of a disk.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts one bio, and says what becomes of it; the first fault that was added decides.
    pub(crate) fn next(&mut self, bio: &Bio<'_>) -> Option<Damage> {
        let mut found = None;
        self.0.retain_mut(|fault| {
            let (damage, stays) = fault.next(bio);
            found = found.or(damage);
            stays
        });
        found
    }
}

impl Fault {
    /// Returns what the fault does to a bio, and whether it stays for others.
    fn next(&mut self, bio: &Bio<'_>) -> (Option<Damage>, bool) {
        match self {
            Fault::AtDurable { .. } if !makes_durable(bio) => (None, true),
            Fault::After(0) => (Some(Damage::Error), false),
            Fault::At { after: 0, lasts, damage }
            | Fault::AtDurable { after: 0, lasts, damage } => {
                (Some(*damage), *lasts == FaultSpan::ForGood)
            }
            Fault::After(others)
            | Fault::At { after: others, .. }
            | Fault::AtDurable { after: others, .. } => {
                *others -= 1;
                (None, true)
            }
            Fault::Range(start, len) => {
                let (bio_end, end) = (bio.sector.0.saturating_add(bio.len().0), start.0 + len.0);
                let hit = bio.op() != Op::Flush && bio.sector.0 < end && start.0 < bio_end;
                (hit.then_some(Damage::Error), true)
            }
        }
    }
}

fn makes_durable(bio: &Bio<'_>) -> bool {
    bio.op() == Op::Flush || bio.flags.fua || bio.flags.preflush
}

/// Turns one bit round.
pub(crate) fn flip(bytes: &mut [u8], bit: u64) {
    let bits = bytes.len() as u64 * 8;
    if bits > 0 {
        let bit = bit % bits;
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

/// Returns the place nearest to `to` where `len` sectors fit on a disk of `size`.
pub(crate) fn aim(to: Sector, len: Sectors, size: Sectors) -> Sector {
    to.min(Sector(size.0 - len.0))
}
