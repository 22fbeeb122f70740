//! What DOS, Windows and OS/2 made: FAT, exFAT, NTFS, HPFS.

use super::{Found, Window, text};
use crate::bytes::{le16, le32, le64};

const ENTRY: usize = 32;

/// How much of a directory is read at a time.
const PIECE: u64 = 4096;

/// How many clusters of a root directory are searched for the label.
const MOST_CLUSTERS: usize = 100;

/// The label of a FAT is an entry of its root directory; the one in the boot sector is another thing,
/// that no program keeps up to date.
pub(super) fn vfat(window: &Window, at: u64) -> Option<Found> {
    let boot = window.at(0, 512)?;
    // A signature that is a jump, or the mark at the end, says little.
    let weak = at == 0 || at == 0x1fe;
    let other = [&b"JFS     "[..], b"HPFS    "].contains(&&boot[0x36..0x3e]);
    if weak && (boot[0x1fe..] != [0x55, 0xaa] || other) {
        return None;
    }
    let (sector, per_cluster) = (u64::from(le16(&boot, 11)), u64::from(boot[13]));
    let (reserved, fats, media) = (u64::from(le16(&boot, 14)), u64::from(boot[16]), boot[21]);
    let entries = u64::from(le16(&boot, 17));
    let short = u64::from(le16(&boot, 22));
    let fat = if short == 0 { u64::from(le32(&boot, 36)) } else { short };
    let sectors = match le16(&boot, 19) {
        0 => u64::from(le32(&boot, 32)),
        sectors => u64::from(sectors),
    };
    let fits = fats != 0
        && reserved != 0
        && (media >= 0xf8 || media == 0xf0)
        && per_cluster.is_power_of_two()
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector);
    if !fits {
        return None;
    }
    let before = reserved + fat * fats + (entries * ENTRY as u64).div_ceil(sector);
    let clusters = sectors.checked_sub(before)? / per_cluster;
    let most = match (short, clusters) {
        (0, _) => 0x0fff_fff6,
        (_, ..=0xff4) => 0xff4,
        _ => 0xfff4,
    };
    if clusters > most {
        return None;
    }
    let size = Some(sectors * sector);
    if short != 0 {
        let label = fat_label(window, (reserved + fat * fats) * sector, entries * ENTRY as u64);
        let label = label.into_label();
        let serial = [0x28, 0x29].contains(&boot[0x26]).then(|| text::serial(&boot[0x27..0x2b]));
        return Some(Found { label, uuid: serial.flatten(), size });
    }
    if fat == 0 {
        return Some(Found { size, ..Found::default() });
    }
    let info = u64::from(le16(&boot, 48));
    if info != 0 {
        let info = window.at(info * sector, 512)?;
        let begins = [&b"RRaA"[..], b"RRdA", &[0; 4]].contains(&&info[..4]);
        if !begins || ![&b"rrAa"[..], &[0; 4]].contains(&&info[484..488]) {
            return None;
        }
    }
    let mut next = u64::from(le32(&boot, 44));
    let mut label = Entry::Next;
    for _ in 0..MOST_CLUSTERS {
        if next < 2 || next >= fat * sector / 4 || !matches!(label, Entry::Next) {
            break;
        }
        let cluster = (reserved + fat * fats + (next - 2) * per_cluster) * sector;
        label = fat_label(window, cluster, per_cluster * sector);
        let Some(entry) = window.at(reserved * sector + next * 4, 4) else { break };
        next = u64::from(le32(&entry, 0) & 0x0fff_ffff);
    }
    Some(Found { label: label.into_label(), uuid: text::serial(&boot[0x43..0x47]), size })
}

/// What a part of a directory says about the label.
enum Entry {
    Label([u8; 11]),
    /// The directory ends here.
    End,
    /// It may be in the next part.
    Next,
}

impl Entry {
    fn into_label(self) -> Option<String> {
        let Entry::Label(mut name) = self else { return None };
        // 0xe5 marks a free entry, so a name that begins with it is written so.
        if name[0] == 0x05 {
            name[0] = 0xe5;
        }
        text::label(&name)
    }
}

fn fat_label(window: &Window, start: u64, len: u64) -> Entry {
    let mut done = 0;
    while done < len {
        let piece = (len - done).min(PIECE);
        let Some(bytes) = window.at(start + done, piece as usize) else { return Entry::End };
        for entry in bytes.chunks_exact(ENTRY) {
            let (name, attributes) = (&entry[..11], entry[11] & 0x3f);
            let cluster = (le16(entry, 20), le16(entry, 26));
            match (name[0], attributes) {
                (0, _) => return Entry::End,
                (0xe5, _) | (_, 0x0f) => {}
                (_, attributes) if attributes & 0x18 == 0x08 && cluster == (0, 0) => {
                    return Entry::Label(name.try_into().expect("11 bytes"));
                }
                _ => {}
            }
        }
        done += piece;
    }
    Entry::Next
}

pub(super) fn exfat(window: &Window, _: u64) -> Option<Found> {
    let boot = window.at(0, 512)?;
    let (sector_shift, cluster_shift) = (u32::from(boot[108]), u32::from(boot[109]));
    let (fat, fat_len) = (le32(&boot, 80), le32(&boot, 84));
    let (heap, clusters, root) = (le32(&boot, 88), le32(&boot, 92), le32(&boot, 96));
    let after = u64::from(fat) + u64::from(fat_len) * u64::from(boot[110]);
    let fits = boot[0x1fe..] == [0x55, 0xaa]
        && boot[..3] == [0xeb, 0x76, 0x90]
        && boot[11..64].iter().all(|byte| *byte == 0)
        && (1..=2).contains(&boot[110])
        && (9..=12).contains(&sector_shift)
        && cluster_shift <= 25 - sector_shift
        && fat >= 24
        && u64::from(heap) >= after
        && (2..=u64::from(clusters) + 1).contains(&u64::from(root));
    if !fits || !exfat_is_whole(window, 1 << sector_shift)? {
        return None;
    }
    let label = exfat_label(window, &boot).and_then(|entry| {
        let len = (usize::from(entry[1]) * 2).min(22);
        text::utf16_le(&entry[2..2 + len])
    });
    let size = le64(&boot, 72).checked_mul(1 << sector_shift);
    Some(Found { label, uuid: text::serial(&boot[100..104]), size })
}

/// Says whether the boot region's checksum, which the last of its sectors repeats, is right.
fn exfat_is_whole(window: &Window, sector: usize) -> Option<bool> {
    let region = window.at(0, 12 * sector)?;
    let (summed, sums) = region.split_at(11 * sector);
    let bytes = summed.iter().enumerate().filter(|(at, _)| ![106, 107, 112].contains(at));
    let sum = bytes.fold(0u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add(u32::from(*byte)));
    Some(sums.chunks_exact(4).all(|word| le32(word, 0) == sum))
}

/// Finds the entry of the root directory that holds the label.
fn exfat_label(window: &Window, boot: &[u8]) -> Option<[u8; ENTRY]> {
    let (sector_shift, cluster_shift) = (boot[108], boot[109]);
    let mut cluster = le32(boot, 96);
    for _ in 0..MOST_CLUSTERS {
        let sector = u64::from(le32(boot, 88)) + (u64::from(cluster - 2) << cluster_shift);
        let (start, len) = (sector << sector_shift, 1u64 << (sector_shift + cluster_shift));
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(PIECE);
            let bytes = window.at(start + done, piece as usize)?;
            for entry in bytes.chunks_exact(ENTRY) {
                match entry[0] {
                    0 => return None,
                    0x83 => return entry.try_into().ok(),
                    _ => {}
                }
            }
            done += piece;
        }
        let entry = (u64::from(le32(boot, 80)) << sector_shift) + u64::from(cluster) * 4;
        cluster = le32(&window.at(entry, 4)?, 0);
        if !(2..=0x0fff_fff6).contains(&cluster) {
            return None;
        }
    }
    None
}

pub(super) fn ntfs(window: &Window, _: u64) -> Option<Found> {
    let boot = window.at(0, 84)?;
    let sector = u64::from(le16(&boot, 11));
    let per_cluster: u64 = match boot[13] {
        few @ (1 | 2 | 4 | 8 | 16 | 32 | 64 | 128) => few.into(),
        many @ 240..=249 => 1 << (256 - u32::from(many)),
        _ => return None,
    };
    // What is before the number of sectors is a FAT's, and is zero here.
    let others = [14..21, 22..24, 32..36];
    let fits = sector.is_power_of_two()
        && (256..=4096).contains(&sector)
        && sector * per_cluster <= 2 << 20
        && others.into_iter().all(|field| boot[field].iter().all(|byte| *byte == 0));
    if !fits {
        return None;
    }
    let record: u64 = match boot[64] {
        few @ (1 | 2 | 4 | 8 | 16 | 32 | 64) => u64::from(few) * per_cluster * sector,
        shift @ 0xe1..=0xf7 => 1 << (256 - u32::from(shift)),
        _ => return None,
    };
    let (sectors, table) = (le64(&boot, 40), le64(&boot, 48));
    let clusters = sectors / per_cluster;
    if table > clusters || le64(&boot, 56) > clusters || record < 512 {
        return None;
    }
    let table = table.checked_mul(sector * per_cluster)?;
    let len = usize::try_from(record).ok()?;
    if window.at(table, 4)?[..] != *b"FILE" {
        return None;
    }
    // The fourth file is the volume itself.
    let volume = window.at(table.checked_add(3 * record)?, len.min(64 << 10))?;
    if volume[..4] != *b"FILE" {
        return None;
    }
    let uuid = text::nonzero(&boot[72..80]).map(|_| format!("{:016X}", le64(&boot, 72)));
    Some(Found { label: ntfs_label(&volume), uuid, size: sectors.checked_mul(sector) })
}

/// Finds the volume's name among the attributes of a file record.
fn ntfs_label(record: &[u8]) -> Option<String> {
    const NAME: u32 = 0x60;
    let mut at = usize::from(le16(record, 20));
    while let Some(attribute) = record.get(at..).filter(|rest| rest.len() >= 24) {
        let (kind, len) = (le32(attribute, 0), le32(attribute, 4) as usize);
        if kind == NAME {
            let from = usize::from(le16(attribute, 20));
            let name = attribute.get(from..)?.get(..le32(attribute, 16) as usize)?;
            return text::utf16_le(name);
        }
        if len == 0 || kind == u32::MAX {
            return None;
        }
        at = at.checked_add(len)?;
    }
    None
}

pub(super) fn hpfs(window: &Window, _: u64) -> Option<Found> {
    window.has(0x2200, b"\x49\x18\x91\xf9")?;
    let boot = window.at(0, 512)?;
    if boot[0x1fe..] != [0x55, 0xaa] || boot[0x36..0x3a] != *b"HPFS" || boot[0x26] != 0x28 {
        return Some(Found::default());
    }
    let (label, uuid) = (text::label(&boot[0x2b..0x36]), text::serial(&boot[0x27..0x2b]));
    Some(Found { label, uuid, size: None })
}
