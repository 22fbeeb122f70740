//! raid4, raid5 and raid6: stripes of chunks of data, with one or two chunks of parity each.
//!
//! A stripe lies at the same sectors of all legs. Which leg has which of its chunks goes round from
//! stripe to stripe, in one of several ways: md's word for them counts them for the level.

use sim_core::{Sector, Sectors};

use super::Place;

/// What a leg has of a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A chunk of data, counted from 0.
    Data(usize),
    /// The sum of the chunks of data.
    P,
    /// Their weighted sum.
    Q,
}

/// A layout with parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parity {
    legs: usize,
    chunk: Sectors,
    device: Sectors,
    parities: usize,
    way: Way,
    /// Weights go by the legs, as DDF has it, and not by the chunks of data.
    by_leg: bool,
    /// Where on each leg the first row lies.
    offset: Sectors,
}

/// Which legs have the parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// How the leg with P is found.
    p: Turn,
    /// Where Q is.
    q: BesideP,
    /// Where the first chunk of data is.
    data: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The first leg.
    First,
    /// The last leg but those that only have Q.
    Last,
    /// One leg further down with each stripe, from so many stripes on.
    Down(u64),
    /// One leg further up with each stripe.
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BesideP {
    None,
    /// On the next leg.
    After,
    /// On the leg before.
    Before,
    /// Always on the last leg, which has nothing else: the others are as in a set without Q.
    Alone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Leg by leg, without those that have parity.
    Skipping,
    /// On the legs after those with parity, round the set.
    Continuing,
}

/// A stripe: which leg has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripe {
    legs: usize,
    p: usize,
    q: Option<usize>,
    /// Where data continues behind parity, the first leg with data, and round how many legs.
    round: Option<(usize, usize)>,
    by_leg: bool,
    offset: Sectors,
}

impl Parity {
    /// Makes the layout of md's word for a level of 4, 5 or 6, for so many legs of which each has
    /// `device` sectors; none where the word means nothing for the level, or the legs are too few
    /// for it.
    pub fn new(
        level: u32,
        word: u32,
        legs: usize,
        chunk: Sectors,
        device: Sectors,
    ) -> Option<Parity> {
        use {BesideP::*, Order::*, Turn::*};
        let way = |p, q, data| Some(Way { p, q, data });
        let parities = if level == 6 { 2 } else { 1 };
        let way = match (level, word) {
            (4, 0) => way(Last, None, Skipping),
            (5, 0) => way(Down(0), None, Skipping),
            (5, 1) => way(Up, None, Skipping),
            (5, 2) => way(Down(0), None, Continuing),
            (5, 3) => way(Up, None, Continuing),
            (5, 4) => way(First, None, Skipping),
            (5, 5) => way(Last, None, Skipping),
            (6, 0) => way(Down(0), After, Skipping),
            (6, 1 | 8) => way(Up, After, Skipping),
            (6, 2) => way(Down(0), After, Continuing),
            (6, 3) => way(Up, After, Continuing),
            (6, 4) => way(First, After, Skipping),
            (6, 5) => way(Last, After, Skipping),
            (6, 9) => way(Down(1), After, Skipping),
            (6, 10) => way(Down(0), Before, Continuing),
            (6, 16) => way(Down(0), Alone, Skipping),
            (6, 17) => way(Up, Alone, Skipping),
            (6, 18) => way(Down(0), Alone, Continuing),
            (6, 19) => way(Up, Alone, Continuing),
            (6, 20) => way(First, Alone, Skipping),
            _ => Option::None,
        }?;
        let by_leg = level == 6 && matches!(word, 8..=10);
        let fits = legs > parities && !chunk.is_zero();
        let offset = Sectors::ZERO;
        fits.then_some(Parity { legs, chunk, device, parities, way, by_leg, offset })
    }

    /// Returns the layout with its first row so far from where a leg begins. What counts rows does
    /// so from there all the same.
    #[must_use]
    pub fn at(self, offset: Sectors) -> Parity {
        Parity { offset, ..self }
    }

    /// Returns where on each leg the first row lies.
    pub fn offset(&self) -> Sectors {
        self.offset
    }

    /// Returns how many legs there are.
    pub fn legs(&self) -> usize {
        self.legs
    }

    /// Returns the length of a chunk.
    pub fn chunk(&self) -> Sectors {
        self.chunk
    }

    /// Returns how many legs a set may lose.
    pub fn parities(&self) -> usize {
        self.parities
    }

    /// Returns how many chunks of data a stripe has.
    pub fn data_legs(&self) -> usize {
        self.legs - self.parities
    }

    /// Returns how many sectors of each leg are in use: whole chunks.
    pub fn device_len(&self) -> Sectors {
        Sectors(self.device.0 / self.chunk.0 * self.chunk.0)
    }

    /// Returns the length of the set.
    pub fn len(&self) -> Sectors {
        Sectors(self.device_len().0 * self.data_legs() as u64)
    }

    /// Tells whether the legs are too short for a single chunk.
    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }

    /// Returns how much data a stripe has.
    pub fn stripe_len(&self) -> Sectors {
        Sectors(self.chunk.0 * self.data_legs() as u64)
    }

    /// Returns the stripe in which a sector of the legs lies.
    pub fn stripe_at(&self, row: Sector) -> Stripe {
        let nr = row.0 / self.chunk.0;
        let around = self.legs - usize::from(self.way.q == BesideP::Alone);
        let (turns, last) = (around as u64, around - 1);
        let p = match self.way.p {
            Turn::First => 0,
            Turn::Last if self.way.q == BesideP::After => last - 1,
            Turn::Last => last,
            Turn::Down(by) => last - ((nr + by) % turns) as usize,
            Turn::Up => (nr % turns) as usize,
        };
        let q = match self.way.q {
            BesideP::None => None,
            BesideP::After => Some((p + 1) % around),
            BesideP::Before => Some((p + around - 1) % around),
            BesideP::Alone => Some(around),
        };
        let behind = match self.way.q {
            BesideP::After => p + 2,
            BesideP::None | BesideP::Before | BesideP::Alone => p + 1,
        };
        let round = (self.way.data == Order::Continuing).then_some((behind % around, around));
        Stripe { legs: self.legs, p, q, round, by_leg: self.by_leg, offset: self.offset }
    }

    /// Returns the place of a sector of the set.
    pub fn place(&self, at: Sector) -> Place {
        let (nr, within) = (at.0 / self.chunk.0, at.0 % self.chunk.0);
        let data = self.data_legs() as u64;
        let row = Sector(nr / data * self.chunk.0 + within);
        Place { leg: self.stripe_at(row).leg_of(Role::Data((nr % data) as usize)), sector: row }
    }

    /// Returns the sector of the set at a place; none where there is parity.
    pub fn sector_at(&self, place: Place) -> Option<Sector> {
        let row = place.sector;
        match self.stripe_at(row).role_of(place.leg) {
            Role::Data(nr) => {
                let stripe = row.0 / self.chunk.0;
                let chunk = stripe * self.data_legs() as u64 + nr as u64;
                Some(Sector(chunk * self.chunk.0 + row.0 % self.chunk.0))
            }
            Role::P | Role::Q => None,
        }
    }
}

impl Stripe {
    /// Returns how many legs there are.
    pub fn legs(&self) -> usize {
        self.legs
    }

    /// Returns where on each leg the first row lies.
    pub fn offset(&self) -> Sectors {
        self.offset
    }

    /// Returns how many chunks of data there are.
    pub fn data_legs(&self) -> usize {
        self.legs - 1 - usize::from(self.q.is_some())
    }

    /// Returns the leg with P.
    pub fn p(&self) -> usize {
        self.p
    }

    /// Returns the leg with Q; none in a set without.
    pub fn q(&self) -> Option<usize> {
        self.q
    }

    /// Returns the leg with something that the stripe has.
    ///
    /// # Panics
    /// When asked for Q where there is none.
    pub fn leg_of(&self, role: Role) -> usize {
        match (role, self.round) {
            (Role::P, _) => self.p,
            (Role::Q, _) => self.q.expect("a stripe with Q"),
            (Role::Data(nr), Some((first, around))) => (first + nr) % around,
            (Role::Data(nr), None) => {
                let before = |leg: &usize, parity: usize| usize::from(parity <= *leg);
                let (low, high) = match self.q {
                    Some(q) => (self.p.min(q), self.p.max(q)),
                    None => (self.p, usize::MAX),
                };
                let leg = nr + before(&nr, low);
                leg + before(&leg, high)
            }
        }
    }

    /// Returns what a leg has.
    pub fn role_of(&self, leg: usize) -> Role {
        match leg {
            _ if leg == self.p => Role::P,
            _ if Some(leg) == self.q => Role::Q,
            _ => Role::Data(match self.round {
                Some((first, around)) => (leg + around - first) % around,
                None => {
                    leg - usize::from(self.p < leg)
                        - usize::from(self.q < Some(leg) && self.q.is_some())
                }
            }),
        }
    }

    /// Returns the legs with data, chunk by chunk.
    pub fn data(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.data_legs()).map(|nr| self.leg_of(Role::Data(nr)))
    }

    /// Returns the legs with parity.
    pub fn parities(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(self.p).chain(self.q)
    }

    /// Returns with which power of the generator a leg's data counts in Q.
    pub fn weight(&self, leg: usize) -> usize {
        let Some(q) = self.q.filter(|_| !self.by_leg) else { return leg };
        // As many legs with data as come before it, from the one after Q on.
        let after = |leg: usize| (leg + self.legs - 1 - q) % self.legs;
        after(leg) - usize::from(after(self.p) < after(leg))
    }
}
