//! The SIGBUS handler leaves to others what is theirs. Each case needs a process of its own.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use backing::Images;
use common::{ask, attach, numbered, read, truncate};
use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use sim_core::BlkError;

/// Set for a child that is to carry out the case of this name.
const CASE: &str = "DMSIM_SIGBUS_CASE";

/// How often the handler that a case installed has run.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// A handler that was there first: it makes the load at the fault end.
extern "C" fn earlier(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    RUNS.fetch_add(1, SeqCst);
    // SAFETY: the kernel hands a valid siginfo to a SA_SIGINFO handler.
    let info = unsafe { &*info };
    // SAFETY: a SIGBUS of the kernel's has an address.
    let address = unsafe { info.si_addr() };
    let page = address.map_addr(|address| address & !4095);
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: the page is that of `touch_a_page_that_is_gone`, which owns it.
    unsafe { mmap_anonymous(page, 4096, ProtFlags::READ, flags) }.unwrap();
}

fn install_earlier() {
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = earlier as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the action is complete.
    assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) }, 0);
}

/// Faults on a mapping that is no image.
fn touch_a_page_that_is_gone() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let map: MmapRaw = MmapOptions::new().len(4096).map_raw_read_only(&file).unwrap();
    file.set_len(0).unwrap();
    // SAFETY: the page is mapped; what the fault does is what is tested.
    assert_eq!(unsafe { std::ptr::read_volatile(map.as_ptr()) }, 0);
}

/// Faults on an image, so that our handler is in place and works.
fn read_a_cut_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = numbered(dir.path(), "image", 64);
    let images = Images::new();
    let device = attach(&images, &ask(&path));
    truncate(&path, 0);
    assert_eq!(read(&*device, 0, 8), Err(BlkError::Io));
}

/// Runs a case in a child; returns the signal that ended it, if one did.
fn run_case(case: &str) -> Option<i32> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_case_of_a_child"])
        .env(CASE, case)
        .output()
        .unwrap();
    if !child.status.success() && child.status.signal().is_none() {
        panic!("{case}: {}", String::from_utf8_lossy(&child.stdout));
    }
    child.status.signal()
}

#[test]
fn the_case_of_a_child() {
    let Ok(case) = std::env::var(CASE) else { return };
    // The end by a signal is wanted, and leaves no core file.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).unwrap();
    match case.as_str() {
        "chained" => {
            install_earlier();
            read_a_cut_image();
            assert_eq!(RUNS.load(SeqCst), 0, "an image's fault is the guard's");
            touch_a_page_that_is_gone();
            assert_eq!(RUNS.load(SeqCst), 1);
            read_a_cut_image();
            assert_eq!(RUNS.load(SeqCst), 1);
        }
        "fault" => {
            read_a_cut_image();
            touch_a_page_that_is_gone();
        }
        "sent" => {
            read_a_cut_image();
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::BUS).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(10));
        }
        other => panic!("no case {other}"),
    }
}

#[test]
fn a_fault_that_is_not_ours_goes_to_the_handler_before_us() {
    assert_eq!(run_case("chained"), None);
}

#[test]
fn a_fault_that_is_nobodys_ends_the_process() {
    assert_eq!(run_case("fault"), Some(libc::SIGBUS));
}

#[test]
fn a_signal_that_was_sent_ends_the_process_as_it_would_have() {
    assert_eq!(run_case("sent"), Some(libc::SIGBUS));
}
