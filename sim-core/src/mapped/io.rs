//! The way of a bio through a mapped device.

use std::any::Any;
use std::sync::atomic::Ordering::SeqCst;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::MappedDevice;
use super::flat_map::{FlatMap, Place};
use super::walk::{Destination, walk};
use crate::fault::{FaultPlace, Onward};
use crate::sync::gate::Pass;
use crate::{
    Access, Allocation, Bio, BlkError, BlkResult, BlockDevice, DevNumber, End, Errno, Flags, Flat,
    Limits, Op, Sector, Sectors, TableType,
};

impl BlockDevice for MappedDevice {
    fn number(&self) -> DevNumber {
        DevNumber::mapped(self.minor)
    }

    fn name(&self) -> String {
        format!("dm-{}", self.minor)
    }

    fn size(&self) -> Sectors {
        Sectors(self.size.load(SeqCst))
    }

    fn limits(&self) -> Limits {
        self.state().limits.clone()
    }

    fn access(&self) -> Access {
        let read_only = self.read_only.load(SeqCst) || self.is_over_read_only();
        if read_only { Access::ReadOnly } else { Access::ReadWrite }
    }

    fn try_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        self.barrier.run(Ok(Err(BlkError::Io)), || self.flat_now(bio))
    }

    fn submit<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        Box::pin(self.barrier.wait(Err(BlkError::Io), self.run(bio)))
    }

    fn open(&self, _access: Access) -> Result<(), Errno> {
        self.opens.open()
    }

    fn release(&self) {
        self.opens.release();
    }

    fn lend(&self, sector: Sector, len: Sectors, reply: &mut dyn FnMut(&[u8])) -> bool {
        self.barrier.run(false, || self.lend_flat(sector, len, reply))
    }

    fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        // A resume may have made the device smaller than the caller knows.
        let left = self.size.load(SeqCst).saturating_sub(at.0);
        let unknown = (Allocation::Data, Sectors(left));
        self.barrier.run(unknown, || self.flat_run_at(at).unwrap_or(unknown))
    }

    fn discard_zeroes(&self) -> bool {
        self.table().as_ref().is_none_or(|table| table.discard_zeroes())
    }

    fn reserve(&self, at: Sector, len: Sectors) -> BoxFuture<'_, BlkResult> {
        Box::pin(self.barrier.wait(Err(BlkError::Io), self.reserve_below(at, len)))
    }

    fn takes_requests(&self) -> bool {
        self.table_type() == Some(TableType::Requests)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Onward for MappedDevice {
    fn place(&self) -> FaultPlace {
        FaultPlace::of(self)
    }

    fn send<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        Box::pin(self.run_on(bio))
    }
}

impl MappedDevice {
    /// Tells whether no device below can be written: then this one cannot, whatever its table was
    /// loaded for. Linux finds out at the first write.
    fn is_over_read_only(&self) -> bool {
        let live = self.table();
        let below = live.iter().flat_map(|table| table.devices());
        let mut accesses = below.map(|open| open.device().access()).peekable();
        accesses.peek().is_some() && accesses.all(Access::is_read_only)
    }

    /// Carries a bio out on the spot: by the flattened map, or by the table.
    fn flat_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        if !matches!(bio.op(), Op::Read | Op::Write) || bio.flags.preflush {
            return Err(bio);
        }
        if !self.folding.load(SeqCst) {
            return self.walk_now(bio);
        }
        let look = self.flat.look();
        if look.map().is_none() {
            drop(look);
            return self.walk_now(bio);
        }
        let Some((map, _pass)) = look.enter() else { return Err(bio) };
        if self.is_past_end(&bio) {
            return Ok(Err(BlkError::Io));
        }
        match map.find(bio.op(), bio.sector) {
            // One run of one leaf: on to it, with the caller's buffer.
            Some((Place::Leaf(leaf, start), begin, room)) if room >= bio.len() => {
                let (op, flags, sector, len) = (bio.op(), bio.flags, bio.sector, bio.len());
                match map.leaf(*leaf).try_now(bio.at(start.wrapping_add(sector - begin))) {
                    Ok(result) => Ok(self.end_flat(op, flags, sector, len, result)),
                    Err(bio) => Err(bio.at(sector)),
                }
            }
            // More than a remap happens there, which may still be over at once.
            Some((Place::Opaque, _, room)) if room >= bio.len() => self.walk_now(bio),
            _ => self.runs_now(map, bio),
        }
    }

    fn lend_flat(&self, sector: Sector, len: Sectors, reply: &mut dyn FnMut(&[u8])) -> bool {
        let look = self.flat.look();
        if !look.map().is_some_and(|map| map.unwatched) {
            return false;
        }
        let Some((map, _pass)) = look.enter() else { return false };
        if sector.checked_add(len).is_none_or(|end| end.0 > self.size.load(SeqCst)) {
            return false;
        }
        match map.find(Op::Read, sector) {
            Some((Place::Leaf(leaf, start), begin, room)) if room >= len => {
                map.leaf(*leaf).lend(start.wrapping_add(sector - begin), len, reply)
            }
            _ => false,
        }
    }

    /// Tells what a run holds, by the flattened map; none where there is no map.
    fn flat_run_at(&self, at: Sector) -> Option<(Allocation, Sectors)> {
        let map = self.flat()?;
        let _pass = map.gate.try_enter()?;
        let (found, room) = self.find(&map, Op::Read, at)?;
        Some(match found {
            Destination::Leaf(leaf, to) => {
                let (kind, run) = leaf.run_at(to);
                (kind, run.min(room))
            }
            Destination::Zero => (Allocation::Hole, room),
            Destination::Error | Destination::Opaque => (Allocation::Data, room),
        })
    }

    /// Carries out a bio, waiting as long as the device is suspended. One that meets faults does so first:
    /// what they hold is not in the device yet, and no suspend waits for it.
    async fn run(&self, bio: Bio<'_>) -> BlkResult {
        match self.tap.tap() {
            Some(tap) => tap.follow(bio, |bio| self.meet(bio)).await,
            None => self.meet(bio).await,
        }
    }

    async fn meet(&self, bio: Bio<'_>) -> BlkResult {
        match self.faults.armed() {
            Some(faults) => faults.meet(bio, self).await,
            None => self.run_on(bio).await,
        }
    }

    async fn run_on(&self, mut bio: Bio<'_>) -> BlkResult {
        loop {
            if let Some(result) = self.run_flat(&mut bio).await {
                return result;
            }
            let pass = self.enter(bio.flags).await?;
            let Some(table) = self.live() else { return Err(BlkError::Io) };
            let regions = self.stats.regions();
            let counting = regions.as_deref().map(|regions| (&self.stats, regions));
            let result = table.run(bio.reborrow(), counting).await;
            // Before the pass goes: the suspend ends when the last one has, and nobody knows then
            // what kind it was.
            let handed_back = result == Err(BlkError::Requeue) && self.state().noflush;
            drop((pass, table, regions));
            // A bio that a target hands back waits for the resume, and is mapped anew.
            if !handed_back {
                return result.map_err(|error| match error {
                    BlkError::Requeue => BlkError::Io,
                    other => other,
                });
            }
        }
    }

    pub(super) async fn enter(&self, flags: Flags) -> Result<Pass<'_>, BlkError> {
        if let Some(pass) = self.gate.try_enter() {
            return Ok(pass);
        }
        match flags {
            Flags { nowait: true, .. } => Err(BlkError::Again),
            Flags { readahead: true, .. } => Err(BlkError::Io),
            _ => self.gate.enter().await.map_err(|_gone| BlkError::Gone),
        }
    }

    /// Carries out a bio by the flattened map; `None` where it needs the tables.
    async fn run_flat(&self, bio: &mut Bio<'_>) -> Option<BlkResult> {
        if bio.op().is_abnormal() || (bio.flags.preflush && bio.op() != Op::Flush) {
            return None;
        }
        let map = self.flat()?;
        let _pass = map.gate.try_enter()?;
        if bio.op() == Op::Flush {
            let mut flushes: FuturesUnordered<_> =
                map.flush.as_ref()?.iter().map(|leaf| leaf.submit(Bio::flush())).collect();
            let mut result = Ok(());
            while let Some(end) = flushes.next().await {
                result = result.and(end);
            }
            return Some(result);
        }
        if self.is_past_end(bio) {
            return Some(Err(BlkError::Io));
        }
        let mut runs = FuturesUnordered::new();
        let mut rest = Some(bio.reborrow());
        while let Some(bio) = rest.take() {
            let (found, len) = self.find(&map, bio.op(), bio.sector)?;
            let run = if len < bio.len() {
                let (run, tail) = bio.split_at(len);
                rest = Some(tail);
                run
            } else {
                bio
            };
            runs.push(async move {
                let (op, flags, sector, len) = (run.op(), run.flags, run.sector, run.len());
                let result = match found {
                    Destination::Leaf(leaf, to) => leaf.submit(run.at(to)).await,
                    Destination::Zero => fill_zeros(run),
                    Destination::Error => Err(BlkError::Io),
                    Destination::Opaque => return None,
                };
                Some(self.end_flat(op, flags, sector, len, result))
            });
        }
        let mut result = Ok(());
        while let Some(end) = runs.next().await {
            // Another run may have been carried out by now: it is again, by the tables.
            result = result.and(end?);
        }
        Some(result)
    }

    /// Finds where a sector ends up, by the map and, where it says so, by the tables.
    fn find(&self, map: &FlatMap, op: Op, sector: Sector) -> Option<(Destination, Sectors)> {
        let (place, begin, room) = map.find(op, sector)?;
        Some(match place {
            Place::Leaf(leaf, start) => (
                Destination::Leaf(map.leaf(*leaf).clone(), start.wrapping_add(sector - begin)),
                room,
            ),
            Place::Zero => (Destination::Zero, room),
            Place::Error => (Destination::Error, room),
            Place::Opaque => (Destination::Opaque, room),
            Place::Ask => {
                let (found, run) = walk(self, op, sector)?;
                (found, run.min(room))
            }
        })
    }

    /// Carries out a read or a write that crosses runs, unless one of them could wait.
    fn runs_now<'b>(&self, map: &FlatMap, mut bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        let (mut done, mut result) = (Sectors::ZERO, Ok(()));
        while done < bio.len() {
            let sector = bio.sector + done;
            let Some((found, room)) = self.find(map, bio.op(), sector) else { return Err(bio) };
            let len = room.min(bio.len() - done);
            let run = bio.part(done, len);
            let (op, flags) = (run.op(), run.flags);
            let end = match found {
                Destination::Zero => fill_zeros(run),
                Destination::Error => Err(BlkError::Io),
                Destination::Opaque => return Err(bio),
                Destination::Leaf(leaf, to) => match leaf.try_now(run.at(to)) {
                    Ok(end) => end,
                    Err(_) => return Err(bio),
                },
            };
            result = result.and(self.end_flat(op, flags, sector, len, end));
            done += len;
        }
        Ok(result)
    }

    /// Carries out a read or a write by the table, where one target takes all of it and does no
    /// more than to send it on.
    fn walk_now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        // It comes again, and is seen, and meets the faults, once.
        if self.faults.is_armed() || self.tap.is_on() {
            return Err(bio);
        }
        let Some(_pass) = self.gate.try_enter() else { return Err(bio) };
        let live = self.table();
        let Some(table) = live.as_ref() else { return Err(bio) };
        if self.is_past_end(&bio) {
            return Ok(Err(BlkError::Io));
        }
        let Some(entry) = table.find(bio.sector) else { return Err(bio) };
        self.stats.with_regions(|regions| {
            let Some(regions) = regions else { return entry.run_now(bio) };
            let counted = self.stats.begin(regions, &bio);
            let result = entry.run_now(bio);
            if let (Err(_), Some(counted)) = (&result, counted) {
                counted.hand_back();
            }
            result
        })
    }

    /// Tells every target that a failed run passed through, from the last to the first.
    fn end_flat(
        &self,
        op: Op,
        flags: Flags,
        sector: Sector,
        len: Sectors,
        result: BlkResult,
    ) -> BlkResult {
        if result.is_ok() {
            return result;
        }
        let Some(table) = self.live() else { return result };
        let Some(entry) = table.find(sector) else { return result };
        let offset = (sector - entry.begin).to_sector();
        let Flat::Device(area, to, _) = entry.target.flatten(op, offset) else { return result };
        let result = match MappedDevice::of(&**area.device()) {
            Some(below) => {
                below.end_flat(op, flags, area.start.wrapping_add(to.from_start()), len, result)
            }
            None => result,
        };
        entry.target.end_io(&End { op, flags, sector: offset, len, area }, result)
    }

    fn is_past_end(&self, bio: &Bio<'_>) -> bool {
        bio.end().is_none_or(|end| end.0 > self.size.load(SeqCst))
    }
}

/// Reads zeros; drops a write.
fn fill_zeros(mut bio: Bio<'_>) -> BlkResult {
    bio.buffer().fill(0);
    Ok(())
}
