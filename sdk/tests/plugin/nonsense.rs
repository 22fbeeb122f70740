//! What a plug-in that returns nonsense does: its own bios fail, and nothing else happens.

use sdk::sim_core::control::Report;
use sdk::sim_core::{Access, Bio, BlkError, Errno, Sector, Sectors};

use crate::machine::{Machine, have_cc, load_with};

/// What is no errno: positive, too large, and what has no opposite.
const NO_ERRNO: [&str; 4] =
    ["-DCODE=77", "-DCODE=-5000", "-DCODE=2147483647", "-DCODE=(-2147483647-1)"];

#[test]
fn an_unknown_code_is_an_io_error() {
    if !have_cc() {
        return;
    }
    let what = "type.read = read_code, type.write = write_code, type.flush = plain_code, \
                type.discard = 0";
    for code in NO_ERRNO {
        let machine = Machine::with(what, &[code]);
        assert_eq!(machine.read("d", 0, 1), Err(BlkError::Io), "{code}");
        assert_eq!(machine.submit("d", Bio::write(Sector(0), &[1; 512])), Err(BlkError::Io));
        assert_eq!(machine.submit("d", Bio::flush()), Err(BlkError::Io));
    }
    let machine = Machine::with(what, &["-DCODE=-28"]);
    assert_eq!(machine.read("d", 0, 1), Err(BlkError::NoSpace));
    let discard = Bio::discard(Sector(0), Sectors(1));
    assert_eq!(machine.submit("d", discard), Err(BlkError::NotSupported));
}

#[test]
fn a_write_that_must_be_durable_is_not_until_the_flush_says_so() {
    if !have_cc() {
        return;
    }
    let machine = Machine::with("type.flush = plain_code", &["-DCODE=-28"]);
    assert_eq!(machine.submit("d", Bio::write(Sector(0), &[1; 512])), Ok(()));
    let fua = Bio::write(Sector(0), &[1; 512]).with_fua();
    assert_eq!(machine.submit("d", fua), Err(BlkError::NoSpace));
}

#[test]
fn io_past_the_end_of_what_was_opened_is_refused() {
    if !have_cc() {
        return;
    }
    let machine = Machine::with("type.read = read_elsewhere", &[]);
    // It times out where all that it tried was refused.
    assert_eq!(machine.read("d", 0, 1), Err(BlkError::Timeout));
    assert!(machine.image().iter().all(|byte| *byte == 0));
}

#[test]
fn a_ctr_that_returns_nonsense_makes_no_target() {
    if !have_cc() {
        return;
    }
    let refusal = |what: &str, flags: &[&str]| {
        let machine = Machine::new(load_with(what, flags).unwrap());
        let failure = machine.set_up("d", "0 64 invert disk 0", Access::ReadWrite).unwrap_err();
        (failure.errno, failure.table.unwrap())
    };
    for code in NO_ERRNO {
        let (errno, error) = refusal("type.ctr = ctr_code", &[code]);
        assert_eq!((errno, &*error.kernel), (Errno::INVAL, "Unknown error"));
        assert!(error.detail.contains("which is no errno"), "{error}");
    }
    let (errno, error) = refusal("type.ctr = ctr_code", &["-DCODE=-12"]);
    assert_eq!((errno, &*error.kernel), (Errno::NOMEM, "Unknown error"));
    let machine = Machine::new(load_with("type.ctr = ctr_discarded", &[]).unwrap());
    let failure = machine.set_up("d", "0 64 invert disk 0 3", Access::ReadWrite).unwrap_err();
    let error = failure.table.unwrap();
    assert_eq!((failure.errno, &*error.kernel), (Errno::INVAL, "Unknown error"));
    assert!(error.detail.contains("ctr set discarded to 3"), "{error}");
    let (_, error) = refusal("type.ctr = ctr_endless", &[]);
    assert_eq!((&*error.kernel, error.arg), ("Unknown error", None));
    assert!(error.detail.contains("a text that does not end"), "{error}");
    let (_, error) = refusal("type.ctr = ctr_opens_nothing", &[]);
    assert_eq!((&*error.kernel, error.arg), ("Device lookup failed", Some(99)));
}

#[test]
fn a_status_that_is_none_is_an_error_and_the_table_its_words() {
    if !have_cc() {
        return;
    }
    for code in ["-DCODE=77", "-DCODE=-5", "-DCODE=4095", "-DCODE=4096", "-DCODE=2147483647"] {
        let machine = Machine::with("type.status = status_code", &[code]);
        assert_eq!(machine.text("d", Report::Status), "Error", "{code}");
        assert_eq!(machine.text("d", Report::Table), "7:4096 0", "{code}");
    }
    let machine = Machine::with("type.status = status_long", &[]);
    assert_eq!(machine.text("d", Report::Status).len(), 20_000);
}

#[test]
fn an_answer_to_a_message_that_is_none_is_an_error() {
    if !have_cc() {
        return;
    }
    let cases = [("77", Errno::IO), ("65536", Errno::IO), ("2147483647", Errno::IO)];
    for (code, errno) in cases.into_iter().chain([("-5000", Errno::IO), ("-16", Errno::BUSY)]) {
        let machine = Machine::with("type.message = message_code", &[&format!("-DCODE={code}")]);
        assert_eq!(machine.message("d", "x").unwrap_err().errno, errno, "{code}");
    }
}

#[test]
fn a_preresume_that_fails_keeps_the_device_suspended() {
    if !have_cc() {
        return;
    }
    for (code, errno) in [("-19", Errno::NODEV), ("77", Errno::IO)] {
        let what = "type.preresume = plain_code";
        let registry = load_with(what, &[&format!("-DCODE={code}")]).unwrap();
        let machine = Machine::new(registry);
        let failure = machine.set_up("d", "0 64 invert disk 0", Access::ReadWrite).unwrap_err();
        assert_eq!(failure.errno, errno);
    }
    // A failed postsuspend is logged, and that is all.
    let machine = Machine::with("type.postsuspend = plain_code", &[]);
    machine.suspend("d");
    machine.resume("d").unwrap();
    assert_eq!(machine.read("d", 0, 1), Ok(vec![0xff; 512]));
}
