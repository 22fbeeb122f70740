//! Bios for a device under test, held against the versions that are legal.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sim_core::{Bio, BlkResult, BlockDevice, Flags, Limits, MappedDevice, Op, Sector, Sectors};

use crate::SECTOR;
use crate::{Entry, Event, Journal, Legal, Rng, Shape, send, story};

/// The longest read of a whole device's content, in sectors.
const READ: u64 = 256;

/// A bio to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BioStep {
    /// The operation.
    pub op: Op,
    /// The first sector.
    pub sector: u64,
    /// The length in sectors; zero for a flush.
    pub len: u64,
    /// What else is asked for.
    pub flags: Flags,
}

impl fmt::Display for BioStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BioStep { op, sector, len, flags } = self;
        match op {
            Op::Flush => write!(f, "{op:?}")?,
            _ => write!(f, "{op:?} {sector}+{len}")?,
        }
        f.write_str(if flags.preflush { " preflush" } else { "" })?;
        f.write_str(if flags.fua { " fua" } else { "" })
    }
}

/// What a device was sent so far, and what it may hold.
pub struct Traffic {
    /// Tells the devices of one record apart.
    device: u32,
    /// Where bios go into the record of the disks, too.
    journal: Arc<Journal>,
    state: Mutex<State>,
}

struct State {
    /// Nothing for a device that is no storage.
    legal: Option<Legal>,
    next: u64,
    wrong: Option<String>,
    under_way: Vec<(u64, BioStep)>,
}

impl BioStep {
    /// Chooses a bio for a device of this size, close to others half of the time.
    pub fn random(rng: &mut Rng, size: u64, limits: &Limits) -> BioStep {
        Shape::default().step(rng, size, limits)
    }
}

impl Traffic {
    /// Starts to send to the device with this number in the record. Without `legal` nothing is
    /// held against anything.
    pub fn new(device: u32, journal: Arc<Journal>, legal: Option<Legal>) -> Traffic {
        Traffic {
            device,
            journal,
            state: Mutex::new(State { legal, next: 0, wrong: None, under_way: Vec::new() }),
        }
    }

    /// Returns the record.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Tells whether the device is an array of bytes.
    pub fn is_storage(&self) -> bool {
        self.state().legal.is_some()
    }

    /// Returns what is legal now; nothing for a device that is no storage.
    pub fn legal(&self) -> Option<Legal> {
        self.state().legal.clone()
    }

    /// Starts over with this content, all of it durable.
    pub fn adopt(&self, legal: Legal) {
        self.state().legal = Some(legal);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> u64 {
        let mut state = self.state();
        state.next += 1;
        // No two devices of a record send the same data.
        u64::from(self.device) << 16 | state.next
    }

    fn event(&self, event: Event) {
        if let Some(legal) = &mut self.state().legal {
            legal.apply(&event);
            self.journal.push(Entry::Event { device: self.device, event });
        }
    }

    /// Lists the bios that have not ended.
    pub fn under_way(&self) -> String {
        let text = |(id, step): &(u64, BioStep)| format!("bio {id} ({step})");
        self.state().under_way.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    /// Returns what was wrong with a read, if one was.
    pub fn verdict(&self) -> Result<(), String> {
        self.state().wrong.take().map_or(Ok(()), Err)
    }

    /// Sends one bio; dropped before its end, it counts as one that failed.
    pub async fn send(self: Arc<Self>, device: Arc<MappedDevice>, step: BioStep) -> BlkResult {
        let id = self.new_id();
        story::bio(id, &step);
        self.state().under_way.push((id, step.clone()));
        let mut told = Told { traffic: self.clone(), id, step: step.clone(), result: None };
        let result = self.send_told(device, id, step).await;
        told.result = Some(result);
        result
    }

    async fn send_told(
        self: Arc<Self>,
        device: Arc<MappedDevice>,
        id: u64,
        step: BioStep,
    ) -> BlkResult {
        let BioStep { op, sector, len, flags } = step;
        if op == Op::Read {
            return self.read(device, id, sector, len).await;
        }
        let data: Arc<[u8]> = match op {
            Op::Write => pattern(id, sector, len),
            _ => vec![0; len as usize * SECTOR].into(),
        };
        if op.is_write() {
            let data = (op != Op::Discard).then(|| data.clone());
            self.event(Event::Write { id, sector, len, data });
        }
        if op == Op::Flush || flags.preflush {
            self.event(Event::Flush { id });
        }
        let mut end = End { traffic: &self, id, fua: flags.fua, ok: false };
        let bio = match op {
            Op::Write => Bio::write(Sector(sector), &data),
            _ => Bio::without_data(op, Sector(sector), Sectors(len)),
        };
        let result = send(device, bio.with_flags(flags)).await;
        end.ok = result.is_ok();
        result
    }

    async fn read(&self, device: Arc<MappedDevice>, id: u64, at: u64, len: u64) -> BlkResult {
        let since = self.state().legal.as_ref().map_or(0, Legal::now);
        let mut buffer = vec![0xee; len as usize * SECTOR];
        let result = send(device, Bio::read(Sector(at), &mut buffer)).await;
        let mut state = self.state();
        if let (Ok(()), Some(legal)) = (&result, &state.legal) {
            let sectors = (at..).zip(buffer.chunks_exact(SECTOR));
            let wrong =
                sectors.into_iter().find(|(sector, bytes)| !legal.read(*sector, since, bytes));
            let wrong = wrong.map(|(sector, bytes)| legal.explain(sector, bytes));
            let wrong = wrong.map(|found| format!("bio {id}, a read of {at}+{len}: {found}"));
            state.wrong = state.wrong.take().or(wrong);
        }
        result
    }
}

/// Reads the whole of a device.
///
/// # Errors
/// The first read that failed.
pub async fn read_all(device: Arc<MappedDevice>) -> Result<Vec<u8>, String> {
    let size = device.size().0;
    let mut content = vec![0; size as usize * SECTOR];
    for at in (0..size).step_by(READ as usize) {
        let end = size.min(at + READ) as usize * SECTOR;
        let buffer = &mut content[at as usize * SECTOR..end];
        let result = send(device.clone(), Bio::read(Sector(at), buffer)).await;
        result.map_err(|error| format!("a read at {at} failed: {error}"))?;
    }
    Ok(content)
}

/// Tells of the end of a bio, and of one that is given up.
struct Told {
    traffic: Arc<Traffic>,
    id: u64,
    step: BioStep,
    result: Option<BlkResult>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.traffic.state().under_way.retain(|(id, _)| *id != self.id);
        story::bio_end(self.id, &self.step, self.result.as_ref());
    }
}

/// Writes the end of a bio down, however it comes.
struct End<'a> {
    traffic: &'a Traffic,
    id: u64,
    fua: bool,
    ok: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.traffic.event(Event::End { id: self.id, ok: self.ok, fua: self.fua });
    }
}

/// Returns data that no other bio and no other sector has.
pub fn pattern(id: u64, sector: u64, len: u64) -> Arc<[u8]> {
    let words = (sector..sector + len)
        .flat_map(|sector| (0..SECTOR as u64 / 8).map(move |word| id << 40 | sector << 8 | word));
    words.flat_map(u64::to_le_bytes).collect()
}
