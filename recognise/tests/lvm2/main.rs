//! LVM2 against what the kernel and LVM2 itself said of one group, and against damage.

mod images;
mod real;

use std::collections::{BTreeMap, BTreeSet};

use images::{AREA, GROUP, labelled, physical};
use proptest::prelude::*;
use recognise::Layer;
use recognise::volumes::lvm2::{self, PhysicalVolume};
use recognise::volumes::{Group, Place, Plan, plan};
use targets::lines::DeviceWord;
use targets::lines::raid::Line as Raid;

/// The tables of the group's devices in Linux 6.12, by LVM2 2.03.16: name, uuid, line.
const TABLES: &str = include_str!("../data/lvm2/tables.txt");

/// What no target of ours maps.
const NOT_OURS: [&str; 2] = ["vg-one/pool", "vg-one/thin"];

/// The length of the images in sectors, as in the recording.
const SECTORS: u64 = 196_608;

fn group() -> Group {
    let volume = lvm2::read(&labelled(0, &[(GROUP, 1024)])).expect("sound").expect("a label");
    assert_eq!(volume.warnings, Vec::<String>::new());
    volume.group.expect("metadata")
}

/// The places that the recording has: /dev/vda is 254:0, and so on.
fn places() -> Vec<Option<Place>> {
    let place =
        |nr: u64| Place { device: DeviceWord(format!("254:{}", nr * 16)), sectors: SECTORS };
    (0..5).map(|nr| Some(place(nr))).collect()
}

fn without(missing: &[usize]) -> Plan {
    let mut there = places();
    missing.iter().for_each(|nr| there[*nr] = None);
    plan(&group(), &there, false)
}

fn layer<'a>(plan: &'a Plan, name: &str) -> &'a Layer {
    let found = plan.layers.iter().find(|layer| layer.name == name);
    found.unwrap_or_else(|| panic!("no {name}: {:?}", plan.not_opened))
}

fn lines(plan: &Plan, name: &str) -> Vec<String> {
    layer(plan, name).lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect()
}

#[test]
fn every_device_has_the_name_the_uuid_and_the_table_that_lvm2_gave_it() {
    let mut recorded: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for line in TABLES.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(name), Some(uuid), Some(line)) = (words.next(), words.next(), words.next())
        else {
            panic!("{line}")
        };
        recorded.entry((name, uuid)).or_default().push(line.to_owned());
    }
    let plan = plan(&group(), &places(), false);
    assert_eq!(plan.warnings, Vec::<String>::new());
    let refused: Vec<&str> = plan.not_opened.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(refused, NOT_OURS);
    let mut planned = BTreeSet::new();
    for layer in &plan.layers {
        let key = (layer.name.as_str(), layer.uuid.as_str());
        planned.insert(layer.name.as_str());
        let Some(expected) = recorded.get(&key) else {
            assert_eq!(layer.name, "vg--one-inactive", "LVM2 has no such device: {layer:?}");
            continue;
        };
        let found: Vec<String> = layer.lines.iter().map(comparable).collect();
        let expected: Vec<String> = expected
            .iter()
            .map(|line| comparable(&sim_core::parse_table(line).unwrap()[0].1))
            .collect();
        assert_eq!(found, expected, "{}", layer.name);
    }
    for (name, _) in recorded.keys() {
        let is_ours = !name.starts_with("vg--one-pool") && *name != "vg--one-thin";
        assert_eq!(planned.contains(name), is_ours, "{name}");
    }
    assert!(layer(&plan, "vg--one-ro").read_only);
    assert!(plan.layers.iter().filter(|layer| layer.read_only).count() == 1);
    let shown = plan.layers.iter().filter(|layer| layer.shown).count();
    // All that `lvs` lists, but for the pool and what is in it.
    assert_eq!(shown, 25);
}

/// Leaves out what the kernel prints in another way than it read it.
fn comparable(line: &sim_core::TargetSpec) -> String {
    let text = line.params.to_string();
    if line.target_type != "raid" {
        return format!("{} {} {} {text}", line.start, line.len, line.target_type);
    }
    let mut raid = Raid::from_text(&text, line.len).expect("a line of raid");
    raid.params.max_write_behind = None;
    format!("{} {} raid {raid}", line.start, line.len)
}

#[test]
fn each_device_comes_after_those_that_it_lies_on() {
    let plan = plan(&group(), &places(), false);
    let mut made = BTreeSet::new();
    for layer in &plan.layers {
        for below in layer.lies_on() {
            assert!(made.contains(below), "{} lies on {below}", layer.name);
        }
        made.insert(layer.name.as_str());
    }
    // And each origin after its snapshots, which it is read-only without.
    let origin = layer(&plan, "vg--one-root--a");
    assert_eq!(origin.read_only_without, ["vg--one-snap1"]);
    let place = |name: &str| plan.layers.iter().position(|layer| layer.name == name);
    for layer in &plan.layers {
        for snapshot in &layer.read_only_without {
            assert!(place(snapshot) < place(&layer.name), "{snapshot} comes after its origin");
        }
    }
}

#[test]
fn an_origin_is_not_written_without_its_snapshots() {
    let text = String::from_utf8(GROUP.to_vec()).expect("text");
    let text = text.replacen(
        "chunk_size = 16\norigin = \"root-a\"",
        "chunk_size = 3\norigin = \"root-a\"",
        1,
    );
    let volume =
        lvm2::read(&labelled(0, &[(text.as_bytes(), 1024)])).expect("sound").expect("a label");
    let plan = plan(&volume.group.expect("metadata"), &places(), false);
    assert!(plan.not_opened.iter().any(|it| it.name == "vg-one/snap1"), "{:?}", plan.not_opened);
    assert!(layer(&plan, "vg--one-root--a").read_only, "{:?}", plan.warnings);
    assert!(
        plan.warnings.iter().any(|it| it.contains("its snapshot vg--one-snap1 cannot be opened"))
    );
    assert!(!layer(&plan, "vg--one-str").read_only, "it has its own");
}

#[test]
fn a_volume_that_is_a_part_of_another_is_shown_for_itself_too() {
    let text = String::from_utf8(GROUP.to_vec()).expect("text");
    // A leg that people see, after the mirror that it is of.
    let at = text.find("\nmcore_mimage_0 {").expect("is there");
    let status = text[at..].find("\"WRITE\"]").expect("is there") + at;
    let text = format!("{}\"WRITE\", \"VISIBLE\"]{}", &text[..status], &text[status + 8..]);
    let volume =
        lvm2::read(&labelled(0, &[(text.as_bytes(), 1024)])).expect("sound").expect("a label");
    let visible = plan(&volume.group.expect("metadata"), &places(), false);
    let names = |plan: &Plan| -> BTreeSet<String> {
        plan.layers.iter().filter(|layer| layer.shown).map(|layer| layer.name.clone()).collect()
    };
    let more: Vec<String> =
        names(&visible).difference(&names(&plan(&group(), &places(), false))).cloned().collect();
    assert_eq!(more, ["vg--one-mcore_mimage_0"]);
    assert!(layer(&visible, "vg--one-mcore").shown);
}

#[test]
fn what_a_missing_volume_held_fails_and_the_rest_is_read_only() {
    // Of pv1 are the second stripes, and the second legs.
    let plan = without(&[1]);
    assert!(
        plan.warnings[0].contains("k3mXkS-86dY-yHH6-liEO-JEgE-zZ7G-g8hfBn, last seen as /dev/vdb")
    );
    assert!(plan.layers.iter().all(|layer| layer.read_only));
    let missing = "/dev/mapper/vg--one-str-missing_0_1";
    assert_eq!(
        lines(&plan, "vg--one-str-real"),
        [format!("0 12288 striped 2 128 254:0 12288 {missing} 0")]
    );
    assert_eq!(lines(&plan, "vg--one-str-missing_0_1"), ["0 6144 error"]);
    // Of a mirror the whole legs do, of a set those that are left.
    assert_eq!(
        lines(&plan, "vg--one-mcore"),
        ["0 6144 linear /dev/mapper/vg--one-mcore_mimage_0 0"]
    );
    let two = "2 /dev/mapper/vg--one-mdisk_mimage_0 0 /dev/mapper/vg--one-mdisk_mimage_2 0";
    let log = "/dev/mapper/vg--one-mdisk_mlog";
    assert_eq!(
        lines(&plan, "vg--one-mdisk"),
        [format!("0 6144 mirror disk 3 {log} 256 nosync {two} 1 handle_errors")]
    );
    let leg = |nr| format!("/dev/mapper/vg--one-r5_rmeta_{nr} /dev/mapper/vg--one-r5_rimage_{nr}");
    assert_eq!(
        lines(&plan, "vg--one-r5"),
        [format!("0 8192 raid raid5_ls 3 128 region_size 4096 3 {} - - {}", leg(0), leg(2))]
    );
    // Without two of its legs it is lost.
    let plan = without(&[1, 2]);
    let lost = plan.not_opened.iter().find(|it| it.name == "vg-one/r5").expect("is refused");
    assert_eq!(lost.why, "2 of its 3 legs are missing");
    assert!(
        !plan.layers.iter().any(|layer| layer.name.starts_with("vg--one-r5_")),
        "no part of it is left"
    );
}

#[test]
fn a_volume_that_was_cut_short_gives_what_is_left_of_it() {
    let mut there = places();
    // frag: extents 5, 8, 10, 12 of pv3; 2048 sectors each from 2048 on.
    there[3].as_mut().expect("is there").sectors = 2048 + 6 * 2048 + 100;
    let plan = plan(&group(), &there, false);
    assert_eq!(
        lines(&plan, "vg--one-frag")[..2],
        [
            "0 4096 linear /dev/mapper/vg--one-frag-missing_0_0 0",
            "4096 2048 linear /dev/mapper/vg--one-frag-missing_1_0 0"
        ]
    );
    assert_eq!(
        lines(&plan, "vg--one-frag-missing_0_0"),
        ["0 2148 linear 254:48 12288", "2148 1948 error"]
    );
    assert_eq!(lines(&plan, "vg--one-frag-missing_1_0"), ["0 2048 error"]);
}

#[test]
fn a_volume_that_the_group_went_on_without_is_not_read() {
    let mut group = group();
    group.physical[0].stale = true;
    let plan = plan(&group, &places(), false);
    assert!(plan.warnings[0].contains("the group went on without it"), "{:?}", plan.warnings);
    let reads = plan.layers.iter().flat_map(|layer| &layer.lines);
    assert!(reads.map(|line| line.to_string()).all(|line| !line.contains(" 254:0 ")));
}

#[test]
fn a_merge_that_was_begun_goes_on_and_read_only_it_is_looked_at() {
    let text = String::from_utf8(GROUP.to_vec()).expect("text");
    let text = text.replace("cow_store = \"mrgsnap\"", "merging_store = \"mrgsnap\"");
    let volume =
        lvm2::read(&labelled(0, &[(text.as_bytes(), 1024)])).expect("sound").expect("a label");
    let group = volume.group.expect("metadata");
    let (real, cow) = ("/dev/mapper/vg--one-mrg-real", "/dev/mapper/vg--one-mrgsnap-cow");
    let merge = plan(&group, &places(), false);
    assert_eq!(lines(&merge, "vg--one-mrg"), [format!("0 6144 snapshot-merge {real} {cow} P 8")]);
    assert!(merge.layers.iter().all(|layer| layer.name != "vg--one-mrgsnap"));
    let look = plan(&group, &places(), true);
    assert_eq!(lines(&look, "vg--one-mrg"), [format!("0 6144 snapshot {real} {cow} P 8")]);
}

#[test]
fn of_several_texts_the_newest_counts() {
    let newer =
        String::from_utf8(GROUP.to_vec()).expect("text").replace("seqno = 46", "seqno = 47");
    // In the second of two areas.
    let both =
        lvm2::read(&labelled(1, &[(GROUP, 1024), (newer.as_bytes(), 1024)])).unwrap().unwrap();
    assert_eq!(both.group.as_ref().map(|group| group.seqno), Some(47));
    // On another volume; the text there has wrapped round its ring.
    let old = lvm2::read(&labelled(0, &[(GROUP, 1024)])).unwrap().unwrap();
    let wrapped = lvm2::read(&labelled(1, &[(newer.as_bytes(), AREA - 1024)])).unwrap().unwrap();
    let names = ["a.img".to_owned(), "b.img".to_owned()];
    let found = lvm2::groups(&[old.clone(), wrapped.clone()], &names).expect("no copies");
    let [found] = &found.groups[..] else { panic!("{found:?}") };
    assert_eq!((found.group.seqno, &found.there[..3]), (47, &[Some(0), Some(1), None][..]));
    assert_eq!(
        found.warnings,
        ["a.img: its metadata are older (46 of 47): those of the others count"]
    );
    // One without metadata does with those of another.
    let bare = lvm2::read(&labelled(2, &[])).unwrap().unwrap();
    let found = lvm2::groups(&[old.clone(), bare.clone()], &names).expect("no copies");
    assert_eq!(found.groups[0].there[..3], [Some(0), None, Some(1)]);
    let found = lvm2::groups(&[bare], &names).expect("no copies");
    assert!(found.alone[0].1.contains("has no metadata of its group"), "{found:?}");
    let twice = lvm2::groups(&[old.clone(), old], &names).expect_err("copies");
    assert!(twice.contains("a.img and b.img are one physical volume"), "{twice}");
}

#[test]
fn damaged_metadata_are_told_and_another_area_does() {
    let mut image = labelled(0, &[(GROUP, 1024), (GROUP, 1024)]);
    image[4096 + 1024 + 100] ^= 1;
    let volume = lvm2::read(&image).unwrap().unwrap();
    assert_eq!(volume.group.map(|group| group.seqno), Some(46));
    assert!(volume.warnings[0].contains("text with checksum"), "{:?}", volume.warnings);
    image[512 + 40] ^= 1;
    let error = lvm2::read(&image).expect_err("a damaged label");
    assert!(error.to_string().contains("LVM2 label in sector 1: checksum"), "{error}");
}

#[test]
fn metadata_that_mean_harm_are_refused() {
    let text = String::from_utf8(GROUP.to_vec()).expect("text");
    for (from, to, why) in [
        ("extent_count = 4", "extent_count = 99999999999999999", "too long"),
        ("extent_size = 2048", "extent_size = 0", "extent_size is 0"),
        ("\nroot-a {", "\n\"../../etc\" {", "is no name of a volume"),
        ("start_extent = 0", "start_extent = 1", "a segment at extent 1, expected 0"),
        ("segment_count = 4", "segment_count = 400000000", "4 segments, expected 400000000"),
        ("id = \"nwiAt9-j7xW", "id = \"nwiAt9/j7xW", "its id is none"),
    ] {
        let text = text.replacen(from, to, 1);
        let volume = lvm2::read(&labelled(0, &[(text.as_bytes(), 1024)])).unwrap().unwrap();
        assert!(volume.warnings.iter().any(|it| it.contains(why)), "{why}: {:?}", volume.warnings);
    }
    for (from, to, name, why) in [
        ("\"pv0\", 0", "\"pv0\", 93", "root-a", "4 extents from 93 on of physical volume"),
        ("\"mcore_mimage_0\", 0", "\"mcore\", 0", "mcore", "it lies on itself"),
        (
            "\"mcore_mimage_0\", 0",
            "\"mcore_mimage_0\", 1",
            "mcore",
            "of `mcore_mimage_0`, which has 3",
        ),
        ("\"mcore_mimage_0\", 0", "\"nobody\", 0", "mcore", "there is no volume `nobody`"),
        ("stripe_size = 128", "stripe_size = 7", "str", "divisible"),
    ] {
        let text = text.replacen(from, to, 1);
        let volume = lvm2::read(&labelled(0, &[(text.as_bytes(), 1024)])).unwrap().unwrap();
        let plan = plan(&volume.group.expect("metadata"), &places(), false);
        let refused = plan.not_opened.iter().find(|it| it.name == format!("vg-one/{name}"));
        assert!(refused.is_some_and(|it| it.why.contains(why)), "{why}: {:?}", plan.not_opened);
        let parts = plan.layers.iter().filter(|it| it.name.contains(&format!("-{name}")));
        assert!(
            parts.clone().all(|it| it.name.starts_with("vg--one-str3")),
            "{:?}",
            parts.collect::<Vec<_>>()
        );
    }
}

/// Volumes that lie on one another in many ways: each on the next one, by many legs.
#[test]
fn volumes_that_lie_on_one_another_again_and_again_cost_no_more_than_they_are() {
    let mut text = String::from_utf8(GROUP.to_vec()).expect("text");
    let mut volumes = String::new();
    for nr in 0..2000 {
        let legs = format!("\"v{}\", 0, ", nr + 1).repeat(8);
        volumes += &format!(
            "v{nr} {{ id = \"nwiAt9-j7xW-zYbU-phnZ-qDlr-hOwv-{nr:06}\" status = [\"VISIBLE\"] segment_count = 1 \
             segment1 {{ start_extent = 0 extent_count = 1 type = \"mirror\" region_size = 1024 \
             mirrors = [{legs}] }} }}\n"
        );
    }
    text = text.replacen("logical_volumes {", &format!("logical_volumes {{\n{volumes}"), 1);
    let group =
        lvm2::read(&labelled(0, &[(text.as_bytes(), 1024)])).unwrap().unwrap().group.unwrap();
    let plan = plan(&group, &places(), false);
    assert!(plan.not_opened.len() >= 2000);
}

/// Tells what is wrong with a plan: every line within its places and its devices.
fn check(plan: &Plan, there: &[Option<Place>]) -> Result<(), TestCaseError> {
    let mut lens: BTreeMap<String, u64> = BTreeMap::new();
    for place in there.iter().flatten() {
        lens.insert(place.device.to_string(), place.sectors);
    }
    for layer in &plan.layers {
        let mut next = 0;
        for line in &layer.lines {
            prop_assert_eq!(line.start.0, next);
            next += line.len.0;
            let words: Vec<String> = line.params.split(' ').map(str::to_owned).collect();
            let pairs: Vec<(&String, u64)> = match line.target_type.as_str() {
                "linear" => vec![(&words[0], line.len.0)],
                "striped" => {
                    let count = (words.len() as u64 - 2) / 2;
                    words[2..].chunks(2).map(|pair| (&pair[0], line.len.0 / count)).collect()
                }
                _ => continue,
            };
            for (device, len) in pairs {
                let at = words.iter().position(|word| word == device).expect("is there");
                let start: u64 = words[at + 1].parse().expect("a number");
                let room = lens.get(device.as_str()).copied();
                prop_assert!(
                    room.is_some_and(|room| start + len <= room),
                    "{}: {line}",
                    layer.name
                );
            }
        }
        lens.insert(format!("/dev/mapper/{}", layer.name), next);
    }
    Ok(())
}

proptest! {
    /// Whatever the text says, no table leaves what there is.
    #[test]
    fn no_table_reaches_past_its_devices(
        places_cut in proptest::collection::vec(proptest::option::of(0u64..SECTORS), 5),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0u64..200_000), 0..6),
        read_only: bool,
    ) {
        let mut text = String::from_utf8(GROUP.to_vec()).expect("text");
        for (at, number) in edits {
            // A number of the text becomes another.
            let digits: Vec<(usize, usize)> = numbers(&text);
            let (from, to) = digits[at.index(digits.len())];
            text.replace_range(from..to, &number.to_string());
        }
        let volume = lvm2::read(&labelled(0, &[(text.as_bytes(), 1024)])).unwrap().unwrap();
        if let PhysicalVolume { group: Some(group), .. } = volume {
            let word = |nr: usize| DeviceWord(format!("7:{nr}"));
            let place = |(nr, cut): (usize, &Option<u64>)| {
                cut.map(|sectors| Place { device: word(nr), sectors })
            };
            let there: Vec<_> = places_cut.iter().enumerate().map(place).collect();
            if group.physical.len() == there.len() {
                check(&plan(&group, &there, read_only), &there)?;
            }
        }
    }

    /// Bytes of an image are changed: nothing panics.
    #[test]
    fn damage_is_told(at in 0usize..40_000, with: [u8; 4]) {
        let mut image = labelled(0, &[(GROUP, 1024)]);
        image[at..at + 4].copy_from_slice(&with);
        if let Ok(Some(volume)) = lvm2::read(&image)
            && let Some(group) = volume.group
        {
            plan(&group, &vec![None; group.physical.len()], false);
        }
    }
}

fn numbers(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(" = ") {
        let rest = &text[at + 3..];
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        if len > 0 {
            found.push((at + 3, at + 3 + len));
        }
    }
    found
}

#[test]
fn an_image_without_a_label_is_none() {
    assert_eq!(lvm2::read(&vec![0u8; 1 << 20]).unwrap(), None);
    assert_eq!(lvm2::read(&Vec::<u8>::new()).unwrap(), None);
    assert_eq!(physical(0).len(), 32);
}
