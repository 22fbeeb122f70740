//! Volume groups as people have them, made by LVM2 itself, and those of LVM1 and EVMS, made by the facts of their
//! formats, down to what lies on them.

use std::path::{Path, PathBuf};

use super::{MIB, can_make_groups, empty, in_shell};
use crate::harness::{Instance, can_mount, has, read_at, sh, text, write_at};

/// Makes images and a device over each, `pv1` and so on.
fn images(instance: &Instance, count: usize, mib: u64) -> Vec<PathBuf> {
    let one = |nr: usize| {
        let path = instance.path(&format!("{nr}.img"));
        empty(&path, mib * MIB);
        let line = format!("0 {} linear {} 0", mib * 2048, text(&path));
        instance.create(&format!("pv{nr}"), &line);
        path
    };
    (1..=count).map(one).collect()
}

fn take_away(instance: &Instance, count: usize) {
    for nr in 1..=count {
        instance.dmsim(&["remove", &format!("pv{nr}")]);
    }
}

fn open(instance: &Instance, images: &[PathBuf]) -> String {
    let images: Vec<&str> = images.iter().map(|image| text(image)).collect();
    instance.dmsim(&[&["open", "--name", "all"][..], &images].concat())
}

#[test]
fn a_ring_that_has_wrapped_two_areas_an_alignment_and_names_with_hyphens() {
    if !can_make_groups() || !has(&["e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    let images = images(&instance, 3, 24);
    // Texts of four KiB and more, in a ring of sixty.
    let tag = "x".repeat(900);
    let script = format!(
        "exec 2>&1; lvm pvcreate -q -y --dataalignment 64k --metadatasize 60k /dev/mapper/pv1; \
         lvm pvcreate -q -y --metadatacopies 2 --metadatasize 60k /dev/mapper/pv2; \
         lvm pvcreate -q -y --metadatacopies 0 --dataalignment 3m /dev/mapper/pv3; \
         lvm vgcreate -q -s 512k a-b /dev/mapper/pv1 /dev/mapper/pv2 /dev/mapper/pv3; \
         for nr in 1 2 3 4 5 6 7 8 9 10 11 12; do lvm vgchange -q --addtag $nr-{tag} a-b; done; \
         for nr in 1 2 3; do lvm lvcreate -q -y -Zn -Wn -L 12m -n on-$nr a-b /dev/mapper/pv$nr; \
         mkfs.ext4 -q -L on-$nr /dev/a-b/on-$nr; done; lvm vgchange -q -an a-b"
    );
    in_shell(&instance, &script);
    take_away(&instance, 3);
    // The text that was committed last goes round the end, or those before it did.
    let header = read_at(&images[0], 4096, 64).expect("an area");
    let number =
        |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    assert!(number(48) > 10_000, "a long text: {}", number(48));
    let shown = open(&instance, &images);
    for nr in 1..=3 {
        let line = shown.lines().find(|line| line.contains(&format!("/a--b-on--{nr} ")));
        let line = line.unwrap_or_else(|| panic!("no on-{nr}: {shown}"));
        assert!(line.contains(" ext4 ") && line.ends_with(&format!("on-{nr}")), "{line}");
        sh("e2fsck", &["-fn", text(&instance.device(&format!("a--b-on--{nr}")))]);
    }
    instance.dmsim(&["close", "all"]);
}

/// A file of `vgcfgbackup`, with three hundred volumes more, one of them of forty segments.
fn many(backup: &str) -> String {
    let mut volumes = String::new();
    for nr in 0..300 {
        let segments = if nr == 7 { 40 } else { 1 };
        volumes += &format!(
            "lv{nr} {{ id = \"aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-{nr:06}\" status = [\"READ\", \"WRITE\", \
             \"VISIBLE\"] flags = [] segment_count = {segments}\n"
        );
        for segment in 0..segments {
            let (on, extent) = match segments {
                1 => (0, 1 + nr),
                // Back and forth, so that no two are neighbours.
                _ => (segment % 2, 400 + segment * 3),
            };
            volumes += &format!(
                "segment{} {{ start_extent = {segment} extent_count = 1 type = \"striped\" stripe_count = 1 \
                 stripes = [\"pv{on}\", {extent}] }}\n",
                segment + 1
            );
        }
        volumes += "}\n";
    }
    backup.replacen("logical_volumes {", &format!("logical_volumes {{\n{volumes}"), 1)
}

#[test]
fn three_hundred_volumes_and_one_of_forty_segments_are_opened_and_closed() {
    if !can_make_groups() {
        return;
    }
    let instance = Instance::start();
    let images = images(&instance, 2, 64);
    let file = instance.path("many.vg");
    in_shell(
        &instance,
        &format!(
            "exec 2>&1; lvm vgcreate -q -s 64k many /dev/mapper/pv1 /dev/mapper/pv2; \
             lvm lvcreate -q -y -an -Zn -Wn -l 1 -n first many /dev/mapper/pv1; \
             lvm vgcfgbackup -q -f {} many",
            text(&file)
        ),
    );
    let backup = std::fs::read_to_string(&file).expect("a backup");
    std::fs::write(&file, many(&backup)).expect("room for it");
    in_shell(&instance, &format!("exec 2>&1; lvm vgcfgrestore -q -f {} many", text(&file)));
    take_away(&instance, 2);
    let shown = open(&instance, &images);
    assert_eq!(shown.lines().count(), 301, "{shown}");
    let table = instance.dmsim(&["table", "many-lv7"]);
    assert_eq!(table.lines().count(), 40, "{table}");
    // What is written to a segment lies where the metadata say: the second one on the other image.
    let device = instance.device("many-lv7");
    write_at(&device, 64 << 10, &[7; 4096]).expect("room for it");
    instance.dmsim(&["close", "all"]);
    let line = table.lines().nth(1).expect("a segment");
    let start: u64 = line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a sector");
    assert_eq!(read_at(&images[1], start * 512, 4096).expect("a read"), [7; 4096]);
    assert_eq!(instance.dmsim(&["ls"]).trim(), "No devices found");
}

/// Makes a disk of LVM1: one volume of eight extents of 64 KiB, its second half first on the disk, and the free
/// rest. By `lvm.h` of LVM 1.0.8.
fn lvm1(path: &Path) {
    const EXTENT: u32 = 128;
    const FIRST: u32 = 512;
    const EXTENTS: u32 = 20;
    let map = (8192 + 256 * 128 + 256 * 328_usize).next_multiple_of(4096);
    empty(path, u64::from(FIRST + EXTENTS * EXTENT) * 512);
    let put = |at: usize, bytes: &[u8]| write_at(path, at as u64, bytes).expect("room for it");
    let words = |base: usize, words: &[(usize, u32)]| {
        words.iter().for_each(|(at, word)| put(base + at, &word.to_le_bytes()));
    };
    put(0, b"HM\x02\0");
    let areas =
        [(0, 1024), (4096, 4096), (8192, 256 * 128), (8192 + 256 * 128, 256 * 328), (map, 80)];
    for (nr, (base, len)) in areas.into_iter().enumerate() {
        words(4 + 8 * nr, &[(0, base as u32), (4, len)]);
    }
    put(44, &[b'1'; 32]);
    put(172, b"old");
    words(0, &[(432, 1), (444, EXTENT * EXTENTS), (452, EXTENT), (456, EXTENTS), (464, FIRST)]);
    put(4096, b"GROUPGROUPGROUPGROUPGROUPGROUP00");
    words(4096, &[(132, 3), (136, 5), (140, 256), (144, 1), (152, 256), (156, 1), (172, EXTENT)]);
    put(8192, &[b'1'; 32]);
    let lv = 8192 + 256 * 128;
    put(lv, b"/dev/old/root");
    put(lv + 128, b"old");
    words(lv, &[(256, 3), (272, 0), (288, 8 * EXTENT), (300, 8), (304, 1), (308, 0)]);
    for (nr, extent) in [4, 5, 6, 7, 0, 1, 2, 3_u16].into_iter().enumerate() {
        put(map + 4 * nr, &1_u16.to_le_bytes());
        put(map + 4 * nr + 2, &extent.to_le_bytes());
    }
}

/// Makes the headers of an EVMS volume in the last two sectors of an image.
fn evms(path: &Path, name: &str) {
    let mut header = [0; 512];
    header[..4].copy_from_slice(b"FEAT");
    header[8] = 3;
    header[32..36].copy_from_slice(&2_u32.to_le_bytes());
    header[36..40].copy_from_slice(&(8112_u32 << 16 | 4 << 12).to_le_bytes());
    header[40] = 1;
    header[48] = 6;
    header[232..232 + name.len()].copy_from_slice(name.as_bytes());
    let step = |sum: u32, _| (sum >> 1) ^ if sum & 1 != 0 { 0xedb8_8320 } else { 0 };
    let sum = header.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step));
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    let len = std::fs::metadata(path).expect("a file").len();
    write_at(path, len - 1024, &header).expect("room for it");
    write_at(path, len - 512, &header).expect("room for it");
}

#[test]
fn groups_of_lvm1_and_volumes_of_evms_hold_file_systems() {
    if !can_mount() || !has(&["mkfs.ext4", "e2fsck"]) {
        return;
    }
    let instance = Instance::start();
    let [old, volume] = ["old.img", "volume.img"].map(|name| instance.path(name));
    lvm1(&old);
    empty(&volume, 8 * MIB);
    evms(&volume, "/dev/evms/home");
    for (image, typed, device, sectors) in
        [(&old, "old", "old-root", 1024), (&volume, "volume", "home", 16384 - 8)]
    {
        instance.dmsim(&["open", text(image)]);
        let file = instance.device(device);
        assert_eq!(std::fs::metadata(&file).expect("a device").len(), sectors * 512, "{device}");
        sh("mkfs.ext4", &["-q", "-F", "-L", "inside", text(&file)]);
        instance.dmsim(&["close", typed]);
        let shown = instance.dmsim(&["open", "--name", "again", text(image)]);
        assert!(shown.contains(device) || device == "home", "{shown}");
        assert!(shown.contains(" ext4 ") && shown.contains("inside"), "{shown}");
        let file = shown.split(' ').next().expect("a file");
        sh("e2fsck", &["-fn", file]);
        instance.dmsim(&["close", "again"]);
    }
    // The volume's first extents are the last ones on the disk.
    let superblock = read_at(&old, (512 + 4 * 128) * 512 + 1024 + 56, 2).expect("a read");
    assert_eq!(superblock, [0x53, 0xef]);
}
