//! Plug-ins that were built when a version of the interface was new: its header and the example of
//! then are kept in `tests/data`, and never change.

use sdk::sim_core::control::Report;
use sdk::sim_core::{Access, Bio, BlkError, BlockDevice, Errno, Sector, Sectors};

use crate::machine::{Machine, compile, have_cc, load};

/// A machine with a plug-in of version 1.1.
fn machine(source: &str) -> Machine {
    let dir = tempfile::tempdir().unwrap();
    // The header beside the source comes before the one of today.
    Machine::new(load(&compile(dir.path(), source, &[])).unwrap())
}

#[test]
fn the_example_of_1_1_works_as_it_did() {
    if !have_cc() {
        return;
    }
    let machine = machine("tests/data/abi-1.1/invert.c");
    let failure = machine.set_up("d", "0 64 invert disk x", Access::ReadWrite).unwrap_err();
    let error = failure.table.unwrap();
    assert_eq!((error.arg, &*error.kernel), (Some(1), "Invalid device sector"));
    machine.set_up("d", "0 64 invert disk 10 8", Access::ReadWrite).unwrap();
    let data: Vec<u8> = (0..64 * 512).map(|n| (n / 7) as u8).collect();
    assert_eq!(machine.submit("d", Bio::write(Sector(0), &data).with_fua()), Ok(()));
    assert_eq!(machine.submit("d", Bio::flush()), Ok(()));
    assert_eq!(machine.read("d", 0, 64).unwrap(), data);
    let inverted: Vec<u8> = data.iter().map(|byte| !byte).collect();
    assert_eq!(machine.image()[10 * 512..74 * 512], inverted);
    // Cut at its max_io_len of 8 sectors.
    assert_eq!(machine.text("d", Report::Status), "8 reads 8 writes");
    assert_eq!(machine.text("d", Report::Table), "7:4096 10 8");
    assert_eq!(machine.submit("d", Bio::discard(Sector(8), Sectors(16))), Ok(()));
    assert!(machine.image()[18 * 512..34 * 512].iter().all(|byte| *byte == 0));
    let zeroes = Bio::write_zeroes(Sector(8), Sectors(8));
    assert_eq!(machine.submit("d", zeroes), Err(BlkError::NotSupported));
    assert!(!machine.device("d").discard_zeroes(), "1.1 has no word for it");
    assert_eq!(machine.message("d", "max_io_len").unwrap().as_deref(), Some("8"));
    assert_eq!(machine.message("d", "reset").unwrap(), None);
    assert_eq!(machine.text("d", Report::Status), "0 reads 0 writes");
    assert_eq!(machine.message("d", "what").unwrap_err().errno, Errno::INVAL);
}

#[test]
fn what_1_1_added_is_called() {
    if !have_cc() {
        return;
    }
    let machine = machine("tests/c/recorded.c");
    machine.set_up("d", "0 64 invert disk 0", Access::ReadWrite).unwrap();
    machine.suspend("d");
    assert_eq!(machine.text("d", Report::Status), "1 resumed 1 suspended");
    machine.resume("d").unwrap();
    assert_eq!(machine.text("d", Report::Status), "2 resumed 1 suspended");
    assert_eq!(machine.read("d", 0, 1), Ok(vec![0xff; 512]));
}
