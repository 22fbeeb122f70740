//! What each target makes of a bio: the table, the bios that go in, the I/O below.

#[track_caller]
fn check(table: &str, bios: &str, ios: &str) {
    testkit::check(&targets::registry(), table, bios, ios);
}

#[test]
fn linear_adds_its_start() {
    check("0 64 linear a 10", "R 4+8", "R a 14+8");
    check("0 64 linear b 0", "W 0+64, R 63+1", "W b 0+64, R b 63+1");
    check("0 64 linear a 10", "D 4+8, Z 60+4, E 0+1", "D a 14+8, Z a 70+4, E a 10+1");
}

#[test]
fn linear_passes_flushes_and_fua_on() {
    check("0 64 linear a 10", "F", "F a");
    check("0 64 linear a 10", "W 4+8 fua", "W a 14+8 fua");
    check("0 64 linear a 10", "W 4+8 preflush", "F a, W a 14+8");
}

#[test]
fn a_bio_is_cut_where_a_target_ends() {
    let table = "0 8 linear a 100\n8 8 linear b 0\n16 8 zero\n24 8 linear a 200";
    check(table, "R 6+4", "R a 106+2, R b 0+2");
    check(table, "W 0+32", "W a 100+8, W a 200+8, W b 0+8");
    check(table, "W 20+6 fua, F", "W a 200+2 fua, F a, F b");
}

#[test]
fn a_bio_past_the_end_fails_and_reaches_nothing() {
    check("0 64 linear a 10", "R 60+5, W 64+1, R 63+1", "EIO, EIO, R a 73+1");
}

#[test]
fn striped_deals_chunks_out_in_turn() {
    let table = "0 64 striped 2 4 a 100 b 200";
    check(table, "R 0+4, R 4+4, R 8+4, R 12+4", "R a 100+4, R b 200+4, R a 104+4, R b 204+4");
    check(table, "R 2+4", "R a 102+2, R b 200+2");
    check(table, "W 3+10", "W a 103+1, W a 104+4, W b 200+4, W b 204+1");
    check(table, "R 63+1, R 63+2", "R b 231+1, EIO");
}

#[test]
fn striped_takes_chunks_that_are_no_power_of_two() {
    let table = "0 60 striped 3 5 a 0 b 0 c 0";
    check(table, "R 4+2", "R a 4+1, R b 0+1");
    check(table, "R 14+2", "R a 5+1, R c 4+1");
    check(table, "R 30+15", "R a 10+5, R b 10+5, R c 10+5");
    check("0 6 striped 2 1 a 0 b 0", "R 1+3", "R a 1+1, R b 0+1, R b 1+1");
    check("0 12 striped 1 3 b 7", "R 2+2", "R b 9+1, R b 10+1");
}

#[test]
fn striped_sends_a_discard_to_each_leg_in_one_piece() {
    let table = "0 64 striped 2 4 a 100 b 200";
    check(table, "D 0+64", "D a 100+32, D b 200+32");
    check(table, "D 2+12", "D a 102+6, D b 200+6");
    check(table, "D 2+2, Z 4+4", "D a 102+2, Z b 200+4");
    check("0 60 striped 3 5 a 0 b 0 c 0", "Z 4+12", "Z a 4+2, Z b 0+5, Z c 0+5");
}

#[test]
fn striped_flushes_each_disk_once() {
    check("0 64 striped 2 4 a 100 b 200", "F", "F a, F b");
    check("0 64 striped 2 4 a 0 a 100", "F", "F a");
    check("0 64 striped 2 4 a 100 b 200", "W 3+2 fua", "W a 103+1 fua, W b 200+1 fua");
}

#[test]
fn zero_and_error_reach_nothing() {
    check("0 64 zero", "R 0+64, W 0+64, F, D 0+64", "");
    check("0 64 zero", "Z 0+1", "EOPNOTSUPP");
    check("0 64 error", "R 0+1, W 0+1", "EIO, EIO");
    check("0 64 error a 10", "R 0+1, F", "EIO");
}

#[test]
fn unstriped_takes_every_nth_chunk() {
    let table = "0 64 unstriped 3 4 1 a 10";
    check(table, "R 0+4, R 4+4, W 63+1", "R a 14+4, R a 26+4, W a 197+1");
    check(table, "R 2+4", "R a 16+2, R a 26+2");
    check("0 15 unstriped 2 5 0 b 0", "R 3+7", "R b 3+2, R b 10+5");
    check(table, "F, D 0+4, Z 0+4", "EOPNOTSUPP, EOPNOTSUPP");
}

#[test]
fn unstriped_fails_past_the_end_of_the_striped_device() {
    // The kernel checks no more than the target's own length.
    check("0 32768 unstriped 4 16 0 a 0", "R 16383+1, R 16384+1", "R a 65487+1, EIO");
}

#[test]
fn switch_sends_regions_by_paths_in_turn() {
    let table = "0 64 switch 3 8 0 a 10 b 20 c 30";
    check(table, "R 0+8, R 8+8, R 16+8, R 24+8", "R a 10+8, R b 28+8, R c 46+8, R a 34+8");
    check(table, "W 6+4", "W a 16+2, W b 28+2");
    check(table, "F, D 6+20, Z 0+1", "D a 16+20, EOPNOTSUPP");
}

#[test]
fn delay_has_a_place_for_each_kind_of_bio() {
    check("0 64 delay a 10 3", "R 4+8, W 4+8, D 0+8, F", "R a 14+8, W a 14+8, D a 10+8, F a");
    let table = "0 64 delay a 10 1 b 20 0 c 30 5";
    check(table, "R 4+8, W 4+8 fua, D 0+8", "R a 14+8, W b 24+8 fua, D b 20+8");
    check(table, "W 0+1 preflush", "F c, W b 20+1");
    check("0 64 delay a 10 1 b 20 0", "F, Z 0+1", "F b, EOPNOTSUPP");
}

#[test]
fn flakey_does_while_it_is_down_what_its_features_say() {
    let check = |features: &str, ios| {
        let bios = "R 0+1, W 1+1, D 2+1, F";
        check(&format!("0 64 flakey a 10 0 60 {features}"), bios, ios);
    };
    check("", "EIO, EIO, EIO, EIO");
    check("1 error_reads", "EIO, W a 11+1, D a 12+1, F a");
    check("1 error_writes", "R a 10+1, EIO, EIO, EIO");
    check("1 drop_writes", "R a 10+1");
    check("5 corrupt_bio_byte 1 w 0 0", "R a 10+1, W a 11+1, D a 12+1, F a");
}

#[test]
fn dust_cuts_bios_at_blocks() {
    check(
        "0 64 dust a 16 2048",
        "R 2+4, W 0+5, F, D 2+9",
        "R a 18+2, R a 20+2, W a 16+4, W a 20+1, F a, D a 18+9",
    );
}

#[test]
fn ebs_reads_the_blocks_that_a_write_leaves_parts_of() {
    let table = "0 64 ebs a 16 1 8";
    check(table, "R 8+8, W 8+16, F", "R a 24+8, W a 24+16, F a");
    check(table, "R 9+2, R 7+2", "R a 24+8, R a 16+16");
    check(table, "W 9+2", "R a 24+8, W a 24+8");
    check(table, "W 7+10 fua", "R a 16+8, W a 16+24 fua, R a 32+8");
    check(table, "W 8+9", "W a 24+16, R a 32+8");
    check(table, "D 8+8, D 7+10, D 9+6", "D a 24+8, D a 24+8");
    check("0 64 ebs a 8 8 1", "R 8+8, W 0+16, D 8+8", "R a 16+8, W a 8+16, D a 16+8");
}
