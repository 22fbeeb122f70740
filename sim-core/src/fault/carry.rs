//! Carries a bio out as a plan says.

use super::armed::Faults;
use super::report::Fate;
use super::rule::FaultPlace;
use crate::{Bio, BlkError, BlkResult, BlockDevice, BoxFuture, Op, SECTOR_SIZE, Sectors};

/// Where a bio goes that meets a plan.
pub(crate) trait Onward: Send + Sync {
    /// Says what faults need to know of it.
    fn place(&self) -> FaultPlace;

    /// Takes a bio, or what is left of it.
    fn send<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult>;
}

impl FaultPlace {
    /// Describes a device.
    pub(crate) fn of(device: &dyn BlockDevice) -> FaultPlace {
        let block = u64::from(device.limits().logical_block_size) / SECTOR_SIZE;
        FaultPlace { size: device.size(), block: block.max(1) }
    }
}

impl Onward for dyn BlockDevice {
    fn place(&self) -> FaultPlace {
        FaultPlace::of(self)
    }

    fn send<'a>(&'a self, bio: Bio<'a>) -> BoxFuture<'a, BlkResult> {
        self.submit(bio)
    }
}

impl Faults {
    /// Sends a bio on, or does what the plan says. A flush before a write counts as one of its own.
    pub(crate) async fn meet<O: Onward + ?Sized>(&self, mut bio: Bio<'_>, onward: &O) -> BlkResult {
        if bio.flags.preflush && bio.op() != Op::Flush {
            bio.flags.preflush = false;
            self.meet_one(Bio::flush(), onward).await?;
            if bio.is_empty() {
                return Ok(());
            }
        }
        self.meet_one(bio, onward).await
    }

    async fn meet_one<O: Onward + ?Sized>(&self, mut bio: Bio<'_>, onward: &O) -> BlkResult {
        // What is not on the device fails there, and no fault moves it to where it could be done.
        let place = onward.place();
        if bio.end().is_none_or(|end| end.0 > place.size.0) {
            return onward.send(bio).await;
        }
        let Some((delay, fate)) = self.strike(&bio, place) else { return onward.send(bio).await };
        if let Some(delay) = delay {
            if bio.flags.nowait {
                return Err(BlkError::Again);
            }
            self.delay(delay).await;
        }
        match fate {
            Fate::Fails(error) => Err(error),
            Fate::Late => onward.send(bio).await,
            Fate::Short(done) => send_part(bio, done, onward).await.and(Err(BlkError::Io)),
            Fate::Torn(done) => send_part(bio, done, onward).await,
            Fate::Elsewhere(to) => onward.send(bio.at(to)).await,
            Fate::Flipped { .. } => send_flipped(bio, fate, onward).await,
            Fate::Lost => Ok(()),
            Fate::WithoutFua => {
                bio.flags.fua = false;
                onward.send(bio).await
            }
        }
    }

    /// Says whether room for a range is taken: as of a write, but that nothing can be wrong with its data.
    pub(crate) async fn meet_reserve(&self, bio: Bio<'_>, place: FaultPlace) -> Option<BlkResult> {
        let (delay, fate) = self.strike(&bio, place)?;
        if let Some(delay) = delay {
            self.delay(delay).await;
        }
        match fate {
            Fate::Fails(error) => Some(Err(error)),
            Fate::Short(_) => Some(Err(BlkError::Io)),
            Fate::Torn(_) | Fate::Elsewhere(_) | Fate::Lost => Some(Ok(())),
            Fate::Late | Fate::Flipped { .. } | Fate::WithoutFua => None,
        }
    }
}

/// Sends the first sectors of a bio. What a read does not get is zeros: its buffer may hold what others have read.
async fn send_part<O: Onward + ?Sized>(mut bio: Bio<'_>, done: Sectors, onward: &O) -> BlkResult {
    let rest = usize::try_from(done.bytes()).expect("a buffer fits in memory");
    if let Some(rest) = bio.buffer().get_mut(rest..) {
        rest.fill(0);
    }
    match done.is_zero() {
        true => Ok(()),
        false => onward.send(bio.part(Sectors::ZERO, done)).await,
    }
}

/// Sends a bio with some of its bits flipped: on the way there, or on the way back.
async fn send_flipped<O: Onward + ?Sized>(mut bio: Bio<'_>, fate: Fate, onward: &O) -> BlkResult {
    if bio.op() == Op::Write {
        let mut data = bio.data().to_vec();
        flip(&mut data, fate);
        return onward.send(Bio::write(bio.sector, &data).with_flags(bio.flags)).await;
    }
    let end = onward.send(bio.reborrow()).await;
    flip(bio.buffer(), fate);
    end
}

fn flip(data: &mut [u8], fate: Fate) {
    for bit in fate.bits() {
        // A write of zeros has no data of its own.
        if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|byte| data.get_mut(byte)) {
            *byte ^= 1 << (bit % 8);
        }
    }
}
