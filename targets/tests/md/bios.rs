//! Sets of BIOSes: recorded ones, made small.

use sim_core::{Sector, Sectors};
use targets::bios::assembly::Candidate;
use targets::bios::{Pieces, read_whole};
use testkit::{MdImage, bios_images};

/// What is used of each disk, and the length of a chunk, in sectors.
const SIZE: u64 = 24;
const CHUNK: u16 = 8;

/// What lies where on a disk.
pub(crate) type Head = Vec<(u64, Vec<u8>)>;

/// Returns the serial number of a disk, as Intel's sets have it.
pub(crate) fn serial(nr: usize) -> String {
    format!("/dev/loop{nr}")
}

/// Reads what disks with these bytes say, or what is wrong with one.
pub(crate) fn candidates(contents: &[Vec<u8>]) -> Result<Vec<Candidate>, String> {
    let candidate = |(nr, bytes): (usize, &Vec<u8>)| {
        let len = Sectors::in_bytes(bytes.len() as u64);
        let look = |pieces: &Pieces| targets::bios::read(len, pieces);
        let found = read_whole(look, |at, len| {
            let from = (at - Sector::ZERO).bytes() as usize;
            Some(bytes.get(from..from + len.bytes() as usize)?.to_vec())
        });
        let member = found.map_err(|fault| fault.to_string())?.ok_or("is of no set")?;
        Ok(Candidate { member, len, serial: Some(serial(nr)) })
    };
    contents.iter().enumerate().map(candidate).collect()
}

/// Returns how long the disks of a small set are, and what lies where on each.
pub(crate) fn small(name: &str) -> (u64, Vec<Head>) {
    let images = bios_images(name);
    match name.starts_with("imsm") {
        true => (SIZE + 8, images.iter().map(imsm).collect()),
        false => {
            let heads: Vec<_> = images.iter().map(ddf).collect();
            (heads[0].last().expect("an anchor").0 + 1, heads)
        }
    }
}

fn imsm(image: &MdImage) -> Head {
    let anchor = image.bytes(image.len - 1024, 512);
    let size = u32::from_le_bytes(anchor[0x24..0x28].try_into().expect("4")) as usize;
    let more = size.div_ceil(512) - 1;
    let mut table = anchor;
    table.extend(image.bytes(image.len - 1024 - 512 * more as u64, 512 * more));
    let volume = 0xd8 + 48 * usize::from(table[0x38]);
    let map = volume + 112;
    let (level, members) = (table[map + 15], u64::from(table[map + 16]));
    let (turns, data) = match level {
        5 => (1, members - 1),
        _ => (2, members / 2),
    };
    let mut put = |at: usize, value: &[u8]| table[at..at + value.len()].copy_from_slice(value);
    // A raid10 has whole chunks; a raid1 has none.
    let strip = if level == 1 && members == 2 { 4 } else { CHUNK };
    let stripes = SIZE / turns / u64::from(strip);
    put(volume + 16, &((stripes * turns * u64::from(strip) * data) as u32).to_le_bytes());
    put(map + 8, &(stripes as u32).to_le_bytes());
    put(map + 12, &strip.to_le_bytes());
    put(0x20, &[0; 4]);
    let words = table[..size].chunks_exact(4);
    let sum = words
        .fold(0_u32, |sum, word| sum.wrapping_add(u32::from_le_bytes(word.try_into().expect("4"))));
    table[0x20..0x24].copy_from_slice(&sum.to_le_bytes());
    let (first, rest) = table.split_at(512);
    vec![(SIZE + 8 - 2 - more as u64, [rest, first].concat())]
}

fn ddf(image: &MdImage) -> Head {
    let long =
        |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8"));
    let word =
        |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4"));
    let anchor = image.bytes(image.len - 512, 512);
    let end = |header: &[u8]| u64::from(word(header, 224) + word(header, 228));
    let places = [SIZE, SIZE + end(&anchor)];
    let patch = |header: &mut [u8]| {
        header[96..104].copy_from_slice(&places[0].to_be_bytes());
        header[104..112].copy_from_slice(&places[1].to_be_bytes());
        seal(header);
    };
    let mut heads = Vec::new();
    for (at, place) in [96, 104].into_iter().zip(places) {
        let mut copy = image.bytes(long(&anchor, at) * 512, end(&anchor) as usize * 512);
        patch(&mut copy[..512]);
        let header = copy[..512].to_vec();
        let (from, len) = (word(&header, 216) as usize, word(&header, 220) as usize);
        let most = usize::from(u16::from_be_bytes(header[136..138].try_into().expect("2")));
        let record = usize::from(u16::from_be_bytes(header[134..136].try_into().expect("2"))) * 512;
        for bytes in copy[from * 512..][..len * 512].chunks_exact_mut(record) {
            if word(bytes, 0) != 0xeeee_eeee {
                continue;
            }
            let members = u64::from(u16::from_be_bytes(bytes[64..66].try_into().expect("2")));
            let parts = u64::from(bytes[69].max(1));
            let data = match bytes[67] {
                5 => members - 1,
                6 => members - 2,
                _ => parts,
            };
            if bytes[67] >= 5 || parts > 1 {
                bytes[66] = CHUNK.trailing_zeros() as u8;
            }
            bytes[72..80].copy_from_slice(&SIZE.to_be_bytes());
            bytes[80..88].copy_from_slice(&(SIZE * data).to_be_bytes());
            bytes[512 + 4 * most..512 + 12 * most].fill(0);
            seal(bytes);
        }
        heads.push((place, copy));
    }
    let mut anchor = anchor;
    patch(&mut anchor);
    heads.push((places[1] + end(&anchor), anchor));
    heads
}

/// Makes a checksum right: the common CRC-32 without its inversions.
fn seal(bytes: &mut [u8]) {
    bytes[4..8].fill(0xff);
    let sum = bytes.iter().fold(0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    });
    bytes[4..8].copy_from_slice(&sum.to_be_bytes());
}
