//! The fuzz target for whole images: what is found on one becomes devices, what these hold is looked at next,
//! and so on, as `dmsim open` does it; here over bytes in memory.

mod stack;

use crate::bytes::Bytes;
use stack::Stack;

/// Where the metadata area of a physical volume begins, and how long it is.
const AREA: usize = 4096;
const AREA_LEN: usize = 128 << 10;

/// The length of a physical volume.
const VOLUME: usize = 1 << 20;

/// Where the partition begins.
const PARTITION: usize = 64 * 512;

/// Opens a whole image. The first byte says what those behind the next three are: the image's first bytes, the
/// text of LVM2's metadata on a physical volume whose checksums are right, or one of both in a
/// partition. The second says where in its ring the text begins, the third how much of the image is cut off, and
/// the fourth whether it is opened read-only.
///
/// # Panics
/// When a reader or planner does, reads more than it says, or plans a table that leaves what it lies on.
pub fn whole(data: &[u8]) {
    let _names = devices(data);
}

/// As [`whole`]; returns the names of the devices that were made.
pub fn devices(data: &[u8]) -> Vec<String> {
    let (image, read_only) = image(data);
    opened(vec![image], read_only)
}

/// Returns the image that an input stands for, and whether it is opened read-only.
pub fn image(data: &[u8]) -> (Vec<u8>, bool) {
    let mut bytes = Bytes::new(data);
    let (kind, at, cut) = (bytes.below(4), bytes.byte(), bytes.byte());
    let read_only = bytes.byte() & 1 == 1;
    let rest = bytes.rest();
    let held = if kind & 1 == 0 { raw(rest) } else { volume(rest, at) };
    let mut image = if kind & 2 == 0 { held } else { partition(held) };
    let kept = image.len() - image.len() / 255 * usize::from(cut);
    image.truncate(kept);
    (image, read_only)
}

/// Opens images as they are, all together, to the last layer; returns the names of the devices that were made.
///
/// # Panics
/// As [`whole`].
pub fn opened(images: Vec<Vec<u8>>, read_only: bool) -> Vec<String> {
    Stack::open(images, read_only)
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    let mut image = bytes[..bytes.len().min(VOLUME)].to_vec();
    image.resize(VOLUME, 0);
    image
}

/// Makes a physical volume of LVM2 whose metadata is this text. It has the id that the text has first, so that it
/// is one of the group's.
fn volume(text: &[u8], at: u8) -> Vec<u8> {
    let mut image = vec![0; VOLUME];
    let text = &text[..text.len().min(AREA_LEN / 2)];
    put(&mut image, 512, b"LABELONE\x01\0\0\0\0\0\0\0");
    put(&mut image, 512 + 20, b"\x20\0\0\0LVM2 001");
    put(&mut image, 512 + 32, &own_id(text));
    put(&mut image, 512 + 64, &(VOLUME as u64).to_le_bytes());
    // One data area, then one of metadata; each list ends with zeros.
    let pairs = [(256 << 10, 0), (0, 0), (AREA as u64, AREA_LEN as u64)];
    for (nr, (offset, len)) in pairs.into_iter().enumerate() {
        put(&mut image, 512 + 72 + 16 * nr, &u64::to_le_bytes(offset));
        put(&mut image, 512 + 80 + 16 * nr, &u64::to_le_bytes(len));
    }
    let sum = checksum(&image[512 + 20..1024]);
    put(&mut image, 512 + 16, &sum);
    // What does not fit before the end goes on behind the header.
    let at = 512 + usize::from(at) * (AREA_LEN - 1024) / 255;
    let first = text.len().min(AREA_LEN - at);
    put(&mut image, AREA + at, &text[..first]);
    put(&mut image, AREA + 512, &text[first..]);
    let mut header = [0; 512];
    put(&mut header, 4, b" LVM2 x[5A%r0N*>\x01\0\0\0");
    for (nr, number) in [AREA, AREA_LEN, at, text.len()].into_iter().enumerate() {
        put(&mut header, 24 + 8 * nr, &(number as u64).to_le_bytes());
    }
    put(&mut header, 56, &checksum(text));
    let sum = checksum(&header[4..]);
    put(&mut header, 0, &sum);
    put(&mut image, AREA, &header);
    image
}

/// Returns the id of the first physical volume in a text, without hyphens.
fn own_id(text: &[u8]) -> Vec<u8> {
    let after = |text: &[u8], word: &[u8]| {
        text.windows(word.len()).position(|it| it == word).map(|at| at + word.len())
    };
    let of = || {
        let volumes = &text[after(text, b"physical_volumes")?..];
        let id = &volumes[after(volumes, b"id = \"")?..];
        let id: Vec<u8> = id.iter().copied().filter(|byte| *byte != b'-').take(32).collect();
        (id.len() == 32).then_some(id)
    };
    of().unwrap_or_else(|| vec![b'a'; 32])
}

/// Puts an image into the one partition of an MBR.
fn partition(held: Vec<u8>) -> Vec<u8> {
    let mut disk = vec![0; PARTITION];
    put(&mut disk, 446, &[0, 0, 0, 0, 0x8e]);
    put(&mut disk, 454, &(PARTITION as u32 / 512).to_le_bytes());
    put(&mut disk, 458, &(held.len() as u32 / 512).to_le_bytes());
    put(&mut disk, 510, &[0x55, 0xaa]);
    disk.extend(held);
    disk
}

/// Writes bytes, as far as there is room.
fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    let room = to.len().saturating_sub(at).min(bytes.len());
    to[at..at + room].copy_from_slice(&bytes[..room]);
}

/// LVM2's checksum: CRC-32 with another initial value, and without the inversion at the end.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
    hasher.update(bytes);
    (!hasher.finalize()).to_le_bytes()
}
