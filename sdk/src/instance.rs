//! One target of a plug-in: its handle, its devices, and the calls of its callbacks.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;

use sim_core::{BlkError, BlkResult, Errno, Op, Runtime, Sector, Sectors};

use crate::abi::{self, MAX_ANSWER, MAX_STATUS};
use crate::code;
use crate::io::Devices;
use crate::last_words;
use crate::workers::Workers;

/// Where a type comes from. There for ever, as libraries are.
pub(crate) struct Origin {
    /// The library and the type, as its last words name them.
    pub(crate) text: String,
    pub(crate) order: Order,
}

/// Which callbacks that may block run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Any: each target has threads of its own.
    SideBySide,
    /// One at a time, as a simulation chooses.
    InTurn,
}

/// The callbacks of a type.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) origin: &'static Origin,
    pub(crate) ctr: abi::Ctr,
    pub(crate) dtr: Option<abi::Dtr>,
    pub(crate) read: abi::Read,
    pub(crate) write: abi::Write,
    pub(crate) flush: Option<abi::Plain>,
    pub(crate) discard: Option<abi::Range>,
    pub(crate) write_zeroes: Option<abi::Range>,
    pub(crate) status: Option<abi::Status>,
    pub(crate) message: Option<abi::Message>,
    pub(crate) preresume: Option<abi::Plain>,
    pub(crate) postsuspend: Option<abi::Plain>,
}

impl Calls {
    /// Calls one of them: should it end the process, its name is among the last words.
    pub(crate) fn during<T>(&self, call: &'static str, act: impl FnOnce() -> T) -> T {
        last_words::during(&self.origin.text, call, act)
    }
}

/// What `ctr` returned: any pointer at all, which is the plug-in's business.
#[derive(Clone, Copy)]
pub(crate) struct Handle(pub(crate) *mut c_void);

// SAFETY: it is only ever handed back to the plug-in, whose callbacks may be called by any
// thread: the header asks for that.
unsafe impl Send for Handle {}
// SAFETY: as above; the header also says which callbacks run at the same time.
unsafe impl Sync for Handle {}

/// A target that a plug-in made. Goes when nothing runs in it any more.
pub(crate) struct Instance {
    calls: Calls,
    handle: Handle,
    pub(crate) devices: Devices,
    pub(crate) workers: Arc<Workers>,
}

/// A bio with its data in memory of its own: a plug-in may work on it when nobody waits any more.
pub(crate) struct Request {
    pub(crate) op: Op,
    pub(crate) sector: Sector,
    pub(crate) len: Sectors,
    pub(crate) fua: bool,
    pub(crate) data: Vec<u8>,
}

impl Instance {
    pub(crate) fn new(
        calls: Calls,
        handle: Handle,
        devices: Devices,
        runtime: &Arc<dyn Runtime>,
    ) -> Instance {
        let workers = match calls.origin.order {
            Order::SideBySide => Workers::new(abi::THREADS),
            Order::InTurn => Workers::in_turn(runtime.clone()),
        };
        Instance { calls, handle, devices, workers }
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Carries a bio out. May block.
    pub(crate) fn carry_out(&self, request: &mut Request) -> BlkResult {
        let (sector, len) = (request.sector.0, request.len.0);
        let range = |name, call: Option<abi::Range>| match call {
            Some(call) => self.range(name, call, sector, len),
            None => Err(BlkError::NotSupported),
        };
        match request.op {
            Op::Read => self.read(sector, len, &mut request.data),
            Op::Write => {
                self.write(sector, len, &request.data)?;
                if request.fua { self.flush() } else { Ok(()) }
            }
            Op::Flush => self.flush(),
            Op::Discard => range("discard", self.calls.discard),
            Op::WriteZeroes => range("write_zeroes", self.calls.write_zeroes),
            Op::SecureErase => Err(BlkError::NotSupported),
        }
    }

    fn read(&self, sector: u64, len: u64, data: &mut [u8]) -> BlkResult {
        let (call, io, buffer) = (self.calls.read, self.devices.io(), data.as_mut_ptr());
        // SAFETY: `read` of the header: the handle is alive as `self` is, `io` lives until the
        // call returns, and the buffer is `len` sectors long.
        let call = || unsafe { call(self.handle.0, &io, sector, len, buffer.cast()) };
        code::bio_end(self.calls.during("read", call))
    }

    fn write(&self, sector: u64, len: u64, data: &[u8]) -> BlkResult {
        let (call, io, buffer) = (self.calls.write, self.devices.io(), data.as_ptr());
        // SAFETY: `write` of the header, as for `read`.
        let call = || unsafe { call(self.handle.0, &io, sector, len, buffer.cast()) };
        code::bio_end(self.calls.during("write", call))
    }

    fn range(&self, name: &'static str, call: abi::Range, sector: u64, len: u64) -> BlkResult {
        let io = self.devices.io();
        // SAFETY: `discard` and `write_zeroes` of the header, as for `read`.
        let call = || unsafe { call(self.handle.0, &io, sector, len) };
        code::bio_end(self.calls.during(name, call))
    }

    /// Calls one of the callbacks that have no argument of their own.
    fn plain(&self, name: &'static str, call: abi::Plain) -> c_int {
        let io = self.devices.io();
        // SAFETY: `flush`, `preresume`, `postsuspend` of the header, as for `read`.
        let call = || unsafe { call(self.handle.0, &io) };
        self.calls.during(name, call)
    }

    fn flush(&self) -> BlkResult {
        if let Some(call) = self.calls.flush {
            return code::bio_end(self.plain("flush", call));
        }
        let indices = 0..self.devices.areas.len() as u32;
        indices.map(|device| code::bio_end(self.devices.flush(device))).fold(Ok(()), BlkResult::and)
    }

    /// Gets ready for bios. May block.
    pub(crate) fn preresume(&self) -> Result<(), Errno> {
        let Some(call) = self.calls.preresume else { return Ok(()) };
        code::errno(self.plain("preresume", call)).unwrap_or(Err(Errno::IO))
    }

    /// Is told of a suspend. May block.
    pub(crate) fn postsuspend(&self) -> Result<(), Errno> {
        let Some(call) = self.calls.postsuspend else { return Ok(()) };
        code::errno(self.plain("postsuspend", call)).unwrap_or(Err(Errno::IO))
    }

    /// Asks for one of the status texts; `None` where the type has none.
    pub(crate) fn status(&self, kind: u32, devices: &[CString]) -> Option<Result<String, String>> {
        let call = self.calls.status?;
        let mut buffer = vec![0; 4096];
        loop {
            let found = self.text("status", call, (kind, devices), &mut buffer);
            let Ok(len) = usize::try_from(found) else {
                return Some(Err(format!("return value {found}")));
            };
            if len >= MAX_STATUS {
                return Some(Err(format!("a text of {len} bytes")));
            }
            if len < buffer.len() {
                return Some(code::text(&buffer, len).map(str::to_owned).map_err(str::to_owned));
            }
            // Ends, as each turn has more room, and there is a limit.
            buffer = vec![0; (len + 1).max(buffer.len() * 2)];
        }
    }

    /// Sends a message, and returns the answer if there is one.
    pub(crate) fn message(&self, words: &[&str]) -> Result<Option<String>, Errno> {
        let call = self.calls.message.ok_or(Errno::INVAL)?;
        let words = words.iter().map(|word| CString::new(*word)).collect::<Result<Vec<_>, _>>();
        let words = words.map_err(|_zero_byte| Errno::INVAL)?;
        let mut buffer = vec![0; MAX_ANSWER];
        let count = u32::try_from(words.len()).map_err(|_| Errno::INVAL)?;
        match self.text("message", call, (count, &words), &mut buffer) {
            0 => Ok(None),
            len @ 1.. => match code::text(&buffer, len as usize) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(why) => {
                    tracing::warn!(why, "a plug-in's answer to a message is none");
                    Err(Errno::IO)
                }
            },
            failed => code::errno(failed).and_then(Result::err).map_or(Err(Errno::IO), Err),
        }
    }

    /// Calls `status` or `message`, which are alike: a number, texts, and a buffer to fill.
    fn text(
        &self,
        name: &'static str,
        call: abi::Status,
        (number, texts): (u32, &[CString]),
        buffer: &mut [u8],
    ) -> c_int {
        let texts = pointers(texts);
        let (to, size) = (buffer.as_mut_ptr().cast::<c_char>(), buffer.len());
        // SAFETY: `status` and `message` of the header: the handle is alive as `self` is, there
        // are as many texts as it says, each with its zero byte, and `size` bytes of room.
        let call = || unsafe { call(self.handle.0, number, texts.as_ptr(), to, size) };
        self.calls.during(name, call)
    }
}

/// Returns the array that C expects, with a null pointer at its end, as `argv` has.
pub(crate) fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.workers.close();
        if let Some(dtr) = self.calls.dtr {
            // SAFETY: `dtr` of the header: the last owner is here, so nothing else runs or will.
            let dtr = || unsafe { dtr(self.handle.0) };
            self.calls.during("dtr", dtr);
        }
    }
}
