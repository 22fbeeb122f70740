//! `inverted <dev> <start>`: stores data inverted, and counts the writes in the sector after it.
//!
//! A flush that ended well, and a write with FUA, leave a count on the device that has every
//! write which had ended by then. After a crash it may have more of them: those that were issued.
#![forbid(unsafe_code)]
use futures_util::lock::Mutex;
use sim_core::*;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const CHUNK: Sectors = Sectors(128); // 64 KiB: the most that is copied at once.
const MAGIC: &[u8; 8] = b"INVERTED";

/// A range of a device, one sector longer than the target.
pub struct Inverted {
    area: Area,
    writes: AtomicU64,
    counting: Mutex<()>,
}

impl TargetType for Inverted {
    const NAME: &'static str = "inverted";
    const VERSION: [u32; 3] = [1, 0, 0];
    fn ctr(args: &mut Args<'_>) -> Result<Inverted, CtrError> {
        args.exactly(2, "Invalid argument count")?;
        let device = args.next("Missing device")?;
        let start = args.next("Missing start")?.sector("Invalid device sector")?;
        let area = args.area(device, start, args.target_len() + Sectors(1), "Device lookup failed");
        Ok(Inverted { area: area?, writes: AtomicU64::new(0), counting: Mutex::new(()) })
    }
}

impl Target for Inverted {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        Mapped::InFlight(Box::pin(self.run(bio)))
    }
    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => return write!(out, "{}", self.writes.load(SeqCst)),
            StatusKind::Table => out.device(&self.area)?,
        }
        write!(out, " {}", self.area.start)
    }
    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.area);
    }
    fn profile(&self) -> Profile {
        Profile { max_io_len: Some(CHUNK), num_flush_bios: 1, ..Profile::default() }
    }
    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async {
            let (at, mut sector) = (Sector(self.area.size().0 - 1), [0; 512]);
            self.area.submit(at, Bio::read(at, &mut sector)).await?;
            let count = u64::from_le_bytes(sector[8..16].try_into().expect("eight bytes"));
            self.writes.store(if sector.starts_with(MAGIC) { count } else { 0 }, SeqCst);
            Ok(())
        })
    }
}

impl Inverted {
    async fn run(&self, mut bio: Bio<'_>) -> BlkResult {
        let (at, flags) = (bio.sector, bio.flags);
        if bio.op() != Op::Write {
            self.area.submit(at, bio.reborrow()).await?;
            bio.buffer().iter_mut().for_each(|byte| *byte = !*byte);
            return Ok(());
        }
        let data: Vec<u8> = bio.data().iter().map(|byte| !byte).collect();
        self.area.submit(at, Bio::write(at, &data).with_flags(flags)).await?;
        // One count at a time: an older one that ended later would stay on the device.
        let _one = self.counting.lock().await;
        let count = self.writes.fetch_add(1, SeqCst).wrapping_add(1);
        let mut sector = [0; 512];
        sector[..8].copy_from_slice(MAGIC);
        sector[8..16].copy_from_slice(&count.to_le_bytes());
        let at = Sector(self.area.size().0 - 1);
        self.area.submit(at, Bio::write(at, &sector).with_flags(flags)).await
    }
}
