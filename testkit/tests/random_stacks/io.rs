//! One bio of a wave: what it is, what it may end with, and what it leaves behind.

use sim_core::{Bio, BlkError, BlkResult, Flags, Op, SECTOR_SIZE, Sector, Sectors};
use testkit::{DeviceBelow, Model, Place, Started, Step, send};

use crate::ensure;
use crate::plan::IoSeed;
use crate::rig::{Outcome, Rig};

const SECTOR: usize = SECTOR_SIZE as usize;

/// A bio to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Io {
    pub(crate) device: u32,
    pub(crate) op: Op,
    pub(crate) sector: u64,
    pub(crate) len: u64,
    pub(crate) flags: Flags,
    /// What a write carries.
    pub(crate) data: Vec<u8>,
    /// Where its sectors lie when it is carried out.
    pub(crate) places: Vec<Place>,
}

/// A bio under way.
pub(crate) struct Flight {
    pub(crate) io: Io,
    pub(crate) end: Started<(BlkResult, Vec<u8>)>,
}

/// What else is going on with the devices that a bio passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Around {
    /// Nothing.
    Quiet,
    /// One of them is suspended, or will be for a while: the bio may be turned away if its flags
    /// allow that.
    MayWait,
    /// One of them is suspended all along: the bio is turned away if its flags allow that.
    Waits,
}

impl Io {
    /// Reads raw numbers as a bio.
    pub(crate) fn new(seed: &IoSeed, device: u32, size: u64, number: u64) -> Io {
        let op = match seed.kind % 16 {
            0..=4 => Op::Read,
            5..=9 => Op::Write,
            10 | 11 => Op::Discard,
            12 | 13 => Op::WriteZeroes,
            14 => Op::SecureErase,
            _ => Op::Flush,
        };
        // Now and then past the end, and long enough to cross several boundaries.
        let (sector, len) = match op {
            Op::Flush => (0, 0),
            _ => (u64::from(seed.sector) % (size + 2), 1 + u64::from(seed.len) % 40),
        };
        let mut flags = Flags::default();
        match (seed.flag % 8, op) {
            (0, Op::Write | Op::Discard | Op::WriteZeroes) => flags.fua = true,
            (1, Op::Write) => flags.preflush = true,
            (2, Op::Read | Op::Write | Op::Discard) => flags.nowait = true,
            (3, Op::Read) => flags.readahead = true,
            _ => {}
        }
        let text = |sector: u64| format!("write {number} sector {sector};").into_bytes();
        let fill = |sector| text(sector).into_iter().cycle().take(SECTOR);
        let data = if op == Op::Write { (0..len).flat_map(fill).collect() } else { Vec::new() };
        Io { device, op, sector, len, flags, data, places: Vec::new() }
    }

    /// Cuts the bio off after `len` sectors.
    pub(crate) fn truncate(&mut self, len: u64) {
        self.len = len;
        self.places.truncate(len as usize);
        self.data.truncate(len as usize * SECTOR);
    }

    /// Tells whether the bio may be turned away instead of waiting.
    pub(crate) fn is_impatient(&self) -> bool {
        self.flags.nowait || self.flags.readahead
    }

    /// Tells whether the bio goes past the end of the device that it is sent to.
    pub(crate) fn is_past_end(&self, model: &Model) -> bool {
        self.sector + self.len > model.size(DeviceBelow::Device(self.device))
    }

    /// Returns what a sector holds after the bio, if it changes that.
    fn leaves(&self, at: usize) -> Option<Vec<u8>> {
        match self.op {
            Op::Read | Op::Flush => None,
            Op::Write => Some(self.data[at * SECTOR..][..SECTOR].to_vec()),
            Op::Discard | Op::WriteZeroes | Op::SecureErase => Some(vec![0; SECTOR]),
        }
    }
}

impl Rig {
    /// Sends a bio, as a task of its own.
    pub(crate) fn launch(&self, io: Io) -> Flight {
        let device = self.devices[&io.device].device.clone();
        let (op, flags, sector, len) = (io.op, io.flags, Sector(io.sector), Sectors(io.len));
        let mut buffer = match op {
            Op::Write => io.data.clone(),
            Op::Read => vec![0xaa; io.len as usize * SECTOR],
            Op::Flush | Op::Discard | Op::WriteZeroes | Op::SecureErase => Vec::new(),
        };
        let name = format!("{op:?} {sector}+{len} on d{}", io.device);
        let end = self.world.sim.start(name, async move {
            let bio = match op {
                Op::Read => Bio::read(sector, &mut buffer),
                Op::Write => Bio::write(sector, &buffer),
                _ => Bio::without_data(op, sector, len),
            };
            let result = send(device, bio.with_flags(flags)).await;
            (result, buffer)
        });
        Flight { io, end }
    }

    /// Returns how one sector of a bio must fail, if it must.
    fn fault_of(&self, io: &Io, place: Place) -> Option<BlkError> {
        match (place, io.op) {
            (Place::Disk(disk, sector), _) => {
                self.bad.contains(&(disk, sector)).then_some(BlkError::Io)
            }
            (Place::Zero | Place::Error, Op::WriteZeroes | Op::SecureErase) => {
                Some(BlkError::NotSupported)
            }
            (Place::Zero, _) => None,
            (Place::Error | Place::PastEnd, _) => Some(BlkError::Io),
        }
    }

    /// Checks how a bio ended against the model, and brings the model up to date.
    pub(crate) fn account(
        &mut self,
        io: &Io,
        end: (BlkResult, Vec<u8>),
        around: Around,
    ) -> Outcome {
        let (result, buffer) = end;
        let past_end = io.op != Op::Flush && io.is_past_end(&self.model);
        let mut faults: Vec<BlkError> =
            io.places.iter().filter_map(|place| self.fault_of(io, *place)).collect();
        if past_end {
            faults.push(BlkError::Io);
        }
        let must_fail = !faults.is_empty() || (io.is_impatient() && around == Around::Waits);
        match (around, io.flags) {
            (Around::MayWait | Around::Waits, Flags { nowait: true, .. }) => {
                faults.push(BlkError::Again);
            }
            (Around::MayWait | Around::Waits, Flags { readahead: true, .. }) => {
                faults.push(BlkError::Io);
            }
            // Zeros are not read ahead.
            (Around::Quiet, Flags { readahead: true, .. }) if io.places.contains(&Place::Zero) => {
                faults.push(BlkError::Io);
            }
            _ => {}
        }
        let shown =
            format!("{:?} {}+{} of d{} {:?}", io.op, io.sector, io.len, io.device, io.flags);
        match result {
            Ok(()) => ensure!(!must_fail, "{shown} succeeded, expected one of {faults:?}"),
            Err(error) => {
                ensure!(faults.contains(&error), "{shown}: {error:?}, expected {faults:?} or none");
            }
        }
        if !past_end {
            self.account_errors(io, around);
            self.account_bytes(io, result, &buffer).map_err(|why| format!("{shown}: {why}"))?;
        }
        Ok(())
    }

    fn account_bytes(&mut self, io: &Io, result: BlkResult, buffer: &[u8]) -> Outcome {
        for (at, place) in io.places.iter().enumerate() {
            if io.op == Op::Read && result.is_ok() {
                let expected = match place {
                    Place::Disk(disk, sector) => self.model.sector(*disk, *sector),
                    Place::Zero => &[0; SECTOR],
                    Place::Error | Place::PastEnd => unreachable!("such a read fails"),
                };
                let found = &buffer[at * SECTOR..][..SECTOR];
                ensure!(
                    found == expected,
                    "sector {at} at {place:?}: expected {}, found {}",
                    show(expected),
                    show(found)
                );
            }
            let (Some(new), Place::Disk(disk, sector)) = (io.leaves(at), *place) else { continue };
            let device = &self.disks[disk as usize];
            if result.is_err() {
                // Old or new: both are right, and from now on it is what it is.
                let content = device.content();
                let found = &content[sector as usize * SECTOR..][..SECTOR];
                let old = self.model.sector(disk, sector);
                ensure!(
                    found == old || found == new,
                    "sector {at} at {place:?} of a failed bio: neither {} nor {}: {}",
                    show(old),
                    show(&new),
                    show(found)
                );
                let found = found.to_vec();
                self.model.write(disk, sector, &found);
                continue;
            }
            self.model.write(disk, sector, &new);
            if io.flags.fua {
                let durable = device.durable(Sector(sector));
                ensure!(durable == new, "sector {at} at {place:?} with FUA is not durable");
            }
        }
        Ok(())
    }

    /// Notes which legs have seen an error.
    fn account_errors(&mut self, io: &Io, around: Around) {
        if io.flags.readahead {
            return;
        }
        let mut certain = around == Around::Quiet || !io.is_impatient();
        let mut legs = Vec::new();
        for (at, place) in (io.sector..).zip(&io.places) {
            match self.fault_of(io, *place) {
                None => {}
                // Whether a piece that meets two errors counts depends on which came first.
                Some(BlkError::NotSupported) => certain = false,
                Some(_) => {
                    let model = &self.model;
                    model.follow(io.device, at, &mut |step| legs.extend(alike(model, step)));
                }
            }
            // A device below may refuse the whole of a bio for what is past its end.
            certain &= *place != Place::PastEnd;
        }
        let seen = if certain { &mut self.failed } else { &mut self.maybe_failed };
        seen.extend(legs);
    }
}

/// Returns every leg of the step's line that lies on the same device: an error counts for all.
fn alike(model: &Model, step: Step) -> Vec<Step> {
    let areas = model.tables[&step.device][step.line].areas();
    let same = |leg: &usize| areas[*leg].0 == areas[step.leg].0;
    (0..areas.len()).filter(same).map(|leg| Step { leg, ..step }).collect()
}

/// Shows a sector by how it begins.
fn show(sector: &[u8]) -> String {
    let text = String::from_utf8_lossy(&sector[..32]);
    let differs = sector.iter().any(|byte| *byte != sector[0]);
    if differs { format!("`{text}`") } else { format!("all {:#04x}", sector[0]) }
}
