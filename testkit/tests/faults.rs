//! Each kind of damage to an I/O, by itself.

use std::sync::Arc;

use sim_core::{Bio, BlkError, BlkResult, Sector, Sectors};
use testkit::{Damage, Fault, FaultSpan, Sim, SimDisk, send};

struct Rig {
    sim: Sim,
    disk: Arc<SimDisk>,
}

/// A disk whose sectors have the bytes 10, 11 and on, with the damage to its next bio.
fn rig(damage: Damage, lasts: FaultSpan) -> Rig {
    let sim = Sim::new(1);
    let disk = SimDisk::new(sim.handle(), 0, Sectors(8));
    (0..8).for_each(|at| disk.fill(Sector(at), &[10 + at as u8; 512]));
    disk.inject(Fault::At { after: 0, lasts, damage });
    Rig { sim, disk }
}

impl Rig {
    fn write(&self, sector: u64, byte: u8, len: usize) -> BlkResult {
        let data = vec![byte; len * 512];
        self.sim.block_on(send(self.disk.clone(), Bio::write(Sector(sector), &data)))
    }

    fn read(&self, sector: u64) -> (BlkResult, Vec<u8>) {
        let mut buffer = vec![0; 512];
        let result =
            self.sim.block_on(send(self.disk.clone(), Bio::read(Sector(sector), &mut buffer)));
        (result, buffer)
    }

    fn first_bytes(&self) -> Vec<u8> {
        self.disk.content().chunks(512).map(|sector| sector[0]).collect()
    }
}

#[test]
fn a_short_write_does_its_first_part_and_fails() {
    let rig = rig(Damage::Short(Sectors(1)), FaultSpan::Once);
    assert_eq!(rig.write(2, 99, 3), Err(BlkError::Io));
    assert_eq!(rig.first_bytes(), [10, 11, 99, 13, 14, 15, 16, 17]);
    assert_eq!(rig.write(2, 98, 3), Ok(()));
}

#[test]
fn a_torn_write_does_its_first_part_and_says_nothing() {
    let rig = rig(Damage::Torn(Sectors(2)), FaultSpan::Once);
    assert_eq!(rig.write(2, 99, 3), Ok(()));
    assert_eq!(rig.first_bytes(), [10, 11, 99, 99, 14, 15, 16, 17]);
}

#[test]
fn a_corrupt_bit_changes_what_is_read_or_what_is_stored() {
    let reading = rig(Damage::Corrupt(9), FaultSpan::Once);
    assert_eq!(reading.read(0).1[..3], [10, 8, 10]);
    assert_eq!(reading.read(0).1[..3], [10, 10, 10]);
    let writing = rig(Damage::Corrupt(4096 + 9), FaultSpan::Once);
    assert_eq!(writing.write(0, 10, 1), Ok(()));
    assert_eq!(writing.read(0).1[..3], [10, 8, 10]);
}

#[test]
fn a_misdirected_bio_goes_where_it_should_not() {
    let writing = rig(Damage::Misdirected(Sector(7)), FaultSpan::Once);
    assert_eq!(writing.write(0, 99, 2), Ok(()));
    assert_eq!(writing.first_bytes(), [10, 11, 12, 13, 14, 15, 99, 99]);
    let reading = rig(Damage::Misdirected(Sector(3)), FaultSpan::Once);
    assert_eq!(reading.read(0).1[0], 13);
}

#[test]
fn a_stale_read_gives_what_was_durable_and_a_stale_write_is_lost() {
    let rig = rig(Damage::Stale, FaultSpan::Once);
    assert_eq!((rig.write(0, 99, 1), rig.first_bytes()[0]), (Ok(()), 10));
    assert_eq!((rig.write(0, 98, 1), rig.first_bytes()[0]), (Ok(()), 98));
    rig.disk.inject(Fault::At { after: 0, lasts: FaultSpan::Once, damage: Damage::Stale });
    assert_eq!((rig.read(0).1[0], rig.read(0).1[0]), (10, 98));
}

#[test]
fn a_fault_for_good_lasts_until_the_disk_is_healed() {
    let rig = rig(Damage::Error, FaultSpan::ForGood);
    assert_eq!([rig.read(0).0, rig.read(1).0], [Err(BlkError::Io); 2]);
    rig.disk.heal();
    assert_eq!(rig.read(0).0, Ok(()));
}

#[test]
fn a_write_that_failed_after_all_was_done_has_changed_what_it_was_to_change() {
    let rig = rig(Damage::DoneThenError, FaultSpan::Once);
    assert_eq!(rig.write(2, 99, 2), Err(BlkError::Io));
    assert_eq!(rig.first_bytes(), [10, 11, 99, 99, 14, 15, 16, 17]);
}

#[test]
fn a_fault_of_what_makes_durable_lets_other_bios_pass() {
    let sim = Sim::new(1);
    let disk = SimDisk::new(sim.handle(), 0, Sectors(8));
    let (lasts, damage) = (FaultSpan::Once, Damage::Error);
    disk.inject(Fault::AtDurable { after: 1, lasts, damage });
    let ends = |bio| sim.block_on(send(disk.clone(), bio));
    let data = [9; 512];
    assert_eq!(ends(Bio::write(Sector(0), &data)), Ok(()));
    assert_eq!(ends(Bio::flush()), Ok(()));
    assert_eq!(ends(Bio::write(Sector(0), &data)), Ok(()));
    assert_eq!(ends(Bio::write(Sector(0), &data).with_fua()), Err(BlkError::Io));
    assert_eq!(ends(Bio::flush()), Ok(()));
}
