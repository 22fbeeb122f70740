//! GPT.

use recognise::Error;
use recognise::partitions::{Format, MAX_NUMBER, Table};

use crate::support::{Image, MIB, checked, checked_of_len, gpt, have, places, seal};

const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

fn installed() -> Option<Image> {
    have(&["sgdisk", "sfdisk", "partx"]).then(|| {
        let image = Image::empty(16 * MIB);
        let words = [
            &["-n", "1:0:+1M", "-t", "1:ef00", "-c", "1:ESP é 🔑", "-A", "1:set:2"][..],
            &["-n", "2:0:+2M", "-t", "2:8200", "-c", "2:ein sehr langer Name, 36 Zeichen weit.."],
            &["-n", "7:0:+3M", "-t", "7:8e00", "-A", "7:set:0", "-A", "7:set:60", "IMAGE"],
        ];
        image.tool("sgdisk", &words.concat());
        image
    })
}

#[test]
fn partitions_of_every_kind_are_as_blkid_has_them() {
    let Some(image) = installed() else { return };
    let table = image.agrees(None);
    assert_eq!((table.format, table.sector_size, table.sectors.0), (Format::Gpt, 512, 32768));
    assert_eq!(table.warnings, [""; 0]);
    let json = serde_json::to_value(&table).unwrap();
    let sfdisk = image.tool("sfdisk", &["--json", "IMAGE"]);
    let sfdisk: serde_json::Value = serde_json::from_str(&sfdisk).unwrap();
    let sfdisk = &sfdisk["partitiontable"];
    let lower = |value: &serde_json::Value| value.as_str().unwrap().to_lowercase();
    assert_eq!(json["uuid"], lower(&sfdisk["id"]));
    let theirs = sfdisk["partitions"].as_array().unwrap();
    assert_eq!(json["partitions"].as_array().unwrap().len(), theirs.len());
    for (one, other) in json["partitions"].as_array().unwrap().iter().zip(theirs) {
        assert_eq!(one["label"], other["name"]);
        assert_eq!(one["type"], lower(&other["type"]));
        assert_eq!(one["uuid"], lower(&other["uuid"]));
        assert_eq!(one["start"], other["start"]);
        assert_eq!(one["size_bytes"], other["size"].as_u64().unwrap() * 512);
    }
    assert_eq!(json["partitions"][0]["type"], ESP);
    assert_eq!(json["partitions"][0]["type_name"], "EFI System");
    assert_eq!(json["partitions"][0]["bootable"], true);
    let attributes = &json["partitions"][2]["attributes"];
    assert_eq!(*attributes, serde_json::json!(["RequiredPartition", "60"]));
    assert_eq!(theirs[2]["attrs"], "RequiredPartition GUID:60");
    let text = table.to_string();
    assert!(text.starts_with("GPT, 16M, 32768 sectors of 512 bytes, "), "{text}");
    let rows: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(rows[0], "#  Boot  Start    End  Sectors  Size  Type        Name");
    assert_eq!(rows[1], "1  *      2048   4095     2048    1M  EFI System  ESP é 🔑");
    assert_eq!(rows[3], "7         8192  14335     6144    3M  Linux LVM");
}

#[test]
fn tables_of_parted_are_read() {
    if !have(&["parted", "partx"]) {
        return;
    }
    let image = Image::empty(16 * MIB);
    let parts = ["mkpart", "one", "fat32", "1MiB", "4MiB", "mkpart", "two", "ext4", "4MiB", "100%"];
    let words = [&["-s", "IMAGE", "mklabel", "gpt"], &parts[..], &["set", "1", "esp", "on"]];
    image.tool("parted", &words.concat());
    let table = image.agrees(None);
    assert_eq!((places(&table), table.warnings.len()), ("1: 2048+6144, 2: 8192+24543".into(), 0));
}

#[test]
fn tables_of_any_length_are_read() {
    if !have(&["sfdisk", "partx"]) {
        return;
    }
    for (slots, used) in [(128, 128), (200, 200), (300, 300)] {
        let mut script = format!("label: gpt\ntable-length: {slots}\nfirst-lba: 200\n");
        for number in 0..used {
            script += &format!("start={},size=8,name=n{number}\n", 200 + number * 8);
        }
        let image = Image::sfdisk(4 * MIB, &script);
        if used <= MAX_NUMBER {
            let table = image.agrees(None);
            assert_eq!(table.partitions.len(), used as usize);
            assert_eq!(table.warnings, [""; 0]);
        } else {
            let table = image.table();
            assert_eq!(table.partitions.len(), MAX_NUMBER as usize);
            assert_eq!(
                table.warnings,
                ["45 partitions have a number above 255: they are left out"]
            );
        }
    }
}

#[test]
fn sectors_of_4096_bytes_are_told_by_where_the_header_lies() {
    if !have(&["fdisk", "partx"]) {
        return;
    }
    let image = Image::empty(16 * MIB);
    let commands = "g\nn\n1\n256\n511\nn\n2\n512\n1023\nn\n3\n1024\n\nt\n1\nuefi\nw\n";
    image.tool_with("fdisk", &["-b", "4096", "IMAGE"], commands);
    let table = image.agrees(None);
    assert_eq!((table.sector_size, table.partitions.len()), (4096, 3));
    assert_eq!((table.partitions[0].start.0, table.partitions[0].sectors.0), (2048, 2048));
    assert_eq!(table, image.agrees(Some(4096)));
    assert!(table.to_string().contains(", logical sectors of 4096 bytes, "));
    // As if the disk were known to have sectors of 512 bytes.
    let error = checked(&image.bytes(), Some(512)).unwrap_err();
    assert!(matches!(error, Error::DamagedHeader { .. }), "{error}");
    // The backup is found in the last sector of that size, too.
    image.write(4096, &[0; 4096]);
    let again = image.agrees(None);
    assert_eq!((again.partitions, again.sector_size), (table.partitions, 4096));
    assert_eq!(again.warnings.len(), 1, "{:?}", again.warnings);
}

/// Damages a copy, and returns the warnings; the table must be the same.
fn damaged(image: &Image, sound: &Table, offset: u64) -> Vec<String> {
    let mut bytes = image.bytes();
    let at = offset as usize;
    bytes[at] ^= 0x10;
    let table = checked(&bytes, None).unwrap().expect("a table");
    assert_eq!(table.partitions, sound.partitions);
    assert_eq!(table.uuid, sound.uuid);
    // libblkid does the same.
    image.write(offset, &bytes[at..=at]);
    image.agrees(None);
    image.write(offset, &[bytes[at] ^ 0x10]);
    table.warnings
}

#[test]
fn either_copy_is_enough() {
    let Some(image) = installed() else { return };
    let sound = image.agrees(None);
    let last = 16 * MIB - 512;
    for (offset, expected) in [
        (512, "the GPT in sector 1 is not there: its backup, in sector 32767, counts"),
        (512 + 60, "the GPT in sector 1 is damaged (checksum of the header: "),
        (512 + 12, "the GPT in sector 1 is damaged (header of 76 bytes, expected 92): its backup"),
        (1024 + 40, "the GPT in sector 1 is damaged (checksum of the array of entries: "),
        (last, "the backup of the GPT, in sector 32767, is not there"),
        (last + 20, "the backup of the GPT, in sector 32767, is damaged (checksum of the header: "),
        (
            last - 32 * 512,
            "the backup of the GPT, in sector 32767, is damaged (checksum of the array",
        ),
    ] {
        let warnings = damaged(&image, &sound, offset);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(expected), "{warnings:?}");
    }
    for (one, other) in [(512, last), (1024, last), (512, last - 32 * 512), (1024 + 40, last + 20)]
    {
        let mut bytes = image.bytes();
        bytes[one] ^= 1;
        bytes[other as usize] ^= 1;
        let error = checked(&bytes, None).unwrap_err();
        assert!(matches!(error, Error::DamagedHeader { .. }), "{error}");
    }
}

#[test]
fn copies_that_differ_are_told_of() {
    let mut image = gpt(512, 128, &[(10, 19), (20, 29)]);
    let other = image.len() - 2 * 512 + 128;
    image[other + 48] = 1;
    seal(&mut image, 512, 127);
    let table = checked(&image, None).unwrap().unwrap();
    assert_eq!(table.warnings, ["the backup of the GPT, in sector 127, differs: the first counts"]);
    assert_eq!(table.partitions[1].attributes, 0);
    // Without the first, it is the table.
    image[512] = 0;
    let table = checked(&image, None).unwrap().unwrap();
    assert_eq!(table.partitions[1].attributes, 1);
}

#[test]
fn a_hybrid_mbr_does_not_count() {
    let Some(image) = installed() else { return };
    let before = image.table();
    image.tool("sgdisk", &["-h", "1:2", "IMAGE"]);
    let table = image.agrees(None);
    assert_eq!(table.partitions, before.partitions);
    assert_eq!(table.warnings, ["a hybrid MBR with 2 partitions of its own: the GPT counts"]);
}

#[test]
fn without_its_protective_mbr_the_first_copy_is_needed() {
    let sound = gpt(512, 128, &[(10, 19)]);
    let warnings = |image: &[u8]| checked(image, None).unwrap().map(|table| table.warnings);
    assert_eq!(warnings(&sound), Some(vec![]));
    let overwritten = "the protective MBR is damaged, or was overwritten: the GPT counts";
    let mut none = sound.clone();
    none[..512].fill(0);
    assert_eq!(warnings(&none), Some(vec![overwritten.to_owned()]));
    let mut noise = sound.clone();
    noise[446..510].fill(0x5a);
    assert_eq!(warnings(&noise), Some(vec![overwritten.to_owned()]));
    // The type of its entry alone.
    let mut kind = sound.clone();
    kind[450] = 0x07;
    let why = "the entry of the protective MBR is not of type 0xee: the GPT counts";
    assert_eq!(warnings(&kind), Some(vec![why.to_owned()]));
    let mut start = sound.clone();
    start[454] = 2;
    let why = "the protective MBR is damaged: its entry does not begin in sector 1";
    assert_eq!(warnings(&start), Some(vec![why.to_owned()]));
    // With the array damaged, its backup still is.
    let mut array = none.clone();
    array[1024] ^= 1;
    assert_eq!(checked(&array, None).unwrap().map(|table| places(&table)), Some("1: 10+10".into()));
    // What is left at the end when a file system was made over the disk is no table.
    let mut made_over = none.clone();
    made_over[512..1024].fill(0);
    assert_eq!(warnings(&made_over), None);
}

#[test]
fn an_mbr_without_a_protective_entry_counts_more() {
    let mut image = gpt(512, 128, &[(10, 19)]);
    image[446..462].fill(0);
    crate::support::entry(&mut image, 0, 0, 0x83, 40, 20);
    let table = checked(&image, None).unwrap().unwrap();
    assert_eq!((table.format, places(&table)), (Format::Mbr, "1: 40+20".into()));
    assert!(table.warnings[0].ends_with("the MBR counts, as for Linux"), "{:?}", table.warnings);
}

#[test]
fn an_image_that_was_cut_short_has_what_is_left() {
    let Some(image) = installed() else { return };
    let (bytes, sound) = (image.bytes(), image.table());
    let ends = [34, 35, 100, 2048, 2049, 4095, 4096, 5000, 8192, 14335, 14336, 32767];
    for end in ends.into_iter().chain((0..33).map(|step| 34 + step * 997)) {
        for more in [0, 1, 511] {
            let len = end * 512 + more;
            let Some(cut) = bytes.get(..len) else { continue };
            let table = checked(cut, None).unwrap().expect("a table");
            let fit = sound.partitions.iter().filter(|part| part.start.0 < end as u64);
            let expected: Vec<_> =
                fit.map(|part| (part.number, part.end().0.min(end as u64))).collect();
            let found: Vec<_> =
                table.partitions.iter().map(|part| (part.number, part.end().0)).collect();
            assert_eq!(found, expected, "cut at {len}");
            let why = format!(
                "the backup of the GPT would lie in sector 32767, past the end of the image, which has {end} \
                 sectors: it was cut short"
            );
            assert_eq!(table.warnings[0], why);
            let changed = sound.partitions.iter().filter(|part| part.end().0 > end as u64).count();
            assert_eq!(table.warnings.len(), 1 + changed, "{:?}", table.warnings);
        }
    }
    for len in [0, 1, 511, 512, 1023, 1024, 1536, 33 * 512] {
        let found = checked(&bytes[..len], None);
        assert!(matches!(found, Ok(None) | Err(Error::DamagedHeader { .. })), "{len}: {found:?}");
    }
}

#[test]
fn what_follows_a_disk_does_not_hide_its_backup() {
    let sound = gpt(512, 128, &[(10, 19)]);
    for more in [1, 512, 4096, 100_000] {
        let mut longer = sound.clone();
        longer.resize(sound.len() + more, 0xa5);
        let grown = "the backup of the GPT lies in sector 127, and the image has ";
        let told = checked(&longer, None).unwrap().unwrap().warnings;
        assert_eq!(
            told.iter().filter(|why| why.starts_with(grown)).count(),
            usize::from(more > 511)
        );
        // Where the first copy does not say where it is, the MBR does.
        longer[512..1024].fill(0);
        let table = checked(&longer, None).unwrap().expect("a table");
        assert_eq!(places(&table), "1: 10+10", "{:?}", table.warnings);
    }
}

#[test]
fn entries_that_make_no_sense_are_told_of() {
    let spans =
        [(10, 9), (10, 8), (20, 39), (30, 49), (3, 5), (200, 210), (45, u64::MAX), (64, 400)];
    let table = checked(&gpt(512, 128, &spans), None).unwrap().unwrap();
    assert_eq!(places(&table), "3: 20+20, 4: 30+20, 5: 3+3, 7: 45+83, 8: 64+64");
    let outside = [5, 6, 7, 8].map(|number| {
        format!(
            "partition {number} lies outside the sectors 4 to 124 that the GPT has for partitions"
        )
    });
    let (first, rest) = table.warnings.split_at(4);
    assert_eq!(first, outside);
    let end = "past the end of the image, which has 128 sectors: it";
    assert_eq!(
        rest,
        [
            "partition 1 is empty: it is left out".to_owned(),
            "partition 2 is empty: it is left out".to_owned(),
            format!("partition 6 lies {end} begins at 200, and is left out"),
            format!("partition 7 reaches {end} is cut from {} to 83", u64::MAX - 45),
            format!("partition 8 reaches {end} is cut from 337 to 64"),
            "partitions 3 and 4 overlap".to_owned(),
            "partitions 4 and 7 overlap".to_owned(),
            "partitions 7 and 8 overlap".to_owned(),
        ]
    );
}

/// Changes a number of both headers, makes the checksums right, and returns why that is refused.
fn refused(change: impl Fn(&mut [u8])) -> String {
    let mut image = gpt(512, 128, &[(10, 19)]);
    for at in [1, 127] {
        change(&mut image[at * 512..][..92]);
        seal(&mut image, 512, at as u64);
    }
    // Long enough for arrays that are longer than any.
    match checked_of_len(&image, 64 * MIB, None) {
        Err(error) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn more_than_the_limits_is_refused() {
    let count =
        |count: u32| move |header: &mut [u8]| header[80..84].copy_from_slice(&count.to_le_bytes());
    let size =
        |size: u32| move |header: &mut [u8]| header[84..88].copy_from_slice(&size.to_le_bytes());
    let at = |at: u64| move |header: &mut [u8]| header[72..80].copy_from_slice(&at.to_le_bytes());
    // The limit is 8192 of 128 bytes: there, the checksum is what is wrong.
    assert!(refused(count(8193)).contains("8193 entries of 128 bytes, more than 1048576 bytes"));
    assert!(refused(count(8192)).contains("checksum of the array"));
    assert!(refused(count(u32::MAX)).contains("4294967295 entries of 128 bytes, more than"));
    for wrong in [0, 1, 64, 127, 129, 192, 8192, u32::MAX] {
        let why = refused(size(wrong));
        assert!(why.contains(&format!("entries of {wrong} bytes, expected 128")), "{why}");
    }
    for wrong in [u64::MAX, u64::MAX / 512, 131_072] {
        let why = refused(at(wrong));
        assert!(why.contains("the array of entries would lie past the end of the image"), "{why}");
    }
    let why = refused(|header| header[24] ^= 3);
    assert!(why.contains("the header says that it lies in LBA 2"), "{why}");
}

#[test]
fn entries_may_be_longer() {
    let mut image = gpt(512, 128, &[(10, 19), (0, 0), (20, 29)]);
    for at in [1usize, 127] {
        image[at * 512 + 80..at * 512 + 88].copy_from_slice(&[2, 0, 0, 0, 0, 1, 0, 0]);
        seal(&mut image, 512, at as u64);
    }
    let table = checked(&image, None).unwrap().unwrap();
    assert_eq!(places(&table), "1: 10+10, 2: 20+10");
}
