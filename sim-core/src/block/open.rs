//! A device that is held open: the one entry through which whoever has it open sends bios.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};

use crate::fault::{FaultPlace, FaultSlot, Faults};
use crate::graph::Edge;
use crate::trace::TapSlot;
use crate::{
    Access, Allocation, Bio, BlkError, BlkResult, BlockDevice, BoxFuture, DevNumber, Errno, Limits,
    Sector, Sectors,
};

/// A block device held open by a table, or by whoever else uses it; released when dropped.
pub struct OpenDevice {
    device: Arc<dyn BlockDevice>,
    access: Access,
    faults: FaultSlot,
    tap: TapSlot,
    /// Where a table maps onto a mapped device. Given back after the release below.
    _edge: Option<Edge>,
}

impl OpenDevice {
    /// Opens a device.
    pub fn new(device: Arc<dyn BlockDevice>, access: Access) -> Result<OpenDevice, Errno> {
        OpenDevice::below(device, access, None)
    }

    /// Opens a device for a table, which maps onto it by this edge.
    pub(crate) fn below(
        device: Arc<dyn BlockDevice>,
        access: Access,
        edge: Option<Edge>,
    ) -> Result<OpenDevice, Errno> {
        device.open(access)?;
        Ok(OpenDevice {
            device,
            access,
            faults: FaultSlot::default(),
            tap: TapSlot::default(),
            _edge: edge,
        })
    }

    /// Returns the device's number.
    pub fn number(&self) -> DevNumber {
        self.device.number()
    }

    /// Returns the device's name as kernel messages print it.
    pub fn name(&self) -> String {
        self.device.name()
    }

    /// Returns the size in sectors.
    pub fn size(&self) -> Sectors {
        self.device.size()
    }

    /// Returns the limits of the device's queue.
    pub fn limits(&self) -> Limits {
        self.device.limits()
    }

    /// Returns the device's own side, for maps that are folded.
    pub(crate) fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Returns what the device was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns what is made to fail of what is sent through here.
    pub fn fails(&self) -> Fails {
        self.faults.armed().map_or(Fails::Nothing, |faults| faults.fails())
    }

    /// Tells whether a plan of faults is armed for what is sent through here.
    pub(crate) fn has_faults(&self) -> bool {
        self.faults.is_armed()
    }

    /// Returns where what is sent through here is followed.
    pub(crate) fn tap(&self) -> &TapSlot {
        &self.tap
    }

    /// Notes for whoever follows what is sent here that a table sends a bio to `to` of the device, which had
    /// this sector on its own.
    pub(crate) fn note_remap(&self, to: Sector, bio: &Bio<'_>, sector: Sector) {
        if let Some(tap) = self.tap.tap() {
            tap.remapped(bio, to, sector);
        }
    }

    /// Tells whether what is sent through here must pass the entry, and is not folded away.
    pub(crate) fn is_watched(&self) -> bool {
        self.faults.is_armed() || self.tap.is_on()
    }

    /// Returns the plan that is armed for what is sent through here.
    pub(crate) fn faults(&self) -> Option<Arc<Faults>> {
        self.faults.armed()
    }

    /// Arms a plan for what is sent through here from now on, or none; returns the one before. Whoever has
    /// folded this device into a map has to fold it anew.
    pub(crate) fn set_faults(&self, faults: Option<Arc<Faults>>) -> Option<Arc<Faults>> {
        self.faults.set(faults)
    }

    /// Says whether bios are held that a plan makes late: those that are go at once where not.
    pub(crate) fn hold_late(&self, holds: bool) {
        self.faults.hold(holds);
    }

    /// Sends a bio, whose sectors are those of the device. Nothing happens before the submission
    /// is awaited, or asked whether the bio ends at once.
    pub fn submit<'a>(&'a self, bio: Bio<'a>) -> Submission<'a> {
        Submission::new(self, bio)
    }

    /// Lends the pages behind a range to `reply`: see [`BlockDevice::lend`].
    pub fn lend(&self, sector: Sector, len: Sectors, reply: &mut dyn FnMut(&[u8])) -> bool {
        !self.is_watched() && self.device.lend(sector, len, reply)
    }

    /// Tells what the run of sectors that begins at `at` holds: see [`BlockDevice::run_at`].
    pub fn run_at(&self, at: Sector) -> (Allocation, Sectors) {
        self.device.run_at(at)
    }

    /// Tells whether a discard can be made to read as zeros: see [`BlockDevice::discard_zeroes`].
    pub fn discard_zeroes(&self) -> bool {
        self.device.discard_zeroes()
    }

    /// Takes room for a range: see [`BlockDevice::reserve`].
    pub(crate) fn reserve(&self, at: Sector, len: Sectors) -> BoxFuture<'_, BlkResult> {
        let Some(faults) = self.faults.armed() else { return self.device.reserve(at, len) };
        Box::pin(async move {
            match faults
                .meet_reserve(Bio::write_zeroes(at, len), FaultPlace::of(&*self.device))
                .await
            {
                Some(end) => end,
                None => self.device.reserve(at, len).await,
            }
        })
    }

    /// Carries a bio out on the spot, or hands it back.
    pub(crate) fn now<'b>(&self, bio: Bio<'b>) -> Result<BlkResult, Bio<'b>> {
        match (self.is_watched(), bio.end()) {
            (_, None) => Ok(Err(BlkError::Io)),
            // It comes again, and is seen, and meets the faults, once.
            (true, _) => Err(bio),
            (false, _) => self.device.try_now(bio),
        }
    }

    /// Carries out a bio that was handed back. One that crosses the end of all addresses fails.
    pub(crate) fn wait<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        match self.tap.tap() {
            Some(tap) => Box::pin(async move { tap.follow(bio, |bio| self.carry_out(bio)).await }),
            None => self.carry_out(bio),
        }
    }

    fn carry_out<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        match (self.faults.armed(), bio.end()) {
            (_, None) => Box::pin(std::future::ready(Err(BlkError::Io))),
            (Some(faults), _) => Box::pin(async move { faults.meet(bio, &*self.device).await }),
            (None, _) => self.device.submit(bio),
        }
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        self.device.release();
    }
}

impl fmt::Debug for OpenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device.name(), self.device.number())
    }
}

/// A bio on its way to a device: a future that ends when the bio does.
#[must_use = "nothing is submitted before this is awaited, or asked whether it ends at once"]
pub struct Submission<'a> {
    /// The bio's address, where it was sent to.
    back: Sector,
    state: State<'a>,
}

enum State<'a> {
    Fresh(&'a OpenDevice, Bio<'a>),
    Refused(BlkError),
    Waits(BoxFuture<'a, BlkResult>),
    Ended,
}

impl<'a> Submission<'a> {
    fn new(device: &'a OpenDevice, bio: Bio<'a>) -> Submission<'a> {
        Submission { back: bio.sector, state: State::Fresh(device, bio) }
    }

    /// Makes one of a bio that was sent to `back`, and ends with an error at once.
    pub(super) fn refused(back: Sector, error: BlkError) -> Submission<'a> {
        Submission { back, state: State::Refused(error) }
    }

    /// Says at which address a bio is to be handed back.
    pub(super) fn handed_back_at(self, back: Sector) -> Submission<'a> {
        Submission { back, ..self }
    }

    /// Carries the bio out on the spot, or hands it back where that could wait.
    ///
    /// A bio that is handed back may have been carried out in part: it has not ended, so nobody
    /// may rely on the content of its range, and carrying it out again is harmless.
    pub fn now(self) -> Result<BlkResult, Bio<'a>> {
        match self.state {
            State::Fresh(device, bio) => device.now(bio).map_err(|bio| bio.at(self.back)),
            State::Refused(error) => Ok(Err(error)),
            State::Waits(_) | State::Ended => unreachable!("it is asked before it is polled"),
        }
    }
}

impl Future for Submission<'_> {
    type Output = BlkResult;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BlkResult> {
        let this = self.get_mut();
        let mut waits = match std::mem::replace(&mut this.state, State::Ended) {
            State::Fresh(device, bio) => match device.now(bio) {
                Ok(result) => return Poll::Ready(result),
                Err(bio) => device.wait(bio),
            },
            State::Refused(error) => return Poll::Ready(Err(error)),
            State::Waits(waits) => waits,
            State::Ended => unreachable!("a submission is polled until it ends"),
        };
        let polled = waits.as_mut().poll(cx);
        if polled.is_pending() {
            this.state = State::Waits(waits);
        }
        polled
    }
}

/// What is made to fail of what the tables of one device send to a device below: a disk that fails,
/// for one of its users, and on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fails {
    /// Nothing.
    #[default]
    Nothing,
    /// Reads alone.
    Reads,
    /// Whatever is no read: writes, discards, flushes.
    Writes,
    /// Everything.
    All,
    /// Whatever a [`FaultPlan`](crate::FaultPlan) says that is none of these.
    ByPlan,
}
