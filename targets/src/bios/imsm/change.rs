//! What is written into Intel's table: what mdmon writes, for the same reasons.

use sim_core::{SECTOR_SIZE, Sector};

use super::{
    CHECKSUM, DEGRADED, DIRTY, DISK, DISK_STATUS, DISKS, FAILED, FAILED_DISK, GENERATION, Mpb,
    NORMAL, ORDER, OUT_OF_SYNC, SERIAL, SIZE, STATE, Spot, TABLE, checksum,
};
use crate::md::superblock::{Change, DONE, Place};
use crate::parts::bytes::{le32, put};

impl Mpb {
    /// Takes in a new state of a volume.
    pub(in super::super) fn change(&mut self, volume: usize, change: &Change) {
        let spot = self.volumes[volume].clone();
        put(&mut self.bytes, GENERATION, &(change.events as u32).to_le_bytes());
        let is_dirty = change.dirty || change.resync_offset != DONE;
        self.bytes[spot.at + DIRTY] = u8::from(is_dirty);
        for (place, now) in change.places.iter().enumerate() {
            if *now == Place::Empty {
                self.fail(&spot, place);
            }
        }
        let failed = change.places.contains(&Place::Empty);
        self.bytes[spot.map + STATE] = if failed { DEGRADED } else { NORMAL };
        let size = le32(&self.bytes, SIZE) as usize;
        let sum = checksum(&self.bytes[..size]);
        put(&mut self.bytes, CHECKSUM, &sum.to_le_bytes());
    }

    /// Marks the disk of a place as failed. Its serial number gets an end that no disk's has, so that
    /// where it comes back, nobody takes it for the one that was there.
    fn fail(&mut self, spot: &Spot, place: usize) {
        const END: &[u8] = b":0";
        let order = spot.map + ORDER + 4 * place;
        let nr = (le32(&self.bytes, order) & !(0xff << 24)) as usize;
        let known = nr < usize::from(self.bytes[DISKS]);
        let disk = TABLE + nr * DISK;
        if known && le32(&self.bytes, disk + DISK_STATUS) & FAILED == 0 {
            let status = le32(&self.bytes, disk + DISK_STATUS) | FAILED;
            put(&mut self.bytes, disk + DISK_STATUS, &status.to_le_bytes());
            let serial = &mut self.bytes[disk..disk + SERIAL];
            let len = serial.iter().position(|byte| *byte == 0).unwrap_or(SERIAL);
            let mut marked = serial[..len].to_vec();
            marked.extend_from_slice(END);
            // mdadm ends it by a zero.
            let kept = &marked[marked.len().saturating_sub(SERIAL - 1)..];
            serial.fill(0);
            serial[..kept.len()].copy_from_slice(kept);
        }
        put(&mut self.bytes, order, &(nr as u32 | OUT_OF_SYNC).to_le_bytes());
        let first = &mut self.bytes[spot.map + FAILED_DISK];
        *first = (*first).min(place as u8);
    }

    /// Returns what is to be written, and where it begins: all of it, as its parts lie side by side.
    pub(in super::super) fn image(&self) -> (Sector, Vec<u8>) {
        let (anchor, more) = self.bytes.split_at(SECTOR_SIZE as usize);
        let at = self.at.0 - more.len() as u64 / SECTOR_SIZE;
        (Sector(at), [more, anchor].concat())
    }
}
