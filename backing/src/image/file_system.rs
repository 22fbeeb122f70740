//! Gives up and zeroes ranges of an image, by the means that its file system has.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use rustix::fs::{FallocateFlags, fallocate};

/// What is written at once where zeros must be written.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Bytes of zeros after which others get their turn.
const ZEROS_PER_TURN: u64 = 1 << 20;

/// What the file system of an image cannot do; learnt when it says so.
#[derive(Default)]
pub(crate) struct FileSystem {
    pub(crate) no_punch: AtomicBool,
    pub(crate) no_zero_range: AtomicBool,
    pub(crate) no_reserve: AtomicBool,
}

impl FileSystem {
    /// Gives the range up; it reads as zeros.
    pub(crate) async fn discard(&self, file: &File, at: u64, len: u64) -> io::Result<()> {
        match self.punch(file, at, len)? {
            Support::Carried => Ok(()),
            Support::NotSupported => write_zeros(file, at, len).await,
        }
    }

    /// Makes the range read as zeros, and keeps its room on the file system if there is a way to.
    /// Where there is none, a hole does: it is what the kernel's loop device makes of such a bio.
    pub(crate) async fn zero(&self, file: &File, at: u64, len: u64) -> io::Result<()> {
        let zero_range = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match allocate(&self.no_zero_range, file, zero_range, at, len)? {
            Support::Carried => Ok(()),
            Support::NotSupported => self.discard(file, at, len).await,
        }
    }

    /// Takes room for the range where it has none, and tells whether the file system can.
    pub(crate) fn reserve(&self, file: &File, at: u64, len: u64) -> io::Result<bool> {
        match allocate(&self.no_reserve, file, FallocateFlags::KEEP_SIZE, at, len)? {
            Support::Carried => Ok(true),
            Support::NotSupported => Ok(false),
        }
    }

    fn punch(&self, file: &File, at: u64, len: u64) -> io::Result<Support> {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        allocate(&self.no_punch, file, punch, at, len)
    }
}

#[must_use]
enum Support {
    Carried,
    NotSupported,
}

fn allocate(
    missing: &AtomicBool,
    file: &File,
    change: FallocateFlags,
    at: u64,
    len: u64,
) -> io::Result<Support> {
    if missing.load(Relaxed) {
        return Ok(Support::NotSupported);
    }
    loop {
        match fallocate(file, change, at, len) {
            Ok(()) => return Ok(Support::Carried),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                missing.store(true, Relaxed);
                return Ok(Support::NotSupported);
            }
            Err(other) => return Err(other.into()),
        }
    }
}

async fn write_zeros(file: &File, at: u64, len: u64) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let step = (len - done).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..step as usize], at + done)?;
        done += step;
        if done.is_multiple_of(ZEROS_PER_TURN) && done < len {
            // Gigabytes of zeros must not keep the thread that took the bio.
            take_turns().await;
        }
    }
    Ok(())
}

/// Lets other tasks of the executor run.
async fn take_turns() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
