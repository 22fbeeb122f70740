//! What a target maps onto: areas of devices, and the one way to send a bio there.

use std::sync::Arc;

use crate::{
    Access, Bio, BlkError, BlkResult, BlockDevice, DevNumber, Limits, OpenDevice, Sector, Sectors,
    Submission,
};

/// A range of a device that a target maps onto.
///
/// It tells what the device is and what it can do, as of now, and takes bios. The device itself
/// is not to be had: whatever is sent there passes [`OpenDevice::submit`].
#[derive(Clone, Debug)]
pub struct Area {
    device: Arc<OpenDevice>,
    /// The first sector on the device.
    pub start: Sector,
    /// Nothing for the whole of the device, however long it is at the time.
    len: Option<Sectors>,
}

impl Area {
    /// Makes an area of `len` sectors from `start` on. Whether the device is that large is
    /// checked when the table is complete, as the kernel does. A length of zero is an area that
    /// is named but not used, as the kernel's `error` target keeps one.
    pub fn new(device: Arc<OpenDevice>, start: Sector, len: Sectors) -> Area {
        Area { device, start, len: Some(len) }
    }

    /// Makes an area of the whole of a device, which need not have a size yet.
    pub fn whole(device: Arc<OpenDevice>) -> Area {
        Area { device, start: Sector::ZERO, len: None }
    }

    /// Returns the whole of the area's device.
    pub fn whole_device(&self) -> Area {
        Area::whole(self.device.clone())
    }

    /// Returns the length. Of the whole of a device it is the device's own, which may be another
    /// whenever the device is resumed: nobody may keep it.
    pub fn size(&self) -> Sectors {
        self.len.unwrap_or_else(|| self.device.size())
    }

    /// Returns the device's number.
    pub fn number(&self) -> DevNumber {
        self.device.number()
    }

    /// Returns the device's name as kernel messages print it.
    pub fn name(&self) -> String {
        self.device.name()
    }

    /// Returns which sector of the area a sector of a device is, if it is one.
    pub fn sector_of(&self, device: DevNumber, sector: Sector) -> Option<Sector> {
        let within = sector.0.checked_sub(self.start.0).filter(|_| self.number() == device)?;
        (within < self.size().0).then_some(Sector(within))
    }

    /// Returns the limits of the device's queue, as they are now.
    pub fn limits(&self) -> Limits {
        self.device.limits()
    }

    /// Tells whether the device takes requests.
    pub(crate) fn takes_requests(&self) -> bool {
        self.device().takes_requests()
    }

    /// Returns the size of the whole device; zero as long as it has no table.
    pub fn device_size(&self) -> Sectors {
        self.device.size()
    }

    /// Returns what the device was opened for.
    pub fn access(&self) -> Access {
        self.device.access()
    }

    /// Returns what the area is on, as the core needs it to fold maps.
    pub(crate) fn device(&self) -> &Arc<dyn BlockDevice> {
        self.device.device()
    }

    /// Tells whether what is sent here must pass the device's entry, and is not folded away.
    pub(crate) fn is_watched(&self) -> bool {
        self.device.is_watched()
    }

    /// Notes for whoever follows what is sent here that a target sends a bio to `to` of the area, which had
    /// this sector on the device above.
    pub(crate) fn note_remap(&self, to: Sector, bio: &Bio<'_>, sector: Sector) {
        let (to, sector) = match bio.is_empty() {
            true => (Sector::ZERO, Sector::ZERO),
            false => (self.start.wrapping_add(to.from_start()), sector),
        };
        self.device.note_remap(to, bio, sector);
    }

    /// Sends a bio to `sector` of the area. Nothing happens before the submission is awaited, or
    /// asked whether the bio ends at once.
    ///
    /// A target that sends a bio past the end of its area is at fault, and the bio fails: the
    /// neighbours on the device are kept from it.
    pub fn submit<'a>(&'a self, sector: Sector, bio: Bio<'a>) -> Submission<'a> {
        match self.place(sector, bio) {
            Ok(bio) => self.device.submit(bio).handed_back_at(sector),
            Err(error) => Submission::refused(sector, error),
        }
    }

    /// Takes room for a range of the area: see [`BlockDevice::reserve`].
    pub(crate) async fn reserve(&self, at: Sector, len: Sectors) -> BlkResult {
        match at.checked_add(len) {
            Some(end) if end.0 <= self.size().0 => {
                self.device.reserve(self.start.wrapping_add(at.from_start()), len).await
            }
            _ => Err(BlkError::Io),
        }
    }

    /// Moves a bio to `sector` of the area, as an address on the device. An address past 2^64
    /// wraps around, as the kernel's does; what crosses the end of all addresses fails.
    fn place<'b>(&self, sector: Sector, bio: Bio<'b>) -> Result<Bio<'b>, BlkError> {
        match sector.checked_add(bio.len()) {
            Some(end) if end.0 <= self.size().0 => {
                Ok(bio.at(self.start.wrapping_add(sector.from_start())))
            }
            _ => Err(BlkError::Io),
        }
    }
}
