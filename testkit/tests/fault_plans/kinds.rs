//! What each kind does to a bio.

use super::*;
use sim_core::FaultOp;

#[test]
fn each_kind_does_what_it_says_to_a_write() {
    let rule = |kind| FaultRule { start: Some(Sector(5)), ..rule(kind) };
    let short = |kind| FaultRule { done: Some(Sectors(1)), ..rule(kind) };
    let io = Err(BlkError::Io);
    for (rule, result, left) in [
        (rule(FaultKind::Error), io, "................"),
        (rule(FaultKind::Full), Err(BlkError::NoSpace), "................"),
        (short(FaultKind::Short), io, "....x..........."),
        (short(FaultKind::Torn), Ok(()), "....x..........."),
        (FaultRule { delay_ms: Some(9), ..rule(FaultKind::Slow) }, Ok(()), "....xxxx........"),
        (rule(FaultKind::LostWrite), Ok(()), "................"),
        (
            FaultRule { to: Some(Sector(10)), ..rule(FaultKind::Misdirected) },
            Ok(()),
            "..........xxxx..",
        ),
    ] {
        let world = stack(1);
        arm(&world, 0, std::slice::from_ref(&rule));
        assert_eq!(write(&world, 0, 4, 4, b'x'), result, "{rule:?}");
        // Sector 5 is not touched.
        assert_eq!(write(&world, 0, 16, 2, b'y'), Ok(()), "{rule:?}");
        let report = heal(&world, 0);
        assert_eq!((report.bio_count, report.strikes.len()), (2, 1), "{rule:?}");
        assert_eq!(bytes(&world, 0), format!("{left}yy.............."), "{rule:?}");
    }
}

#[test]
fn each_kind_does_what_it_says_to_a_read() {
    let world = stack(2);
    for at in 0..SIZE as u64 {
        write(&world, 0, at, 1, b'a' + at as u8).expect("no fault");
    }
    let seen = |rule: FaultRule| {
        arm(&world, 0, &[FaultRule { on: vec![FaultOp::Reads], ..rule }]);
        let seen = read(&world, 0, 4, 4).map(|read| {
            read.chunks(512).map(|sector| char::from(sector[7].max(b'.'))).collect::<String>()
        });
        heal(&world, 0);
        seen
    };
    assert_eq!(seen(rule(FaultKind::Error)), Err(BlkError::Io));
    assert_eq!(
        seen(FaultRule { done: Some(Sectors(2)), ..rule(FaultKind::Short) }),
        Err(BlkError::Io)
    );
    let torn = FaultRule { done: Some(Sectors(2)), ..rule(FaultKind::Torn) };
    assert_eq!(seen(torn).as_deref(), Ok("ef.."), "zeros, and not what was in the buffer");
    let elsewhere = FaultRule { to: Some(Sector(1)), ..rule(FaultKind::Misdirected) };
    assert_eq!(seen(elsewhere).as_deref(), Ok("bcde"));
    // Off the end: the last place where it fits.
    let elsewhere = FaultRule { to: Some(Sector(31)), ..rule(FaultKind::Misdirected) };
    assert_eq!(seen(elsewhere).as_deref(), Ok("}~\u{7f}\u{80}"));
}

/// Which bits of what was read differ from zeros.
fn flipped(content: &[u8]) -> Vec<usize> {
    let is_set = |bit: &usize| content[bit / 8] & 1 << (bit % 8) != 0;
    (0..content.len() * 8).filter(is_set).collect()
}

#[test]
fn bits_are_flipped_where_the_rule_says_and_the_log_says_where() {
    for bits in [1, 2, 3, 4096] {
        let flip = FaultRule { start: Some(Sector(5)), bits: Some(bits), ..rule(FaultKind::Flip) };
        let world = stack(3);
        arm(&world, 0, &[FaultRule { on: vec![FaultOp::Reads], ..flip.clone() }]);
        let found = flipped(&read(&world, 0, 4, 4).expect("a lie"));
        let mut told: Vec<_> =
            report(&world, 0)[0].strikes[0].fate.bits().map(|bit| bit as usize).collect();
        told.sort_unstable();
        assert_eq!((found.len(), &found), (bits as usize, &told));
        assert!(found.iter().all(|bit| (4096..8192).contains(bit)), "in sector 5 alone: {found:?}");
        heal(&world, 0);
        assert_eq!(
            flipped(&read(&world, 0, 0, SIZE).expect("no fault")),
            [],
            "the disk is as it was"
        );

        arm(&world, 0, &[FaultRule { on: vec![FaultOp::Writes], ..flip }]);
        let data = vec![0; 4 * 512];
        done(&world, 0, Bio::write(Sector(4), &data)).expect("a lie");
        done(&world, 0, Bio::write_zeroes(Sector(4), Sectors(4))).expect("it has no data");
        let report = heal(&world, 0);
        assert_eq!(report.rules[0].fit_count, 1);
        assert!(data.iter().all(|byte| *byte == 0), "what was lent is not written to");
    }
}

#[test]
fn a_lost_flush_leaves_the_cache_as_it_is() {
    for on in [vec![], vec![FaultOp::Flushes], vec![FaultOp::Fua]] {
        let world = stack(4);
        let disk = world.disk(0);
        arm(&world, 0, &[FaultRule { on: on.clone(), ..rule(FaultKind::LostFlush) }]);
        write(&world, 0, 0, 1, b'a').expect("no fault");
        done(&world, 0, Bio::flush()).expect("a lie, or none");
        let flushed = disk.volatile_writes() == 0;
        assert_eq!(flushed, on == [FaultOp::Fua], "{on:?}");
        let fua = vec![b'b'; 512];
        done(&world, 0, Bio::write(Sector(1), &fua).with_fua()).expect("a lie, or none");
        assert_eq!(disk.durable(Sector(1)) == fua, on == [FaultOp::Flushes], "{on:?}");
        heal(&world, 0);
        done(&world, 0, Bio::flush()).expect("no fault");
        assert_eq!(disk.volatile_writes(), 0);
    }
}

#[test]
fn a_flush_before_a_write_is_one_of_its_own() {
    let world = stack(5);
    arm(&world, 0, &[FaultRule { on: vec![FaultOp::Flushes], ..rule(FaultKind::Error) }]);
    let mut both = Bio::write(Sector(0), &[1; 512]);
    both.flags.preflush = true;
    assert_eq!(done(&world, 0, both), Err(BlkError::Io));
    assert_eq!(world.disk(0).counts().writes, 0);
    arm(&world, 0, &[rule(FaultKind::LostFlush)]);
    let mut both = Bio::write(Sector(0), &[1; 512]);
    both.flags.preflush = true;
    assert_eq!(done(&world, 0, both), Ok(()));
    assert_eq!((world.disk(0).counts().writes, world.disk(0).counts().flushes), (1, 0));
}

/// For those who use the device, whichever way, and for nobody else.
#[test]
fn whoever_uses_the_device_meets_its_faults() {
    let world = stack(6);
    let extents = || [0, 1, 2, 3].map(|device| world.device(device).extents().is_some());
    assert_eq!(extents(), [true; 4]);
    arm(&world, 0, &[rule(FaultKind::Error)]);
    // Nothing leads past.
    assert_eq!(extents(), [false, true, false, false]);
    for device in [0, 2, 3] {
        assert_eq!(read(&world, device, 0, 1), Err(BlkError::Io), "d{device}");
        assert_eq!(write(&world, device, 0, 1, 1), Err(BlkError::Io), "d{device}");
        assert_eq!(done(&world, device, Bio::flush()), Err(BlkError::Io), "d{device}");
        let mut buffer = [0; 512];
        let bio = Bio::read(Sector(0), &mut buffer);
        assert!(sim_core::BlockDevice::try_now(&*world.device(device), bio).is_err());
    }
    assert_eq!(write(&world, 1, 0, 1, 1), Ok(()));
    assert_eq!(write(&world, 3, 4, 1, 1), Ok(()), "the other stripe");
    let report = heal(&world, 0);
    // Each bio has counted once, whether it was tried on the spot or not.
    assert_eq!((report.bio_count, report.rules[0].struck_count), (9, 9));
    assert_eq!(extents(), [true; 4]);
    for device in [0, 1, 2, 3] {
        assert_eq!(write(&world, device, 0, 1, 1), Ok(()), "d{device}");
    }
}
