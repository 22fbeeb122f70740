//! What is said where a plug-in ends the process: by a wild pointer, or by `abort`.

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// The signals that end a process for what it does.
const SIGNALS: [(i32, &str); 4] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
];

/// A text that lives for ever. Atomics, as the signal handler reads what the thread writes.
struct Text {
    at: AtomicPtr<u8>,
    len: AtomicUsize,
}

impl Text {
    const fn new() -> Text {
        Text { at: AtomicPtr::new(ptr::null_mut()), len: AtomicUsize::new(0) }
    }

    fn replace(&self, text: &'static str) -> &'static str {
        let before = self.read();
        // Never a length with a text that is shorter.
        self.len.store(0, Relaxed);
        self.at.store(text.as_ptr().cast_mut(), Relaxed);
        self.len.store(text.len(), Relaxed);
        before
    }

    fn read(&self) -> &'static str {
        let (at, len) = (self.at.load(Relaxed), self.len.load(Relaxed));
        if len == 0 {
            return "";
        }
        // SAFETY: `replace` of this thread put the parts of a text there that lives for ever, and a
        // length alone while it was changing.
        let bytes = unsafe { std::slice::from_raw_parts(at, len) };
        // SAFETY: they are the bytes of a text.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }
}

thread_local! {
    // Constant and without a destructor: the handler can use it at any time in a thread's life.
    static PLUGIN: Text = const { Text::new() };
    static CALL: Text = const { Text::new() };
}

/// The actions before ours.
static EARLIER: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

/// Calls a callback of a plug-in, whose name is known in the meantime.
pub(crate) fn during<T>(plugin: &'static str, call: &'static str, act: impl FnOnce() -> T) -> T {
    let before = CALL.with(|text| text.replace(call));
    let outer = PLUGIN.with(|text| text.replace(plugin));
    let result = act();
    PLUGIN.with(|text| text.replace(outer));
    CALL.with(|text| text.replace(before));
    result
}

/// Installs the handler; once in a process, however often it is called.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    INSTALLED.get_or_init(install_once).map_err(io::Error::from_raw_os_error)
}

fn install_once() -> Result<(), i32> {
    let os_error = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    let mut earlier = [empty_action(); SIGNALS.len()];
    for ((signal, _), earlier) in SIGNALS.iter().zip(&mut earlier) {
        // SAFETY: a null action only asks, and `earlier` is valid for writing.
        if unsafe { libc::sigaction(*signal, ptr::null(), earlier) } != 0 {
            return Err(os_error());
        }
    }
    // Known before our handler can run.
    EARLIER.get_or_init(|| earlier);
    let mut action = empty_action();
    action.sa_sigaction = on_signal as *const () as usize;
    // On the alternate stack, where the earlier handler (Rust's for stack overflows) must run.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for (signal, _) in SIGNALS {
        // SAFETY: `action` is complete, and its handler has the signature that SA_SIGINFO asks for.
        if unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } != 0 {
            return Err(os_error());
        }
    }
    Ok(())
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let index = SIGNALS.iter().position(|(known, _)| *known == signal).unwrap_or(0);
    let (plugin, call) = (PLUGIN.with(Text::read), CALL.with(Text::read));
    if !plugin.is_empty() {
        let words = ["dmsim: ", plugin, ": ", SIGNALS[index].1, " in `", call];
        for word in words.into_iter().chain(["`: the process ends\n"]) {
            // SAFETY: write may be called in a handler, and the bytes are a text's. That nobody may
            // hear it changes nothing.
            let _heard =
                unsafe { libc::write(libc::STDERR_FILENO, word.as_ptr().cast(), word.len()) };
        }
    }
    let earlier = EARLIER.get().expect("the handler is installed after this is set");
    // SAFETY: the action is one that the kernel gave.
    unsafe { libc::sigaction(signal, &earlier[index], ptr::null_mut()) };
    // SAFETY: the kernel hands a valid siginfo to a SA_SIGINFO handler.
    let code = unsafe { (*info).si_code };
    if code <= 0 {
        // It was sent, as `abort` does: nothing will fault again.
        // SAFETY: raise has no preconditions; the signal comes when this handler returns.
        unsafe { libc::raise(signal) };
    }
}

fn empty_action() -> libc::sigaction {
    // SAFETY: all zeros is a valid sigaction: the default action, no flags, an empty mask.
    unsafe { std::mem::zeroed() }
}
