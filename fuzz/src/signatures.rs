//! The fuzz target for what is recognised by its bytes alone: signatures, images that are not raw,
//! volume groups of LVM1, headers of EVMS.

use std::cell::Cell;
use std::io;

use recognise::Source;
use recognise::volumes::{Area, Group, Mapping, lvm1};
use recognise::{evms, images, signatures};

use crate::bytes::Bytes;

/// What the image holds beyond what is given: zeros, up to this many bytes.
const SIZE: u64 = 80 << 20;

/// The most that may be read of it, for all four.
const MOST_READ: u64 = 12 << 20;

/// Where the superblocks lie that are not at the beginning.
const PLACES: [u64; 8] = [0, 1024, 4096, 8 << 10, 32 << 10, 64 << 10, 256 << 10, 16 << 10];

struct Image {
    start: u64,
    bytes: Vec<u8>,
    len: u64,
    read: Cell<u64>,
}

/// Reads an image in all four ways. The first byte says where in it the others are: at one of the places
/// where superblocks lie, or at the end; or that they are all of it.
///
/// # Panics
/// When a reader does, reads more than any needs, or gives what lies outside the image.
pub fn signatures(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let place = bytes.below(PLACES.len() + 3);
    let given = bytes.rest().to_vec();
    let all = given.len() as u64;
    let (start, len) = match PLACES.get(place) {
        Some(start) => (*start, SIZE),
        None if place == PLACES.len() => (SIZE - all.min(SIZE), SIZE),
        None => (0, all),
    };
    let given = if place == PLACES.len() + 2 { evms_object(given) } else { given };
    let len = if place == PLACES.len() + 2 { given.len() as u64 } else { len };
    let image = Image { start, bytes: given, len, read: Cell::new(0) };
    if let Ok(Some(found)) = signatures::read(&image) {
        let shown = found.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        serde_json::to_string(&found).expect("a signature is JSON");
    }
    if let Ok(Some(format)) = images::format(&image) {
        let _ = format.of_file("a file").to_string();
    }
    if let Ok(Some(header)) = evms::read(&image) {
        assert!(header.linear().is_none_or(|len| len < image.len / 512), "a volume past the end");
        let _ = header.to_string();
    }
    if let Ok(member) = lvm1::read(&image)
        && let Ok(group) = lvm1::assemble(&[member])
    {
        check(&group, image.len / 512);
    }
    assert!(image.read.get() < MOST_READ, "{} bytes read", image.read.get());
}

/// Makes the checksum of a header right, which is the last sector of what is given.
fn evms_object(mut given: Vec<u8>) -> Vec<u8> {
    given.resize(given.len().max(1024).next_multiple_of(512), 0);
    let start = given.len() - 512;
    let header = &mut given[start..];
    header[..4].copy_from_slice(b"FEAT");
    header[4..8].fill(0);
    let sum = !crc32fast::hash(header);
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    given
}

fn check(group: &Group, sectors: u64) {
    for physical in &group.physical {
        let end = physical.first + physical.extents * group.extent;
        assert!(physical.extents == 0 || end <= sectors, "extents past the end");
    }
    for volume in &group.logical {
        let mut next = 0;
        for segment in &volume.segments {
            assert_eq!(segment.start, next, "a gap between segments");
            next += segment.extents;
            let Mapping::Striped { areas, .. } = &segment.mapping else { continue };
            for area in areas {
                let Area::Physical { volume, extent } = area else { panic!("{area:?}") };
                let end = extent + segment.extents / areas.len() as u64;
                assert!(end <= group.physical[*volume].extents, "an area past the end");
            }
        }
    }
}

impl Source for Image {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read.set(self.read.get() + into.len() as u64);
        into.fill(0);
        let (from, to) = (offset.max(self.start), end.min(self.start + self.bytes.len() as u64));
        if from < to {
            let piece = &self.bytes[(from - self.start) as usize..(to - self.start) as usize];
            into[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
        }
        Ok(())
    }
}
