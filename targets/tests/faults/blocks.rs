//! `dust` and `switch`: messages, and what bios do after them.

use sim_core::{Bio, BlkError, Sector, Sectors};

use crate::rig::Rig;

fn dust() -> Rig {
    // Blocks of 8 sectors; the target begins in the second one of the device.
    Rig::new(1, "0 256 dust a 8 4096")
}

#[test]
fn a_bad_block_fails_reads_once_enabled_and_is_that_of_the_device() {
    let rig = dust();
    assert_eq!(rig.message("addbadblock 2"), Ok(None));
    assert!(rig.read(8).is_ok(), "in bypass");
    assert_eq!(rig.message("enable"), Ok(None));
    for sector in 0..24 {
        let bad = (8..16).contains(&sector);
        assert_eq!(rig.read(sector).is_err(), bad, "sector {sector}");
    }
    assert_eq!(rig.message("disable"), Ok(None));
    assert!(rig.read(8).is_ok());
}

#[test]
fn a_write_makes_a_block_good_after_so_many_that_fail() {
    let rig = dust();
    rig.message("addbadblock 3 2").expect("added");
    rig.message("enable").expect("enabled");
    let written = [16, 17, 18, 19].map(|sector| rig.write(sector, 1).is_ok());
    assert_eq!(written, [false, false, true, true]);
    assert!(rig.read(16).is_ok());
    assert_eq!(rig.disks[0].counts().writes, 2, "those that failed have not reached the disk");
    let count = rig.message("countbadblocks");
    assert_eq!(count, Ok(Some("countbadblocks: 0 badblock(s) found".to_owned())));
}

#[test]
fn a_long_bio_fails_where_one_of_its_blocks_is_bad() {
    let rig = dust();
    rig.message("addbadblock 4").expect("added");
    rig.message("enable").expect("enabled");
    let mut data = vec![0; 64 * 512];
    assert_eq!(rig.send(Bio::read(Sector(0), &mut data)), Err(BlkError::Io));
    assert_eq!(rig.send(Bio::read(Sector(0), &mut data[..24 * 512])), Ok(()));
    // A discard counts for the block that it begins in.
    assert_eq!(rig.send(Bio::discard(Sector(16), Sectors(24))), Ok(()));
    assert!(rig.read(24).is_err());
    assert_eq!(rig.send(Bio::discard(Sector(24), Sectors(8))), Ok(()));
    assert!(rig.read(24).is_ok());
}

#[test]
fn lists_are_in_order_and_end_with_a_line() {
    let rig = dust();
    for block in [30, 4, 12] {
        rig.message(&format!("addbadblock {block}")).expect("added");
    }
    assert_eq!(rig.message("listbadblocks"), Ok(Some("4\n12\n30\n".to_owned())));
}

#[test]
fn regions_go_where_a_message_says_from_the_next_bio_on() {
    let rig = Rig::new(2, "0 64 switch 2 8 0 a 0 b 0");
    let which = || {
        let written = (0..8).map(|region| {
            let before = rig.disks[1].counts().writes;
            rig.write(region * 8 + 7, 1).expect("written");
            rig.disks[1].counts().writes - before
        });
        written.collect::<Vec<_>>()
    };
    assert_eq!(which(), [0, 1, 0, 1, 0, 1, 0, 1]);
    rig.message("set_region_mappings 0:1 :0 R2,3 7:0").expect("set");
    assert_eq!(which(), [1, 0, 1, 0, 1, 1, 0, 0]);
    // What comes before a mapping that is wrong is set.
    assert!(rig.message("set_region_mappings 1:1 8:0 2:0").is_err());
    assert_eq!(which(), [1, 1, 1, 0, 1, 1, 0, 0]);
}
