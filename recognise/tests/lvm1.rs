//! Volume groups of LVM1, written here by the documented layout, become what they were.

#![allow(clippy::unwrap_used, reason = "it is a test, its helpers too")]

use proptest::prelude::*;
use recognise::Error;
use recognise::volumes::lvm1::{self, Member};
use recognise::volumes::{Area, Group, Mapping};

/// Sectors of an extent, and how many there are.
const EXTENT: u32 = 64;
const EXTENTS: usize = 20;

const UUIDS: usize = 8192;
const LVS: usize = UUIDS + 256 * 128;
const MAP: usize = (LVS + 256 * 328).next_multiple_of(4096);
const FIRST: u32 = 512;

struct Lv {
    name: &'static str,
    access: u32,
    extents: u32,
    stripes: u32,
    chunk: u32,
}

const LINEAR: Lv = Lv { name: "/dev/old/root", access: 3, extents: 6, stripes: 1, chunk: 0 };
const STRIPED: Lv = Lv { name: "/dev/old/fast", access: 1, extents: 6, stripes: 2, chunk: 32 };
const SNAPSHOT: Lv = Lv { name: "/dev/old/snap", access: 7, extents: 2, stripes: 1, chunk: 0 };

/// A PV of a group: its number from 1, of how many, the LVs, and for its extents LV (from 1) and LE.
fn pv(version: u16, number: usize, of: usize, lvs: &[Lv], map: &[(u16, u16)]) -> Vec<u8> {
    let mut image = vec![0; (FIRST as usize + EXTENTS * EXTENT as usize) * 512];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"HM");
    put(2, &version.to_le_bytes());
    let map_len = match version {
        1 => FIRST as usize * 512 - MAP,
        _ => EXTENTS * 4,
    };
    let areas = [(0, 1024), (4096, 4096), (UUIDS, 256 * 128), (LVS, 256 * 328), (MAP, map_len)];
    for (index, (base, size)) in areas.into_iter().enumerate() {
        put(4 + 8 * index, &(base as u32).to_le_bytes());
        put(8 + 8 * index, &(size as u32).to_le_bytes());
    }
    put(44, uuid(number).as_bytes());
    put(172, b"old");
    let words = [
        (432, number as u32),
        (444, EXTENT * EXTENTS as u32),
        (452, EXTENT),
        (456, EXTENTS as u32),
    ];
    for (at, word) in words {
        put(at, &word.to_le_bytes());
    }
    if version == 2 {
        put(464, &FIRST.to_le_bytes());
    }
    put(4096, b"GROUPGROUPGROUPGROUPGROUPGROUP00");
    let vg = [
        (132, 3),
        (136, 5),
        (140, 256),
        (144, lvs.len() as u32),
        (152, 256),
        (156, of as u32),
        (172, EXTENT),
    ];
    for (at, word) in vg {
        put(4096 + at, &u32::to_le_bytes(word));
    }
    for index in 0..of {
        put(UUIDS + 128 * index, uuid(index + 1).as_bytes());
    }
    for (index, lv) in lvs.iter().enumerate() {
        let at = LVS + 328 * index;
        put(at, lv.name.as_bytes());
        put(at + 128, b"old");
        let words = [(256, lv.access), (272, index as u32), (288, lv.extents * EXTENT)];
        let more = [(300, lv.extents), (304, lv.stripes), (308, lv.chunk)];
        for (offset, word) in words.into_iter().chain(more) {
            put(at + offset, &word.to_le_bytes());
        }
    }
    for (index, (lv, le)) in map.iter().enumerate() {
        put(MAP + 4 * index, &lv.to_le_bytes());
        put(MAP + 4 * index + 2, &le.to_le_bytes());
    }
    image
}

fn uuid(number: usize) -> String {
    format!("{number}").repeat(32)
}

const FREE: (u16, u16) = (0, 0);

/// Two PVs: `root` on both, turned round; `fast` over both; a snapshot.
fn group(version: u16) -> [Vec<u8>; 2] {
    let lvs = [LINEAR, STRIPED, SNAPSHOT];
    let one = [(1, 4), (1, 5), FREE, (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)];
    let two = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 3), FREE, (2, 4), (2, 5)];
    [pv(version, 1, 2, &lvs, &one), pv(version, 2, 2, &lvs, &two)]
}

fn assembled(images: &[Vec<u8>]) -> Result<Group, Error> {
    let members: Result<Vec<Member>, Error> =
        images.iter().map(|image| lvm1::read(image)).collect();
    lvm1::assemble(&members?)
}

fn shown(group: &Group, name: &str) -> Vec<String> {
    let volume = group.logical.iter().find(|volume| volume.name == name).unwrap();
    let area = |area: &Area| match area {
        Area::Physical { volume, extent } => format!("{volume}:{extent}"),
        Area::Logical { .. } => panic!("LVM1 has no such"),
    };
    let segment = |segment: &recognise::volumes::Segment| {
        let mapping = match &segment.mapping {
            Mapping::Striped { chunk, areas } => {
                format!("{chunk} {}", areas.iter().map(area).collect::<Vec<_>>().join(" "))
            }
            Mapping::Error => "error".to_owned(),
            Mapping::Other { name } => name.clone(),
            other => panic!("{other:?}"),
        };
        format!("{}+{} {mapping}", segment.start, segment.extents)
    };
    volume.segments.iter().map(segment).collect()
}

#[test]
fn a_group_of_either_version_is_put_together() {
    for version in [1, 2] {
        let images = group(version);
        assert!(lvm1::is_member(&images[0]).unwrap());
        let group = assembled(&images).unwrap();
        assert_eq!((group.name.as_str(), group.extent), ("old", u64::from(EXTENT)));
        assert_eq!(group.id, "GROUPG-ROUP-GROU-PGRO-UPGR-OUPG-ROUP00");
        assert_eq!(group.physical[1].id, "222222-2222-2222-2222-2222-2222-222222");
        assert_eq!((group.physical[0].first, group.physical[0].extents), (FIRST.into(), 20));
        assert_eq!(shown(&group, "root"), ["0+4 0 1:0", "4+2 0 0:0"]);
        assert_eq!(shown(&group, "fast"), ["0+2 32 0:3 1:4", "2+4 32 0:4 1:6"]);
        assert_eq!(shown(&group, "snap"), ["0+2 lvm1 snapshot"]);
        let writable: Vec<bool> = group.logical.iter().map(|volume| volume.writable).collect();
        assert_eq!(writable, [true, false, true]);
    }
}

#[test]
fn where_a_member_is_missing_there_is_an_error() {
    let [one, _] = group(2);
    let group = assembled(&[one]).unwrap();
    assert_eq!(group.physical.len(), 2);
    assert_eq!(group.physical[1].extents, 0);
    assert_eq!(shown(&group, "root"), ["0+4 error", "4+2 0 0:0"]);
    assert_eq!(shown(&group, "fast"), ["0+6 error"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let whole = group(2)[0].clone();
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = whole.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        assembled(&[image]).map(|_| ()).unwrap_err().to_string()
    };
    let last = FIRST as usize + EXTENTS * EXTENT as usize;
    assert!(changed(456, &[21, 0, 0, 0]).contains(&format!("within its {last} sectors")));
    assert!(changed(0, b"MH").contains("no physical volume of LVM1"));
    assert!(changed(2, &[3]).contains("no physical volume of LVM1"));
    assert!(changed(4096 + 156, &[1, 1]).contains("257 physical volumes"));
    assert!(changed(MAP, &[9, 0]).contains("extent 4 of logical volume 9, which has no such"));
    assert!(changed(MAP + 2, &[6, 0]).contains("extent 6 of logical volume 1, which has no such"));
    assert!(changed(MAP + 2, &[5, 0]).contains("extent 5 of logical volume 1 twice"));
    assert!(changed(36, &[0, 0, 0, 0x7f]).contains("map of extents"));
    assert!(changed(LVS + 304, &[5]).contains("5 stripes"));
    let twice = assembled(&[whole.clone(), whole.clone()]).unwrap_err().to_string();
    assert!(twice.contains("twice"), "{twice}");
}

proptest! {
    #[test]
    fn damage_never_panics_and_no_extent_is_outside(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut image = group(2)[0].clone();
        let places: Vec<usize> = (0..476).chain(4096..4284).chain(LVS..LVS + 984).chain(MAP..MAP + 80).collect();
        for (at, value) in changes {
            image[*at.get(&places)] = value;
        }
        image.truncate(cut.map_or(usize::MAX, |cut| cut.index(image.len())));
        if let Ok(member) = lvm1::read(&image)
            && let Ok(group) = lvm1::assemble(&[member])
        {
            for physical in &group.physical {
                let end = physical.first + physical.extents * group.extent;
                prop_assert!(physical.extents == 0 || end <= image.len() as u64 / 512);
            }
        }
    }
}
