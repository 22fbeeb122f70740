//! The guard: turns the SIGBUS of a mapped page that is gone into a fault of its image.
//!
//! While a thread touches a mapping, a window in its thread-local storage says where that mapping
//! lies and whose it is. A SIGBUS within the window poisons the image and maps zeros over the
//! whole mapping, so that the load that faulted can end; whoever reads looks at the image's health
//! *after* the copy and throws the zeros away. A SIGBUS outside every window goes to the handler
//! that was there before.

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Acquire, Ordering::Relaxed};
use std::sync::atomic::{Ordering::SeqCst, compiler_fence, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::image::health::{Fault, Health};

/// Where this thread may fault. Atomics, as the signal handler reads what the thread writes.
struct Window {
    start: AtomicUsize,
    len: AtomicUsize,
    health: AtomicPtr<Health>,
}

thread_local! {
    // Constant and without a destructor: the handler can use it at any time in a thread's life.
    static WINDOW: Window = const {
        Window {
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            health: AtomicPtr::new(ptr::null_mut()),
        }
    };
}

/// The action on SIGBUS before ours.
static EARLIER: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler; once in a process, however often it is called.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    INSTALLED.get_or_init(install_once).map_err(io::Error::from_raw_os_error)
}

fn install_once() -> Result<(), i32> {
    let os_error = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    let mut earlier = empty_action();
    // SAFETY: a null action only asks, and `earlier` is valid for writing.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &mut earlier) } != 0 {
        return Err(os_error());
    }
    // Known before our handler can run.
    let earlier = EARLIER.get_or_init(|| earlier);
    let mut action = empty_action();
    action.sa_sigaction = on_sigbus as *const () as usize;
    // On the alternate stack, where the earlier handler (Rust's for stack overflows) must run.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | (earlier.sa_flags & libc::SA_RESTART);
    // SAFETY: `action` is complete, and its handler has the signature that SA_SIGINFO asks for.
    match unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(os_error()),
    }
}

/// Runs `touch`, which may load from `len` bytes at `start`, with faults there laid to `health`.
/// Returns whether the image is good after it: if not, what was loaded is worth nothing.
///
/// `touch` must not panic, and must not hold pages of the same mapping lent: the handler waits
/// for those.
pub(crate) fn watch(start: *const u8, len: usize, health: &Health, touch: impl FnOnce()) -> bool {
    WINDOW.with(|window| {
        window.start.store(start.addr(), Relaxed);
        window.health.store(ptr::from_ref(health).cast_mut(), Relaxed);
        window.len.store(len, Relaxed);
        compiler_fence(SeqCst);
        touch();
        compiler_fence(SeqCst);
        window.len.store(0, Relaxed);
    });
    // Another thread's fault may have put the zeros there: copy first, look second.
    fence(Acquire);
    health.is_good()
}

extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a SA_SIGINFO handler.
    let known = unsafe { &*info };
    let code = known.si_code;
    // A code that is not positive is a signal that someone sent: it has no address.
    if code > 0 {
        // SAFETY: a SIGBUS of the kernel's has an address.
        let address = unsafe { known.si_addr() }.addr();
        if WINDOW.with(|window| window.replace(address)) {
            return;
        }
    }
    pass_on(signal, code, info, context);
}

impl Window {
    /// Poisons the image and maps zeros over it if the address is in the window.
    fn replace(&self, address: usize) -> bool {
        let (start, len) = (self.start.load(Relaxed), self.len.load(Relaxed));
        if address < start || address - start >= len {
            return false;
        }
        // SAFETY: the window is open, so `watch` is on this thread's stack and borrows the health.
        let health = unsafe { &*self.health.load(Relaxed) };
        // Flag first, pages second: whoever reads the zeros also sees the flag.
        health.poison(Fault::Unreadable);
        // A reply that has the pages in a system call must find them gone, never zero. It is
        // short, and no new one begins on a poisoned image.
        while health.is_lent() {
            rustix::thread::sched_yield();
        }
        let zeros = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let start = ptr::with_exposed_provenance_mut(start);
        // SAFETY: the range is exactly one mapping of ours, which is only ever read and which
        // `watch` borrows for as long as the window is open. A raw system call: errno stays.
        unsafe { mmap_anonymous(start, len, ProtFlags::READ, zeros) }.is_ok()
    }
}

/// Does what would have been done without us.
fn pass_on(signal: i32, code: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Plain = extern "C" fn(i32);
    type Full = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    let earlier = EARLIER.get().expect("the handler is installed after this is set");
    match earlier.sa_sigaction {
        libc::SIG_IGN if code <= 0 => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            let mut action = empty_action();
            action.sa_sigaction = libc::SIG_DFL;
            // SAFETY: `action` is complete. The load that faulted runs again and ends the process.
            unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
        }
        handler if earlier.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the action says that its handler takes three arguments.
            let handler = unsafe { std::mem::transmute::<usize, Full>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: the action says that its handler takes the signal alone.
            let handler = unsafe { std::mem::transmute::<usize, Plain>(handler) };
            handler(signal);
        }
    }
    if code <= 0 && is_default(signal) {
        // Whoever brought the default back (Rust's handler does) wants the process to end; no
        // load will fault again to do so after a signal that was sent.
        // SAFETY: raise has no preconditions; the signal comes when this handler returns.
        unsafe { libc::raise(signal) };
    }
}

fn is_default(signal: i32) -> bool {
    let mut action = empty_action();
    // SAFETY: a null action only asks, and `action` is valid for writing.
    unsafe { libc::sigaction(signal, ptr::null(), &mut action) };
    action.sa_sigaction == libc::SIG_DFL
}

fn empty_action() -> libc::sigaction {
    // SAFETY: all zeros is a valid sigaction: the default action, no flags, an empty mask.
    unsafe { std::mem::zeroed() }
}
