//! What is known of a caller, and its memory.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::thread::CapabilitySet;
use sim_core::Errno;
use zeroize::Zeroizing;

use super::copying::Copying;
use crate::files::Caller;

/// How much is read or written at a time, in bytes: where the memory ends before what was announced,
/// no more than this was reserved in vain.
const PIECE: usize = 1 << 20;

/// For how long it is looked what a caller is doing that has not come to rest yet, how long is waited
/// before the first look again, and how long at most.
const LOOKS_FOR: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_micros(20);
const LONGEST_REST: Duration = Duration::from_millis(5);

/// `O_PATH` of open(2), which differs with the architecture.
const O_PATH: u64 = rustix::fs::OFlags::PATH.bits() as u64;

// The calls that open a file, and which of their arguments has the flags; openat2 has them in memory,
// and those that only look do not use it.
// The last two are of 32-bit programs: to others, these numbers mean nothing with a path in it.
#[cfg(target_arch = "x86_64")]
const OPENS: [(u64, Option<usize>); 5] =
    [(2, Some(1)), (257, Some(2)), (437, None), (5, Some(1)), (295, Some(2))];
#[cfg(not(target_arch = "x86_64"))]
const OPENS: [(u64, Option<usize>); 2] = [(56, Some(2)), (437, None)];

/// Tells whether a thread, which waits for an answer to a lookup, is about to open what it looks up,
/// and does not only look at it.
pub(super) fn opens(thread: u32) -> bool {
    let (begun, mut rest) = (Instant::now(), REST);
    loop {
        // Nothing where it cannot be seen, or may not be looked at.
        let Ok(text) = fs::read_to_string(format!("/proc/{thread}/syscall")) else { return false };
        match text.trim_end() {
            // It has sent its request, and is about to sleep; on a busy machine it may be long
            // before it has a processor to do so.
            "running" if begun.elapsed() < LOOKS_FOR => {
                std::thread::sleep(rest);
                rest = (2 * rest).min(LONGEST_REST);
            }
            text => return is_open(text),
        }
    }
}

/// Reads a line of `/proc/<pid>/syscall`: the number, and six arguments in hexadecimal.
fn is_open(text: &str) -> bool {
    let mut words = text.split(' ');
    let number = words.next().and_then(|word| word.parse::<u64>().ok());
    let opens = OPENS.iter().find(|(open, _)| Some(*open) == number);
    let Some((_, flags)) = opens else { return false };
    let Some(at) = flags else { return true };
    let flags = words.nth(*at).and_then(|word| word.strip_prefix("0x"));
    let flags = flags.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    flags.is_some_and(|flags| flags & O_PATH == 0)
}

/// Decides whether a caller may use the node at all. That it is of the owner's user, by each of its
/// numbers, the kernel has seen to: no setuid program is.
///
/// # Errors
/// [`Errno::ACCES`] for root without `CAP_SYS_ADMIN` and for root of another user namespace, as of a
/// kernel's node; where the owner is an ordinary user, for whoever is in a user namespace that another one
/// has made, or has no `CAP_SYS_ADMIN` in it; for a thread that cannot be seen from here.
pub(super) fn check(caller: Caller) -> Result<(), Errno> {
    if caller.pid == 0 {
        return Err(Errno::ACCES);
    }
    let own = OWN_NAMESPACE.get_or_init(|| namespace("self"));
    let theirs = namespace(&caller.pid.to_string());
    let (is_root, is_own) = (rustix::process::geteuid().is_root(), own.is_none() || theirs == *own);
    match (is_root, is_own) {
        // Whoever is an ordinary user here may do all that the daemon may.
        (false, true) => return Ok(()),
        (true, false) => return Err(Errno::ACCES),
        // The kernel shows it to nobody without `CAP_SYS_PTRACE` in that namespace. A user without
        // capabilities has this one there alone where the namespace, or one that it lies in, is the
        // user's own, made from here.
        (false, false) if theirs.is_none() => return Err(Errno::ACCES),
        (false, false) | (true, true) => {}
    }
    if has_admin(caller.pid) { Ok(()) } else { Err(Errno::ACCES) }
}

/// The user namespace of the process that serves, which stays in it.
static OWN_NAMESPACE: OnceLock<Option<PathBuf>> = OnceLock::new();

fn namespace(who: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{who}/ns/user")).ok()
}

fn has_admin(thread: u32) -> bool {
    let thread = i32::try_from(thread).ok().and_then(rustix::process::Pid::from_raw);
    let sets = thread.and_then(|thread| rustix::thread::capabilities(Some(thread)).ok());
    sets.is_some_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Returns what callers have in common that are one to the limits: the number of their mount namespace, as each shell
/// and each container has one.
pub(super) fn group(thread: u32) -> u64 {
    fs::metadata(format!("/proc/{thread}/ns/mnt")).map_or(0, |namespace| namespace.ino())
}

/// The memory of a thread that waits for an answer: it is there until then, whatever becomes of the
/// thread.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    thread: u32,
    copying: Arc<Copying>,
}

impl Memory {
    pub(super) fn of(thread: u32) -> Memory {
        Memory { thread, copying: Arc::default() }
    }

    /// What tells whether it is being copied from or to.
    pub(super) fn copying(&self) -> Arc<Copying> {
        self.copying.clone()
    }

    /// Reads `len` bytes from `at` on; nothing where some of them cannot be read.
    pub(super) fn read(&self, at: u64, len: usize) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(Vec::new());
        while bytes.len() < len {
            let from = bytes.len();
            let to = len.min(from + PIECE);
            if to > bytes.capacity() {
                // By hand, as what a growing buffer leaves behind is not wiped.
                let mut larger = Vec::with_capacity(len.min((2 * to).max(PIECE)));
                larger.extend_from_slice(&bytes);
                bytes = Zeroizing::new(larger);
            }
            bytes.resize(to, 0);
            self.each(at.checked_add(from as u64)?, to - from, |remote, done| {
                let mut local = [IoSliceMut::new(&mut bytes[from + done..to])];
                process_vm_readv(self.pid(), &mut local, &[remote])
            })?;
        }
        Some(bytes)
    }

    /// Writes bytes from `at` on; nothing where some of them cannot be written.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Option<()> {
        self.each(at, bytes.len(), |remote, done| {
            process_vm_writev(self.pid(), &[IoSlice::new(&bytes[done..])], &[remote])
        })
    }

    /// Overwrites `len` bytes from `at` on with zeros.
    pub(super) fn wipe(&self, at: u64, len: usize) -> Option<()> {
        let zeros = vec![0; len.min(PIECE)];
        for from in (0..len).step_by(PIECE) {
            self.write(at.checked_add(from as u64)?, &zeros[..PIECE.min(len - from)])?;
        }
        Some(())
    }

    /// Moves `len` bytes: a call may move fewer than it is asked for.
    fn each(
        &self,
        at: u64,
        len: usize,
        mut step: impl FnMut(RemoteIoVec, usize) -> nix::Result<usize>,
    ) -> Option<()> {
        let mut done = 0;
        while done < len {
            let base = usize::try_from(at).ok()?.checked_add(done)?;
            let moved = self.copying.one(|| step(RemoteIoVec { base, len: len - done }, done))?;
            match moved {
                Ok(0) => return None,
                Ok(moved) => done += moved,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    fn pid(&self) -> Pid {
        // The kernel's numbers of threads are positive.
        Pid::from_raw(i32::try_from(self.thread).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_is_told_from_a_look() {
        for (text, expected) in [
            ("257 0xffffff9c 0x7f 0x2 0x0 0x0 0x0 0x7ffc 0x7f", cfg!(target_arch = "x86_64")),
            ("257 0xffffff9c 0x7f 0x200002 0x0 0x0 0x0 0x7ffc 0x7f", false),
            ("5 0x7f 0x2 0x0 0x0 0x0 0x0 0x7ffc 0x7f", cfg!(target_arch = "x86_64")),
            ("437 0xffffff9c 0x7f 0x7f 0x18 0x0 0x0 0x7ffc 0x7f", true),
            ("262 0xffffff9c 0x7f 0x7f 0x0 0x0 0x0 0x7ffc 0x7f", false),
            ("-1 0x7ffc 0x7f", false),
            ("", false),
        ] {
            assert_eq!(is_open(text), expected, "{text}");
        }
    }

    #[test]
    fn memory_is_read_and_written_as_far_as_it_is_there() {
        let memory = Memory::of(std::process::id());
        let mut bytes = vec![7u8; 3 << 20];
        let at = bytes.as_mut_ptr() as u64;
        assert!(memory.read(at, bytes.len()).is_some_and(|read| *read == bytes));
        memory.write(at + 1, &[1, 2, 3]).expect("it is there");
        memory.wipe(at + (1 << 20), (1 << 20) + 1).expect("it is there");
        assert_eq!(bytes[..5], [7, 1, 2, 3, 7]);
        assert!(bytes[1 << 20..(2 << 20) + 1].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[(2 << 20) + 1], 7);
        // Neither what is not there, nor what ends before, nor what would be past all memory.
        assert!(memory.read(16, 8).is_none() && memory.write(16, &[0]).is_none());
        assert!(memory.read(at, usize::MAX >> 1).is_none());
        assert!(memory.read(u64::MAX - 3, 8).is_none() && memory.wipe(u64::MAX - 3, 8).is_none());
        assert!(Memory::of(0).read(at, 1).is_none() && Memory::of(u32::MAX).read(at, 1).is_none());
    }
}
