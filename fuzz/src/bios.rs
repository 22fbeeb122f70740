//! The fuzz target for sets that a BIOS made: what somebody else's disks say of theirs.

use sim_core::{SECTOR_SIZE, Sector, Sectors};
use targets::bios::assembly::{Candidate, choose};
use targets::bios::read_whole;
use targets::bios::vendors;
use targets::md::assembly::{Mode, Taken};
use targets::md::superblock::{Change, DONE, Place};

use crate::bytes::Bytes;

/// How long a disk is.
const DISK: Sectors = Sectors(4096);

/// The most that may be read of one.
const MOST_READ: u64 = 64 << 20;

/// Reads a disk, takes it for up to four, puts every volume together, and has its state written. The first
/// byte says what the others are: a disk's end as it is, or one of Intel's or of DDF's, whose checksums are
/// to be made right.
///
/// # Panics
/// When something of that does, reads without end, or writes past the end of a disk.
pub fn bios(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kind = bytes.below(3);
    let end = bytes.rest();
    let mut disk = vec![0; DISK.bytes() as usize];
    let len = end.len().min(disk.len());
    let from = disk.len() - len;
    disk[from..].copy_from_slice(&end[..len]);
    match kind {
        0 => {}
        1 => seal_intel(&mut disk),
        _ => seal_ddf(&mut disk),
    }
    let mut read = 0;
    let mut piece = |at: Sector, len: Sectors| {
        read += len.bytes();
        assert!(read < MOST_READ, "{read} bytes read");
        let from = (at - Sector::ZERO).bytes() as usize;
        Some(disk.get(from..from.checked_add(len.bytes() as usize)?)?.to_vec())
    };
    let _ = read_whole(|pieces| vendors::find(DISK, pieces), &mut piece);
    let found = read_whole(|pieces| targets::bios::read(DISK, pieces), piece);
    let Ok(Some(member)) = found else { return };
    let serials = member.serials();
    let serial = |nr: usize| serials.get(nr).cloned().or_else(|| Some(format!("serial {nr}")));
    // As long as volumes want.
    let len = Sectors(1 << 40);
    let candidate = |nr: usize| Candidate { member: member.clone(), len, serial: serial(nr) };
    for count in 1..=4 {
        let candidates: Vec<Candidate> = (0..count).map(candidate).collect();
        for volume in [None, Some("vol0"), Some("")] {
            use_volume(&candidates, volume);
        }
    }
}

fn use_volume(candidates: &[Candidate], volume: Option<&str>) {
    let Ok(chosen) = choose(candidates, volume) else { return };
    let _ = (chosen.about(), chosen.span());
    let Ok(said) = chosen.assembly(Mode::Force) else { return };
    assert!(chosen.volume.len <= said.layout.len(), "a volume past its disks");
    let places = said.places.iter().enumerate();
    let places: Vec<Place> = places
        .map(|(nr, taken)| match taken {
            Taken::Nobody => Place::Empty,
            _ => Place::InSync(nr),
        })
        .collect();
    let events = said.events + 1;
    let change = Change { events, resync_offset: DONE, dirty: true, places };
    if chosen.read_only.is_some() {
        return;
    }
    let writer = chosen.writer(candidates);
    for (place, taken) in said.places.iter().enumerate() {
        if taken.member().is_some() {
            for (at, bytes) in writer.stages(&change, place).into_iter().flatten() {
                let sectors = bytes.len() as u64 / SECTOR_SIZE;
                assert!(at.0 + sectors <= DISK.0, "{sectors} sectors at {at}");
            }
        }
    }
}

/// Makes the checksum of Intel's table right.
fn seal_intel(disk: &mut [u8]) {
    let anchor = disk.len() - 1024;
    disk[anchor..anchor + 24].copy_from_slice(b"Intel Raid ISM Cfg Sig. ");
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
    let size = word(&disk[anchor + 0x24..anchor + 0x28]) as usize;
    let more = size.div_ceil(512).saturating_sub(1).min(256) * 512;
    disk[anchor + 0x20..anchor + 0x24].fill(0);
    let table = [&disk[anchor..anchor + 512], &disk[anchor - more..anchor]].concat();
    let words = table[..size.min(table.len())].chunks_exact(4);
    let sum = words.fold(0_u32, |sum, bytes| sum.wrapping_add(word(bytes)));
    disk[anchor + 0x20..anchor + 0x24].copy_from_slice(&sum.to_le_bytes());
}

/// Makes the checksums of DDF's anchor, and of whatever begins with a magic number, right.
fn seal_ddf(disk: &mut [u8]) {
    let last = disk.len() - 512;
    disk[last..last + 4].copy_from_slice(&0xde11_de11_u32.to_be_bytes());
    for at in (0..disk.len()).step_by(512) {
        let sectors = match disk[at..at + 4] {
            [0xde, 0x11, 0xde, 0x11] | [0x33, 0x33, 0x33, 0x33] => 1,
            // As mdadm makes them.
            [0x22, 0x22, 0x22, 0x22] | [0xdd, 0xdd, 0xdd, 0xdd] => 2,
            [0xee, 0xee, 0xee, 0xee] => 2,
            _ => continue,
        };
        let end = (at + sectors * 512).min(disk.len());
        let part = &mut disk[at..end];
        part[4..8].fill(0xff);
        let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
        hasher.update(part);
        part[4..8].copy_from_slice(&(!hasher.finalize()).to_be_bytes());
    }
}
