//! `struct dmsim_io`: the I/O that a plug-in does on the devices its target opened.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sim_core::{Access, Area, Bio, Op, SECTOR_SIZE, Sector, Sectors};

use crate::abi::{Io, MAX_IO};
use crate::code;
use crate::in_turn;

/// What a target has opened.
pub(crate) struct Devices {
    pub(crate) areas: Vec<Area>,
    pub(crate) access: Access,
}

impl Devices {
    /// Returns the functions for a callback, which must have returned when `self` goes.
    pub(crate) fn io(&self) -> Io {
        Io {
            size: size_of::<Io>() as u32,
            devices: self.areas.len() as u32,
            host: std::ptr::from_ref(self).cast(),
            read,
            write,
            flush,
            discard,
            write_zeroes,
        }
    }

    fn read(&self, device: u32, sector: u64, buffer: &mut [u8]) -> c_int {
        match self.area(device) {
            Some(area) => submit(area, sector, Bio::read(Sector::ZERO, buffer)),
            None => code::INVALID,
        }
    }

    fn change(&self, device: u32, sector: u64, bio: Bio<'_>) -> c_int {
        match (self.area(device), self.access) {
            (None, _) => code::INVALID,
            (Some(_), Access::ReadOnly) => code::READ_ONLY,
            (Some(area), Access::ReadWrite) => submit(area, sector, bio),
        }
    }

    /// Flushes one device. One that cannot have been written to has nothing to flush.
    pub(crate) fn flush(&self, device: u32) -> c_int {
        match self.area(device) {
            Some(area) => submit(area, 0, Bio::flush()),
            None => code::INVALID,
        }
    }

    fn area(&self, device: u32) -> Option<&Area> {
        self.areas.get(device as usize)
    }
}

/// Carries a bio out at a sector of the area; past its end, it is refused there.
fn submit(area: &Area, sector: u64, bio: Bio<'_>) -> c_int {
    code::of_bio(in_turn::submit(area, Sector(sector), bio))
}

/// Makes room for data of a plug-in; `None` for a length that no I/O has, and for no memory.
fn buffer(sectors: u64, memory: *const c_void) -> Option<Vec<u8>> {
    let possible = sectors <= MAX_IO && !(memory.is_null() && sectors > 0);
    possible.then(|| vec![0; (sectors * SECTOR_SIZE) as usize])
}

/// Runs a call of a plug-in with the devices that it is for. A panic of ours must not run through
/// a plug-in's frames.
///
/// # Safety
/// `io` must be null, or what the plug-in's callback was given, and that callback must still run.
unsafe fn with(io: *const Io, act: impl FnOnce(&Devices) -> c_int) -> c_int {
    // SAFETY: by the caller's word it is null or made by `Devices::io`, and alive.
    let Some(io) = (unsafe { io.as_ref() }) else { return code::INVALID };
    // SAFETY: `Devices::io` put a reference there, which outlives the callback.
    let Some(devices) = (unsafe { io.host.cast::<Devices>().as_ref() }) else {
        return code::INVALID;
    };
    catch_unwind(AssertUnwindSafe(|| act(devices))).unwrap_or(code::IO)
}

unsafe extern "C" fn read(
    io: *const Io,
    device: u32,
    sector: u64,
    sectors: u64,
    to: *mut c_void,
) -> c_int {
    let act = |devices: &Devices| {
        let Some(mut data) = buffer(sectors, to) else { return code::INVALID };
        let end = devices.read(device, sector, &mut data);
        if end == 0 {
            // SAFETY: the header asks for room for `sectors` there. A raw copy, as the memory is
            // the plug-in's, which may share it among its threads.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.cast(), data.len()) };
        }
        end
    };
    // SAFETY: the header says where `io` comes from.
    unsafe { with(io, act) }
}

unsafe extern "C" fn write(
    io: *const Io,
    device: u32,
    sector: u64,
    sectors: u64,
    from: *const c_void,
) -> c_int {
    let act = |devices: &Devices| {
        let Some(mut data) = buffer(sectors, from) else { return code::INVALID };
        // SAFETY: the header asks for `sectors` of data there; a raw copy, as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(from.cast(), data.as_mut_ptr(), data.len()) };
        devices.change(device, sector, Bio::write(Sector::ZERO, &data))
    };
    // SAFETY: the header says where `io` comes from.
    unsafe { with(io, act) }
}

unsafe extern "C" fn flush(io: *const Io, device: u32) -> c_int {
    // SAFETY: the header says where `io` comes from.
    unsafe { with(io, |devices| devices.flush(device)) }
}

unsafe extern "C" fn discard(io: *const Io, device: u32, sector: u64, sectors: u64) -> c_int {
    let bio = Bio::without_data(Op::Discard, Sector::ZERO, Sectors(sectors));
    // SAFETY: the header says where `io` comes from.
    unsafe { with(io, |devices| devices.change(device, sector, bio)) }
}

unsafe extern "C" fn write_zeroes(io: *const Io, device: u32, sector: u64, sectors: u64) -> c_int {
    let bio = Bio::without_data(Op::WriteZeroes, Sector::ZERO, Sectors(sectors));
    // SAFETY: the header says where `io` comes from.
    unsafe { with(io, |devices| devices.change(device, sector, bio)) }
}
