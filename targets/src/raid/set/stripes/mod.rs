//! Sets with parity: raid4, raid5 and raid6.
//!
//! A stripe lies at the same sectors of all legs, its *rows*. Who changes rows has them for himself,
//! from what he reads of them until all legs have what he writes: parity is right at any time for
//! whoever comes next. What has begun to be written is written to its end, also where nobody waits
//! for it any more. Between two power cuts the parity of rows is known to be right by the bitmap;
//! where a cut left it open, it is computed from the data.
//!
//! Small writes that wait for their rows are carried out as one when they get them (`turns.rs`), and with
//! a journal in the mode `writeback` they wait in its cache (`cache/`).
//!
//! A leg that is lost is computed from the others, for reads and for what a write needs to know.

mod background;
mod bands;
mod blocks;
mod cache;
mod plan;
mod read;
mod turns;
mod write;

pub(super) use cache::Cache;
pub(super) use turns::Turns;

use std::ops::Range;

use futures_util::stream::{FuturesUnordered, StreamExt};
use sim_core::{Bio, BlkResult, Buffer, Sector};

use super::RaidSet;
use super::state::State;
use crate::raid::layout::Stripe;
use blocks::Blocks;

/// Legs of which nothing was read at once: they could not be, or that waits.
#[derive(Default)]
struct Fetched {
    unread: Vec<usize>,
    waiting: Vec<(usize, Buffer)>,
}

impl RaidSet {
    /// Reads the rows of those legs of a stripe that `reads` says: it is asked once more without legs that
    /// could not be read, which are `unread` from the beginning or are added there. Ends with what it
    /// fails with.
    async fn gather<'d, E>(
        &self,
        stripe: Stripe,
        rows: &Range<Sector>,
        unread: &mut Vec<usize>,
        mut reads: impl FnMut(&State, &dyn Fn(usize) -> bool) -> Result<Vec<usize>, E>,
    ) -> Result<Blocks<'d>, E> {
        loop {
            let legs = {
                let state = self.state();
                reads(&state, &|leg| state.is_in_sync(leg) && !unread.contains(&leg))?
            };
            let mut blocks = Blocks::new(stripe, (rows.end - rows.start).bytes() as usize);
            match self.fetch(rows, &legs, &mut blocks).await {
                failed if failed.is_empty() => return Ok(blocks),
                failed => unread.extend(failed),
            }
        }
    }

    /// Reads rows of some legs. Returns those that could not be read.
    async fn fetch(
        &self,
        rows: &Range<Sector>,
        legs: &[usize],
        blocks: &mut Blocks<'_>,
    ) -> Vec<usize> {
        let Fetched { mut unread, waiting } = self.fetch_now(rows, legs, blocks);
        if waiting.is_empty() {
            return unread;
        }
        let at = rows.start + blocks.stripe().offset();
        let read = |(leg, mut block): (usize, Buffer)| async move {
            let end = self.data(leg).submit(at, Bio::read(at, &mut block)).await;
            (leg, block, end)
        };
        let mut reads: FuturesUnordered<_> = waiting.into_iter().map(read).collect();
        while let Some((leg, block, end)) = reads.next().await {
            match end {
                Ok(()) => blocks.put(leg, block),
                Err(_) => unread.push(leg),
            }
        }
        unread
    }

    /// Reads rows of some legs, as far as that is over at once.
    fn fetch_now(&self, rows: &Range<Sector>, legs: &[usize], blocks: &mut Blocks<'_>) -> Fetched {
        let mut fetched = Fetched::default();
        let at = rows.start + blocks.stripe().offset();
        for leg in legs {
            let mut block = Buffer::take(blocks.bytes());
            let read = self.data(*leg).submit(at, Bio::read(at, &mut block));
            match read.now().ok() {
                Some(Ok(())) => blocks.put(*leg, block),
                Some(Err(_)) => fetched.unread.push(*leg),
                None => fetched.waiting.push((*leg, block)),
            }
        }
        fetched
    }

    /// Writes to a leg, at a sector of it, what it could not read, and reads that again.
    pub(super) async fn write_and_read(
        &self,
        leg: usize,
        at: Sector,
        block: &mut [u8],
    ) -> BlkResult {
        let area = self.data(leg);
        area.submit(at, Bio::write(at, block)).await?;
        area.submit(at, Bio::read(at, block)).await
    }
}
