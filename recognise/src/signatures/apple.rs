//! HFS, HFS+ and APFS.

use crypto::hash::Hash;

use super::{Found, Window, text};
use crate::bytes::{be16, be32, le16, le32, le64};

/// Apple makes a uuid of the eight bytes that a volume has, by MD5 with this before them.
const NAMESPACE: [u8; 16] = *b"\xb3\xe2\x0f\x39\xf2\x92\x11\xd6\x97\xa4\x00\x30\x65\x43\xec\xac";

fn apple_uuid(id: &[u8]) -> Option<String> {
    let bytes = [&NAMESPACE[..], text::nonzero(id)?].concat();
    let mut digest = Hash::by_name("md5")?.digest(&bytes);
    digest[6] = 0x30 | (digest[6] & 0x0f);
    digest[8] = 0x80 | (digest[8] & 0x3f);
    text::uuid(&digest[..16])
}

pub(super) fn hfs(window: &Window, at: u64) -> Option<Found> {
    let block = window.at(at, 162)?;
    let wraps_plus = [b"H+", b"HX"].iter().any(|kind| block[124..126] == kind[..]);
    let unit = be32(&block, 20);
    if wraps_plus || unit == 0 || !unit.is_multiple_of(512) {
        return None;
    }
    let label = text::label(&block[37..][..usize::from(block[36]).min(27)]);
    let size = u64::from(be16(&block, 18)).checked_mul(unit.into());
    Some(Found { label, uuid: apple_uuid(&block[116..124]), size })
}

/// An HFS+ may lie within an HFS, whose header says where. Its name is the first key of its catalog.
pub(super) fn hfsplus(window: &Window, at: u64) -> Option<Found> {
    let outer = window.at(at, 162)?;
    let mut base = 0;
    if outer[..2] == *b"BD" {
        let unit = be32(&outer, 20);
        if ![b"H+", b"HX"].iter().any(|kind| outer[124..126] == kind[..])
            || unit < 512
            || !unit.is_multiple_of(512)
        {
            return None;
        }
        base = u64::from(be16(&outer, 28)) * 512 + u64::from(be16(&outer, 126)) * u64::from(unit);
    }
    let header = window.at(base + 1024, 512)?;
    let block_size = be32(&header, 40);
    let is_plus = [b"H+", b"HX"].iter().any(|kind| header[..2] == kind[..]);
    if !is_plus || block_size < 512 || !block_size.is_power_of_two() {
        return None;
    }
    let block_size = u64::from(block_size);
    // The catalog's extents begin 16 bytes into its fork: start and length, eight times.
    let extents: Vec<(u64, u64)> = header[288..352]
        .chunks_exact(8)
        .map(|pair| (be32(pair, 0).into(), be32(pair, 4).into()))
        .collect();
    if base + extents[0].0 * block_size > window.len() {
        return None;
    }
    let label = hfsplus_label(window, base, block_size, &extents);
    let size = u64::from(be32(&header, 44)).checked_mul(block_size);
    Some(Found { label, uuid: apple_uuid(&header[104..112]), size })
}

fn hfsplus_label(
    window: &Window,
    base: u64,
    block_size: u64,
    extents: &[(u64, u64)],
) -> Option<String> {
    let tree = window.at(base + extents[0].0 * block_size, 256)?;
    let (leaves, first) = (be32(&tree, 20), u64::from(be32(&tree, 24)));
    let node_size = be16(&tree, 32);
    if node_size < 14 + 518 || leaves == 0 {
        return None;
    }
    let mut block = first * u64::from(node_size) / block_size;
    let (start, _) = extents.iter().take_while(|(_, len)| *len != 0).find(|(_, len)| {
        let within = block < *len;
        block -= if within { 0 } else { *len };
        within
    })?;
    let node = window.at(base + (start + block) * block_size, node_size.into())?;
    let (is_leaf, records) = (node[8] == 0xff, be16(&node, 10));
    let (parent, len) = (be32(&node, 16), usize::from(be16(&node, 20)));
    if !is_leaf || records == 0 || parent != 1 || len > 255 {
        return None;
    }
    text::utf16_be(&node[22..22 + 2 * len])
}

pub(super) fn apfs(window: &Window, _: u64) -> Option<Found> {
    let block = window.at(0, 4096)?;
    let fits = (le16(&block, 24), le16(&block, 28), le16(&block, 30)) == (1, 0, 0);
    let block_size = le32(&block, 36);
    if !fits || block_size != 4096 || fletcher64(&block[8..]) != le64(&block, 0) {
        return None;
    }
    let size = le64(&block, 40).checked_mul(block_size.into());
    Some(Found { label: None, uuid: text::uuid(&block[72..88]), size })
}

/// Sums a block as APFS does: two sums modulo 2^32 - 1, and what makes them zero.
fn fletcher64(block: &[u8]) -> u64 {
    let (mut low, mut high) = (0u64, 0u64);
    for word in block.chunks_exact(4) {
        low += u64::from(le32(word, 0));
        high += low;
    }
    let most = u64::from(u32::MAX);
    let first = most - (low + high) % most;
    let second = most - (low + first) % most;
    second << 32 | first
}
