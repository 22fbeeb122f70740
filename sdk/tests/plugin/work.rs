//! What a plug-in that is in order does.

use std::thread;
use std::time::{Duration, Instant};

use backing::block_on;
use sdk::sim_core::control::Report;
use sdk::sim_core::{Access, Bio, BlkError, BlockDevice, Errno, Flags, Sector, Sectors};

use crate::machine::{Machine, compile, have_cc, load, load_with};

/// A machine with the example in C as it is.
fn example() -> Machine {
    let dir = tempfile::tempdir().unwrap();
    Machine::new(load(&compile(dir.path(), "examples/c/invert.c", &[])).unwrap())
}

#[test]
fn bytes_are_inverted_on_the_device() {
    if !have_cc() {
        return;
    }
    let machine = example();
    machine.set_up("d", "0 64 invert disk 10 8", Access::ReadWrite).unwrap();
    let data: Vec<u8> = (0..64 * 512).map(|n| (n / 7) as u8).collect();
    assert_eq!(machine.submit("d", Bio::write(Sector(0), &data).with_fua()), Ok(()));
    assert_eq!(machine.read("d", 0, 64).unwrap(), data);
    assert_eq!(machine.read("d", 63, 1).unwrap(), data[63 * 512..]);
    let inverted: Vec<u8> = data.iter().map(|byte| !byte).collect();
    let image = machine.image();
    assert_eq!(image[10 * 512..74 * 512], inverted);
    assert!(image[..10 * 512].iter().chain(&image[74 * 512..]).all(|byte| *byte == 0));
    assert_eq!(machine.submit("d", Bio::flush()), Ok(()));
    // Cut at its max_io_len of 8 sectors.
    assert_eq!(machine.text("d", Report::Status), "9 reads 8 writes");
    assert_eq!(machine.text("d", Report::Table), "7:4096 10 8");
}

#[test]
fn a_discard_reaches_the_device_and_what_has_no_callback_is_not_supported() {
    if !have_cc() {
        return;
    }
    let machine = example();
    machine.set_up("d", "0 64 invert disk 0", Access::ReadWrite).unwrap();
    assert_eq!(machine.submit("d", Bio::write(Sector(0), &[1; 64 * 512])), Ok(()));
    assert_eq!(machine.submit("d", Bio::discard(Sector(8), Sectors(16))), Ok(()));
    assert!(machine.image()[8 * 512..24 * 512].iter().all(|byte| *byte == 0));
    let zeroes = Bio::write_zeroes(Sector(8), Sectors(8));
    assert_eq!(machine.submit("d", zeroes), Err(BlkError::NotSupported));
    let mut sector = [0; 512];
    let nowait = Flags { nowait: true, ..Flags::default() };
    let bio = Bio::read(Sector(0), &mut sector).with_flags(nowait);
    assert_eq!(machine.submit("d", bio), Err(BlkError::Again));
}

#[test]
fn a_ctr_says_what_a_discard_leaves() {
    if !have_cc() {
        return;
    }
    let machine = Machine::new(load_with("type.ctr = ctr_discarded", &[]).unwrap());
    let cases = [
        ("anything", "0 64 invert disk 0 0", false),
        ("zeros", "0 64 invert disk 0 1", true),
        ("as below", "0 64 invert disk 0 2", true),
        ("zeros over anything", "0 64 invert 253:0 0 1", true),
        ("as below over anything", "0 64 invert 253:0 0 2", false),
        ("as below over zeros", "0 64 invert 253:1 0 2", true),
    ];
    for (name, table, zeroes) in cases {
        machine.set_up(name, table, Access::ReadWrite).unwrap();
        assert_eq!(machine.device(name).discard_zeroes(), zeroes, "{name}");
    }
}

#[test]
fn a_message_changes_the_target_or_is_answered() {
    if !have_cc() {
        return;
    }
    let machine = example();
    machine.set_up("d", "0 64 invert disk 0 16", Access::ReadWrite).unwrap();
    machine.read("d", 0, 1).unwrap();
    assert_eq!(machine.message("d", "max_io_len").unwrap().as_deref(), Some("16"));
    assert_eq!(machine.message("d", "reset").unwrap(), None);
    assert_eq!(machine.text("d", Report::Status), "0 reads 0 writes");
    assert_eq!(machine.message("d", "what").unwrap_err().errno, Errno::INVAL);
}

#[test]
fn a_bad_table_line_is_refused_with_the_word_at_fault() {
    if !have_cc() {
        return;
    }
    let machine = example();
    let cases = [
        ("disk", Some(1), "Invalid argument count"),
        ("disk 0 1 2", Some(3), "Invalid argument count"),
        ("disk x", Some(1), "Invalid device sector"),
        ("disk 0 -1", Some(2), "Invalid max_io_len"),
        ("disk 18446744073709551616", Some(1), "Invalid device sector"),
        ("nothing 0", Some(0), "Device lookup failed"),
        ("disk 100", None, "too small for target"),
    ];
    for (words, arg, text) in cases {
        let table = format!("0 64 invert {words}");
        let failure = machine.set_up("d", &table, Access::ReadWrite).unwrap_err();
        let error = failure.table.clone().unwrap_or_else(|| panic!("{words}: {failure:?}"));
        assert_eq!(error.arg, arg, "{words}: {error}");
        assert!(error.kernel.contains(text), "{words}: {error}");
    }
    // Nothing stays open.
    machine.set_up("d", "0 64 invert disk 0", Access::ReadWrite).unwrap();
}

#[test]
fn a_device_of_a_read_only_table_is_not_written_to() {
    if !have_cc() {
        return;
    }
    // Writes where it was asked to read.
    let what = "type.flush = 0, type.read = (void *)invert_write";
    let machine = Machine::new(load_with(what, &[]).unwrap());
    machine.set_up("d", "0 64 invert disk 0", Access::ReadOnly).unwrap();
    assert_eq!(machine.read("d", 0, 8), Err(BlkError::Io));
    assert!(machine.image().iter().all(|byte| *byte == 0));
}

#[test]
fn callbacks_run_side_by_side_and_a_suspend_waits_for_them() {
    if !have_cc() {
        return;
    }
    let what = "type.read = read_slowly, type.status = status_of_reads, \
                type.preresume = preresume, type.postsuspend = postsuspend";
    let machine = Machine::with(what, &[]);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..40)
            .map(|n| {
                scope.spawn({
                    let machine = &machine;
                    move || machine.read("d", n, 1)
                })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), Ok(vec![0xff; 512]));
        }
    });
    let status = machine.text("d", Report::Status);
    let most: u32 = status.split(' ').nth(2).unwrap().parse().unwrap();
    assert!((2..=16).contains(&most), "{status}");
    // One whose reader goes away while it runs is waited for as well.
    let device = machine.device("d");
    let mut buffer = [0; 512];
    let mut read = device.submit(Bio::read(Sector(0), &mut buffer));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(read.as_mut().poll(&mut context).is_pending());
    let deadline = Instant::now() + Duration::from_secs(20);
    while machine.text("d", Report::Status).starts_with("0 ") {
        assert!(Instant::now() < deadline, "it never began");
    }
    drop(read);
    machine.suspend("d");
    // Nothing ran when it was told of the suspend.
    assert!(
        machine.text("d", Report::Status).ends_with(" 101 resumed"),
        "{}",
        machine.text("d", Report::Status)
    );
    machine.resume("d").unwrap();
    assert_eq!(machine.read("d", 0, 1), Ok(vec![0xff; 512]));
}

#[test]
fn plug_ins_on_top_of_one_another_do_not_run_out_of_threads() {
    if !have_cc() {
        return;
    }
    let machine = example();
    machine.set_up("d0", "0 64 invert disk 0", Access::ReadWrite).unwrap();
    for n in 1..4 {
        let table = format!("0 64 invert 253:{} 0 2", n - 1);
        machine.set_up(&format!("d{n}"), &table, Access::ReadWrite).unwrap();
    }
    thread::scope(|scope| {
        for n in 0..32 {
            let machine = &machine;
            scope.spawn(move || {
                let data = [n; 1024];
                let at = Sector(u64::from(n) * 2);
                assert_eq!(machine.submit("d3", Bio::write(at, &data)), Ok(()));
                assert_eq!(machine.read("d3", at.0, 2).unwrap(), data);
            });
        }
    });
    // Inverted four times.
    assert_eq!(machine.image()[62 * 512..64 * 512], [31; 1024]);
}

#[test]
fn a_rust_library_is_taken_over_as_it_is() {
    let test = std::env::current_exe().unwrap();
    let library = test.ancestors().nth(2).unwrap().join("examples/libinvert_rust.so");
    if !library.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is not built", library.display());
        return println!("skipped: {} is not built", library.display());
    }
    let machine = Machine::new(load(&library).unwrap());
    machine.set_up("d", "0 64 invert-rust disk 5", Access::ReadWrite).unwrap();
    assert_eq!(machine.submit("d", Bio::write(Sector(1), &[0x0f; 512])), Ok(()));
    assert_eq!(machine.read("d", 1, 1).unwrap(), [0x0f; 512]);
    assert_eq!(machine.image()[6 * 512..7 * 512], [0xf0; 512]);
    assert_eq!(machine.text("d", Report::Table), "7:4096 5");
    let refused = machine.set_up("e", "0 64 invert-rust disk", Access::ReadWrite).unwrap_err();
    assert_eq!(refused.table.unwrap().kernel, "Invalid argument count");
    assert_eq!(block_on(machine.device("d").submit(Bio::flush())), Ok(()));
}
