//! One rule: what goes wrong, of which bios, and when.

use serde::{Deserialize, Serialize};

use super::report::Fate;
use super::units::{FaultRate, Seconds};
use crate::{Bio, BlkError, Op, Rng, Sector, Sectors};

/// The longest delay.
pub const MAX_DELAY_MS: u64 = 3_600_000;

/// The most bits that are flipped in one bio: as many as a sector has.
pub const MAX_BITS: u32 = 4096;

/// What goes wrong. Those from [`Torn`](Self::Torn) on are lies: the bio ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// It fails with EIO, and nothing is done.
    Error,
    /// It fails with ENOSPC, and nothing is done.
    Full,
    /// Some sectors of it are done, then it fails with EIO.
    Short,
    /// It comes later.
    Slow,
    /// Some sectors of it are done. A read has zeros for the others.
    Torn,
    /// It is done elsewhere on the device.
    Misdirected,
    /// Bits of its data are the other way round.
    Flip,
    /// Nothing is done of a write or a discard.
    LostWrite,
    /// Nothing is done of a flush; a write is done without its FUA.
    LostFlush,
}

/// Kinds of bios that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultOp {
    /// Reads.
    Reads,
    /// Writes, and writes of zeros.
    Writes,
    /// Writes with FUA.
    Fua,
    /// Flushes.
    Flushes,
    /// Discards.
    Discards,
}

/// A rule of a [`FaultPlan`](super::FaultPlan).
///
/// It fits a bio that is of its kind, touches its sectors, and comes within its time. Of those that
/// fit, it strikes from the [`nth`](Self::nth) on, as often as [`times`](Self::times) says, and by
/// chance where there is a [`rate`](Self::rate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Of which bios; of all that the kind is possible for, where none are named.
    #[serde(default)]
    pub on: Vec<FaultOp>,
    /// The first sector of a range.
    #[serde(default)]
    pub start: Option<Sector>,
    /// How long that is; one sector where this is left out.
    #[serde(default)]
    pub len: Option<Sectors>,
    /// The first of those that fit at which it strikes, counted from 1.
    #[serde(default)]
    pub nth: Option<u64>,
    /// How often it strikes; for good where this is left out.
    #[serde(default)]
    pub times: Option<u64>,
    /// How likely it is that it strikes.
    #[serde(default)]
    pub rate: Option<FaultRate>,
    /// How long after the plan was armed it begins.
    #[serde(default)]
    pub from_s: Option<Seconds>,
    /// How long it lasts from then on.
    #[serde(default)]
    pub for_s: Option<Seconds>,
    /// How long the bio is held before all else.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// How many sectors are done, of a short or a torn one; by chance where this is left out.
    #[serde(default)]
    pub done: Option<Sectors>,
    /// Where a misdirected one goes; by chance where this is left out.
    #[serde(default)]
    pub to: Option<Sector>,
    /// How many bits are flipped; one where this is left out.
    #[serde(default)]
    pub bits: Option<u32>,
}

/// What a fault needs to know of the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultPlace {
    pub(crate) size: Sectors,
    /// Sectors of a logical block.
    pub(crate) block: u64,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 9] = [
        FaultKind::Error,
        FaultKind::Full,
        FaultKind::Short,
        FaultKind::Slow,
        FaultKind::Torn,
        FaultKind::Misdirected,
        FaultKind::Flip,
        FaultKind::LostWrite,
        FaultKind::LostFlush,
    ];

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            FaultKind::Error => "error",
            FaultKind::Full => "full",
            FaultKind::Short => "short",
            FaultKind::Slow => "slow",
            FaultKind::Torn => "torn",
            FaultKind::Misdirected => "misdirected",
            FaultKind::Flip => "flip",
            FaultKind::LostWrite => "lost-write",
            FaultKind::LostFlush => "lost-flush",
        }
    }

    /// Returns the bios that it is possible for.
    pub fn possible(self) -> &'static [FaultOp] {
        use FaultOp::{Discards, Flushes, Fua, Reads, Writes};
        match self {
            FaultKind::Error | FaultKind::Slow => &[Reads, Writes, Fua, Flushes, Discards],
            FaultKind::Full => &[Writes, Fua, Flushes, Discards],
            FaultKind::Short | FaultKind::Torn | FaultKind::Misdirected => {
                &[Reads, Writes, Fua, Discards]
            }
            FaultKind::Flip => &[Reads, Writes, Fua],
            FaultKind::LostWrite => &[Writes, Fua, Discards],
            FaultKind::LostFlush => &[Fua, Flushes],
        }
    }
}

impl FaultOp {
    /// Every kind of bios.
    pub const ALL: [FaultOp; 5] =
        [FaultOp::Reads, FaultOp::Writes, FaultOp::Fua, FaultOp::Flushes, FaultOp::Discards];

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            FaultOp::Reads => "reads",
            FaultOp::Writes => "writes",
            FaultOp::Fua => "fua",
            FaultOp::Flushes => "flushes",
            FaultOp::Discards => "discards",
        }
    }

    fn has(self, bio: &Bio<'_>) -> bool {
        match (self, bio.op()) {
            (FaultOp::Reads, Op::Read)
            | (FaultOp::Writes, Op::Write | Op::WriteZeroes)
            | (FaultOp::Flushes, Op::Flush)
            | (FaultOp::Discards, Op::Discard | Op::SecureErase) => true,
            (FaultOp::Fua, Op::Write | Op::WriteZeroes) => bio.flags.fua,
            (FaultOp::Reads | FaultOp::Writes | FaultOp::Fua, _)
            | (FaultOp::Flushes | FaultOp::Discards, _) => false,
        }
    }
}

impl FaultRule {
    /// Makes one that strikes each bio that its kind is possible for.
    pub fn new(kind: FaultKind) -> FaultRule {
        FaultRule {
            kind,
            on: Vec::new(),
            start: None,
            len: None,
            nth: None,
            times: None,
            rate: None,
            from_s: None,
            for_s: None,
            delay_ms: None,
            done: None,
            to: None,
            bits: None,
        }
    }

    /// Returns the bios that it is about.
    pub fn ops(&self) -> &[FaultOp] {
        if self.on.is_empty() { self.kind.possible() } else { &self.on }
    }

    /// Returns its range, if it has one.
    pub fn range(&self) -> Option<(Sector, Sectors)> {
        Some((self.start?, self.len.unwrap_or(Sectors(1))))
    }

    /// Tells whether it is about a bio, whenever that comes.
    pub(super) fn fits(&self, bio: &Bio<'_>) -> bool {
        // Of a write of zeros there are no data to flip.
        let is_possible = self.kind != FaultKind::Flip || bio.op() != Op::WriteZeroes;
        is_possible && self.ops().iter().any(|op| op.has(bio)) && self.touched(bio).is_some()
    }

    /// Returns the sectors of a bio that it is about, from the bio's first on.
    fn touched(&self, bio: &Bio<'_>) -> Option<(Sectors, Sectors)> {
        let Some((start, len)) = self.range() else { return Some((Sectors::ZERO, bio.len())) };
        let begin = start.max(bio.sector);
        let end = (start.0.saturating_add(len.0)).min(bio.sector.0.saturating_add(bio.len().0));
        (begin.0 < end).then(|| (begin - bio.sector, Sectors(end - begin.0)))
    }

    /// Tells whether it is its time.
    pub(super) fn is_on(&self, since_armed: Seconds) -> bool {
        let from = self.from_s.map_or(std::time::Duration::ZERO, Seconds::duration);
        let since = since_armed.duration();
        since >= from && self.for_s.is_none_or(|lasts| since < from + lasts.duration())
    }

    /// Says what becomes of a bio that is struck.
    pub(super) fn fate(&self, bio: &Bio<'_>, place: FaultPlace, rng: &mut Rng) -> Fate {
        match self.kind {
            FaultKind::Error => Fate::Fails(BlkError::Io),
            FaultKind::Full => Fate::Fails(BlkError::NoSpace),
            FaultKind::Slow => Fate::Late,
            FaultKind::Short => Fate::Short(self.part(bio, place, rng)),
            FaultKind::Torn => Fate::Torn(self.part(bio, place, rng)),
            FaultKind::Misdirected => Fate::Elsewhere(self.aim(bio, place, rng)),
            FaultKind::Flip => {
                let (skip, len) = self.touched(bio).unwrap_or((Sectors::ZERO, bio.len()));
                let first = rng.number() % (len.bytes() * 8).max(1);
                Fate::Flipped { skip, len, first, bits: self.bits.unwrap_or(1) }
            }
            FaultKind::LostWrite => Fate::Lost,
            FaultKind::LostFlush if bio.op() == Op::Flush => Fate::Lost,
            FaultKind::LostFlush => Fate::WithoutFua,
        }
    }

    /// Says how many sectors of a bio are done: whole blocks.
    fn part(&self, bio: &Bio<'_>, place: FaultPlace, rng: &mut Rng) -> Sectors {
        let done = match self.done {
            Some(done) => done.0.min(bio.len().0),
            None => rng.number() % bio.len().0.max(1),
        };
        Sectors(done - done % place.block)
    }

    /// Says where a bio goes instead: the place nearest to what the rule says where it fits, or any block
    /// but its own.
    fn aim(&self, bio: &Bio<'_>, place: FaultPlace, rng: &mut Rng) -> Sector {
        let last = place.size.0.saturating_sub(bio.len().0);
        let last = last - last % place.block;
        if let Some(to) = self.to {
            return to.min(Sector(last));
        }
        let places = last / place.block + 1;
        let own = bio.sector.0 / place.block;
        match places {
            1 => Sector::ZERO,
            _ => Sector((own + 1 + rng.number() % (places - 1)) % places * place.block),
        }
    }
}
