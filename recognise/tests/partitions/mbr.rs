//! The MBR and chains of logical partitions.

use recognise::partitions::{Place, layers};
use sim_core::Sectors;

use crate::support::{Image, MIB, checked, checked_of_len, entry, have, mbr, places};

const SIX: &str = "label: dos
label-id: 0x1234abcd
start=2048,size=2048,type=83,bootable
start=4096,size=2048,type=82
start=8192,size=57344,type=f
start=10240,size=2048,type=83
start=14336,size=2048,type=7
start=18432,size=4096,type=8e
start=24576,size=2048,type=fd
start=30720,size=2048,type=c
start=40960,size=8192,type=83
";

#[test]
fn six_logical_partitions_with_gaps_are_as_blkid_has_them() {
    if !have(&["sfdisk", "partx"]) {
        return;
    }
    let image = Image::sfdisk(32 * MIB, SIX);
    let table = image.agrees(None);
    assert_eq!((table.uuid.as_deref(), table.warnings.len()), (Some("1234abcd"), 0));
    let numbers: Vec<u32> = table.partitions.iter().map(|partition| partition.number).collect();
    assert_eq!(numbers, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    let by_place = |place| table.partitions.iter().filter(move |part| part.place == place).count();
    assert_eq!(
        [by_place(Place::Primary), by_place(Place::Extended), by_place(Place::Logical)],
        [2, 1, 6]
    );
    assert_eq!(table.partitions[8].uuid.as_deref(), Some("1234abcd-0a"));
    let text = table.to_string();
    assert!(text.starts_with("MBR, 32M, 65536 sectors of 512 bytes, 1234abcd\n"), "{text}");
    let row = text.lines().nth(5).unwrap();
    assert_eq!(row, " 3         8192  65535    57344   28M  Extended (LBA)");
    let json = serde_json::to_value(&table).unwrap();
    assert_eq!((&json["type"], &json["size_bytes"]), (&"dos".into(), &33_554_432.into()));
    let row = &json["partitions"][3];
    assert_eq!(
        (&row["type"], &row["type_name"], &row["logical"]),
        (&"0x83".into(), &"Linux".into(), &true.into())
    );
    assert_eq!((&row["label"], &row["extended"]), (&serde_json::Value::Null, &false.into()));
}

#[test]
fn logical_partitions_out_of_order_are_numbered_by_the_chain() {
    if !have(&["sfdisk", "partx"]) {
        return;
    }
    let image = Image::sfdisk(32 * MIB, SIX);
    // The numbers of those behind go down by one.
    image.tool("sfdisk", &["-q", "--delete", "IMAGE", "6"]);
    image.tool("sfdisk", &["-q", "--delete", "IMAGE", "7"]);
    image.agrees(None);
    image.tool_with("sfdisk", &["-q", "-a", "IMAGE"], "start=14336,size=1024,type=83\n");
    image.tool_with("sfdisk", &["-q", "-a", "IMAGE"], "start=24576,size=1024,type=83\n");
    let table = image.agrees(None);
    let starts: Vec<u64> = table.partitions[3..].iter().map(|part| part.start.0).collect();
    assert!(!starts.is_sorted(), "{starts:?}");
    assert_eq!((starts.len(), table.warnings.len()), (6, 0), "{:?}", table.warnings);
}

#[test]
fn extended_partitions_are_of_three_types() {
    if !have(&["sfdisk", "partx"]) {
        return;
    }
    for kind in ["5", "f", "85"] {
        let image = Image::sfdisk(32 * MIB, &SIX.replace("type=f\n", &format!("type={kind}\n")));
        let table = image.agrees(None);
        assert_eq!((table.partitions.len(), table.warnings.len()), (9, 0), "{kind}");
    }
}

#[test]
fn tables_of_parted_are_read() {
    if !have(&["parted", "partx"]) {
        return;
    }
    let image = Image::empty(16 * MIB);
    let parts = [
        &["-s", "IMAGE", "mklabel", "msdos", "mkpart", "primary", "1MiB", "4MiB"][..],
        &["mkpart", "extended", "4MiB", "100%", "mkpart", "logical", "5MiB", "8MiB"],
        &["mkpart", "logical", "9MiB", "10MiB", "mkpart", "logical", "11MiB", "100%"],
        &["rm", "6", "mkpart", "logical", "8500KiB", "9MiB", "set", "1", "boot", "on"],
    ];
    image.tool("parted", &parts.concat());
    let table = image.agrees(None);
    assert_eq!((table.partitions.len(), table.warnings.len()), (5, 0), "{:?}", table.warnings);
}

#[test]
fn sectors_of_4096_bytes_have_to_be_told() {
    if !have(&["fdisk", "partx"]) {
        return;
    }
    let image = Image::empty(16 * MIB);
    let commands =
        "o\nn\np\n1\n256\n511\nn\ne\n2\n512\n2559\nn\nl\n768\n1023\nn\nl\n1280\n1535\nw\n";
    image.tool_with("fdisk", &["-b", "4096", "IMAGE"], commands);
    let table = image.agrees(Some(4096));
    assert_eq!(places(&table), "1: 2048+2048, 2: 4096+16384, 5: 6144+2048, 6: 10240+2048");
    assert_eq!((table.sector_size, table.warnings.len()), (4096, 0));
    assert_eq!(image.table().sector_size, 512);
    let error = checked(&image.bytes(), Some(1024)).unwrap_err();
    assert_eq!(error.to_string(), "expected logical sectors of 512 or 4096 bytes, found 1024");
}

#[test]
fn no_signature_no_uuids() {
    let mut image = mbr();
    image[440..444].fill(0);
    let table = checked(&image, None).unwrap().unwrap();
    assert_eq!(table.uuid, None);
    assert!(table.partitions.iter().all(|partition| partition.uuid.is_none()));
    let uuids: Vec<String> =
        layers(&table, &"/dev/sda".into(), "sda").into_iter().map(|layer| layer.uuid).collect();
    assert_eq!(uuids[0], "DMSIM-PART1-sda");
}

#[test]
fn a_chain_that_is_not_what_it_says_ends() {
    let warnings = |image: &[u8]| {
        let table = checked(image, None).unwrap().unwrap();
        (places(&table), table.warnings)
    };
    let sound = mbr();
    let all = "1: 8+8, 2: 32+200, 5: 34+16, 6: 98+16, 7: 162+16";
    assert_eq!(warnings(&sound), (all.to_owned(), vec![]));
    let chain = "the chain of logical partitions in partition 2";
    // Back to a link that was read: to itself, to the first, to the one before.
    for back in [128, 0, 64] {
        let mut image = sound.clone();
        entry(&mut image, 160, 1, 0x05, back, 20);
        let why = format!("{chain} comes back to sector {}, and ends there", 32 + back);
        assert_eq!(warnings(&image), (all.to_owned(), vec![why]));
    }
    let mut damaged = sound.clone();
    damaged[96 * 512 + 511] = 0;
    let why = format!("{chain} is damaged: sector 96 is no link of it, and it ends there");
    let rest = "1: 8+8, 2: 32+200, 5: 34+16";
    assert_eq!(warnings(&damaged), (rest.to_owned(), vec![why]));
    let mut far = sound.clone();
    entry(&mut far, 32, 1, 0x05, u32::MAX, u32::MAX);
    let why = format!(
        "{chain} goes on in sector 4294967327, past the end of the image: the rest is left out"
    );
    assert_eq!(warnings(&far), (rest.to_owned(), vec![why]));
    // Logical partitions outside the extended one, and past the end.
    let mut outside = sound.clone();
    entry(&mut outside, 160, 0, 0x83, 80, 12);
    let (found, told) = warnings(&outside);
    assert!(found.ends_with("7: 240+12"), "{found}");
    assert_eq!(told, ["partition 7 is a logical one, and lies outside the extended"]);
    entry(&mut outside, 160, 0, 0x83, u32::MAX, u32::MAX);
    assert_eq!(
        warnings(&outside).1,
        [
            "partition 7 lies past the end of the image, which has 256 sectors: it begins at 4294967455, and is \
          left out"
        ]
    );
}

#[test]
fn a_chain_has_bounds() {
    // As many links as there is room for: with a partition in each, and with none.
    for (used, why) in [
        (1, "there are more than 255 partitions: the rest is left out"),
        (
            0,
            "the chain of logical partitions in partition 1 has more than 512 links: the rest is left out",
        ),
    ] {
        let mut image = vec![0; 4096 * 512];
        entry(&mut image, 0, 0, 0x05, 1, 4095);
        for link in 0..2000 {
            entry(&mut image, 1 + 2 * link, 0, 0x83, 1, used);
            entry(&mut image, 1 + 2 * link, 1, 0x05, 2 * link as u32 + 2, 2);
        }
        let table = checked(&image, None).unwrap().unwrap();
        assert_eq!(table.warnings, [why]);
        let logical = if used == 1 { 251 } else { 0 };
        assert_eq!(table.partitions.len(), 1 + logical);
    }
}

#[test]
fn entries_that_make_no_sense_are_told_of() {
    let mut image = vec![0; 256 * 512];
    entry(&mut image, 0, 0, 0x83, 16, 64);
    entry(&mut image, 0, 1, 0x83, 40, 400);
    entry(&mut image, 0, 2, 0x83, 0, 0);
    entry(&mut image, 0, 3, 0x83, 5000, 8);
    let table = checked(&image, None).unwrap().unwrap();
    assert_eq!(places(&table), "1: 16+64, 2: 40+216");
    assert_eq!(
        table.warnings,
        [
            "partition 2 reaches past the end of the image, which has 256 sectors: it is cut from 400 to 216",
            "partition 3 is empty: it is left out",
            "partition 4 lies past the end of the image, which has 256 sectors: it begins at 5000, and is left \
             out",
            "partitions 1 and 2 overlap",
        ]
    );
    // Over the extended partition, not within it.
    let mut image = mbr();
    entry(&mut image, 0, 2, 0x83, 220, 30);
    let table = checked(&image, None).unwrap().unwrap();
    assert_eq!(table.warnings, ["partitions 2 and 3 overlap"]);
}

#[test]
fn layers_are_named_as_the_kernel_names_partitions() {
    let table = checked(&mbr(), None).unwrap().unwrap();
    let made = |base: &str| {
        let line = |layer: recognise::Layer| {
            let line = &layer.lines[0];
            let Sectors(len) = line.len;
            format!("{} {}: 0 {len} {} {}", layer.name, layer.uuid, line.target_type, line.params)
        };
        layers(&table, &"/dev/sda".into(), base).into_iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        made("disk"),
        [
            "disk1 DMSIM-PART1-disk: 0 8 linear /dev/sda 8",
            "disk5 DMSIM-PART5-disk: 0 16 linear /dev/sda 34",
            "disk6 DMSIM-PART6-disk: 0 16 linear /dev/sda 98",
            "disk7 DMSIM-PART7-disk: 0 16 linear /dev/sda 162",
        ]
    );
    assert!(made("disk1")[1].starts_with("disk1p5 DMSIM-PART5-disk1:"));
}

#[test]
fn partitions_of_a_disk_as_large_as_any_are_where_they_are() {
    // 2 TiB and more: 32 bits are not enough for start and length together.
    let mut image = vec![0; 512];
    entry(&mut image, 0, 0, 0x83, u32::MAX, u32::MAX);
    let table = checked_of_len(&image, 1 << 50, None).unwrap().unwrap();
    assert_eq!(places(&table), "1: 4294967295+4294967295");
}
