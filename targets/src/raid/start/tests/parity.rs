//! Legs of a set with parity that are rebuilt while nobody says that their parity is right.

use super::told;

const REFUSED: &str = "EIO(5): Failed to run raid array";

#[test]
fn a_new_set_may_have_its_parity_rebuilt_alone() {
    // What Linux 6.12 makes of it: the type, the legs that are rebuilt, and whether it starts.
    let four = "raid4:0:yes raid4:1:no raid4:3:no raid5_n:3:yes raid5_n:0:no raid5_ls:3:no";
    let five = "raid6_n_6:4:yes raid6_n_6:3:yes raid6_n_6:3,4:yes raid6_n_6:2,4:no raid6_ls_6:4:yes \
                raid6_ls_6:0:no raid6_ra_6:4:yes raid6_zr:4:no raid6_nc:4:no";
    let cases =
        [(4, four), (5, five)].map(|(legs, cases)| cases.split(' ').map(move |c| (legs, c)));
    for (legs, case) in cases.into_iter().flatten() {
        let words: Vec<&str> = case.split(':').collect();
        let rebuilt: String = words[1].split(',').map(|leg| format!(" rebuild {leg}")).collect();
        let count = 3 + 2 * words[1].split(',').count();
        let line = format!("12288 {} {count} 64 region_size 128{rebuilt}", words[0]);
        let (told, _) = told(&line, &vec!["blank"; legs]);
        assert_eq!(told == REFUSED, words[2] == "no", "{line}: {told}");
    }
}

#[test]
fn a_set_goes_on_where_parity_alone_is_being_rebuilt() {
    let line = "12288 raid4 3 64 region_size 128";
    let leg = "devices=4 level=5 layout=4 chunk=64 array=12288 device=4096 resync=0";
    let behind = format!("{leg} recovery=0");
    let (parity, _) = told(line, &[&behind, leg, leg, leg]);
    assert_eq!(parity, "r0AAA resync 0 events 5 Load");
    let (data, _) = told(line, &[leg, leg, leg, &behind]);
    assert_eq!(data, REFUSED);
    let (missing, _) = told(line, &["-", leg, leg, leg]);
    assert_eq!(missing, REFUSED);
}
