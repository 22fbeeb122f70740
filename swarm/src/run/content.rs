//! What disks and devices hold, and what they may.

use sim_core::{Bio, BlockDevice, Rng, Sector, Sectors};
use testkit::{Event, Legal, SimDisk, send};

use super::{Outcome, Rig, wrong};

pub(super) const SECTOR: usize = 512;

/// How many sectors are read at a time where some may not be read.
const PIECE: u64 = 8;

/// How many where all may.
const LONG_PIECE: u64 = 128;

/// No bio has this number: what is taken over was not read.
const UNREAD: u64 = u64::MAX;

/// Writes bytes to a place of a disk that need not begin a sector; those past its end are left out.
pub(super) fn fill(disk: &SimDisk, at: u64, bytes: &[u8]) {
    let (size, sector) = (disk.size().0, SECTOR as u64);
    let (first, end) = (at / sector, (at + bytes.len() as u64).div_ceil(sector).min(size));
    if first >= end {
        return;
    }
    let mut content = disk.look(Sector(first), Sectors(end - first), <[u8]>::to_vec);
    let from = (at - first * sector) as usize;
    let len = bytes.len().min(content.len() - from);
    content[from..from + len].copy_from_slice(&bytes[..len]);
    disk.fill(Sector(first), &content);
}

/// Fills a disk with what nobody wrote there.
pub(super) fn scribble(disk: &SimDisk, number: u64) {
    let mut rng = Rng::new(number);
    let words = disk.size().0 as usize * SECTOR / 8;
    let bytes: Vec<u8> = (0..words).flat_map(|_| rng.number().to_le_bytes()).collect();
    disk.fill(Sector(0), &bytes);
}

/// Leaves of each sector of a disk one of the versions that it may have.
pub(super) fn lose_some(disk: &SimDisk, rng: &mut Rng) {
    let now = disk.content();
    let mut chosen = Vec::new();
    if disk.volatile_writes() > 0 {
        for sector in (0..disk.size().0).map(Sector) {
            let mut versions = disk.versions(sector);
            if versions.len() > 1 {
                let version = versions.swap_remove(rng.below(versions.len()));
                chosen.push((sector, version));
            }
        }
    }
    debug_assert_eq!(now.len(), disk.size().0 as usize * SECTOR);
    disk.lose_cache();
    chosen.iter().for_each(|(sector, bytes)| disk.fill(*sector, bytes));
}

/// What was read of a device: ranges, each with its bytes, unless the read failed.
type Pieces = Vec<(u64, u64, Option<Vec<u8>>)>;

impl Rig<'_> {
    /// Reads all of a device. Where its reads may not fail they do not.
    fn read(&self, top: usize) -> Result<Pieces, super::End> {
        let top = &self.tops[top];
        let device = &self.devices[top.device as usize];
        let may_fail = !top.promises.well || self.is_faulted();
        let block = device.limits().logical_block().0.max(1);
        let (size, step) = (device.size().0, if may_fail { PIECE.max(block) } else { LONG_PIECE });
        let mut pieces = Vec::new();
        for at in (0..size).step_by(step as usize) {
            let len = step.min(size - at);
            let mut buffer = vec![0xee; len as usize * SECTOR];
            let read = send(device.clone(), Bio::read(Sector(at), &mut buffer));
            match self.wait("a read", read)? {
                Ok(()) => pieces.push((at, len, Some(buffer))),
                Err(_) if may_fail => pieces.push((at, len, None)),
                Err(error) => {
                    let device = top.device;
                    return Err(wrong(format!("d{device}: a read of {at}+{len} failed: {error}")));
                }
            }
        }
        Ok(pieces)
    }

    /// Takes what a device holds for what it must hold from now on.
    pub(super) fn adopt(&mut self, at: usize) -> Outcome {
        let pieces = self.read(at)?;
        let top = &self.tops[at];
        if top.spoiled {
            return Ok(());
        }
        let block = self.devices[top.device as usize].limits().logical_block().0;
        let zeros = |len: u64| vec![0; len as usize * SECTOR];
        let bytes = pieces.iter().map(|(_, len, read)| read.clone().unwrap_or_else(|| zeros(*len)));
        let content: Vec<u8> = bytes.flatten().collect();
        let mut legal = Legal::new(&content).in_blocks_of(block);
        for (sector, len, _) in pieces.iter().filter(|(_, _, read)| read.is_none()) {
            // What could not be read may be anything.
            legal.apply(&Event::Write { id: UNREAD, sector: *sector, len: *len, data: None });
            legal.apply(&Event::End { id: UNREAD, ok: true, fua: true });
        }
        top.sent.adopt(legal);
        Ok(())
    }

    /// Holds all that can be read against what was written.
    pub(super) fn read_back(&self) -> Outcome {
        for (at, top) in self.tops.iter().enumerate() {
            let pieces = self.read(at)?;
            let Some(legal) = top.sent.legal().filter(|_| !top.spoiled) else { continue };
            for (sector, bytes) in sectors(&pieces) {
                if !legal.read(sector, legal.now(), bytes) {
                    let why = legal.explain(sector, bytes);
                    return Err(wrong(format!("d{}: read back: {why}", top.device)));
                }
            }
        }
        Ok(())
    }

    /// Looks at a device after the power has come back, and takes over what it holds.
    pub(super) fn came_back(&mut self, at: usize, legal: Option<Legal>) -> Outcome {
        let (faulted, promises) = (self.is_faulted(), self.tops[at].promises);
        let held = promises.durable && (!faulted || promises.faults_and_cut);
        if let Some(legal) = legal.filter(|_| held && !self.tops[at].spoiled) {
            for (sector, bytes) in sectors(&self.read(at)?) {
                if !legal.after_power_cut(sector, bytes) {
                    let (device, why) = (self.tops[at].device, legal.explain(sector, bytes));
                    return Err(wrong(format!("d{device}: with the power off and on: {why}")));
                }
            }
        }
        // Copies that are not the same may read as one now, and as another later.
        self.spoil();
        self.adopt(at)
    }

    /// Tells of the first read of a bio that was wrong.
    pub(super) fn verdicts(&self) -> Outcome {
        for top in &self.tops {
            if let Err(why) = top.sent.verdict()
                && !top.spoiled
            {
                return Err(wrong(format!("d{}: {why}", top.device)));
            }
        }
        Ok(())
    }
}

/// Lists the sectors that were read.
fn sectors(pieces: &Pieces) -> impl Iterator<Item = (u64, &[u8])> {
    let read = pieces.iter().filter_map(|(at, _, read)| Some((*at, read.as_ref()?)));
    read.flat_map(|(at, bytes)| (at..).zip(bytes.chunks_exact(SECTOR)))
}
