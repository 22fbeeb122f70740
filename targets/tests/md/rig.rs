//! An array over simulated disks: one that was recorded, made small.

use std::sync::{Arc, PoisonError};

use sim_core::control::Command;
use sim_core::{BlockDevice, Held, MappedDevice, Op, Sector, Sectors};
use targets::bios::assembly::choose;
use targets::md::assembly::{Assembly, Candidate, LeftOut, Mode, decide};
use targets::md::superblock::{LEN, Superblock, Version};
use targets::raid::bitmap::{HEADER, Header};
use targets::raid::layout::Layout;
use testkit::{
    BioStep, Journal, Legal, MdImage, Schedule, SimDisk, Speed, Started, Traffic, World, id,
    md_images, read_all,
};

use crate::bios;
use crate::steps::{Errors, Step, start};

/// The arrays that are tried.
pub(crate) const ARRAYS: [&str; 10] = [
    "raid1-1.2",
    "raid1b-0.90",
    "raid5-1.2",
    "raid4-1.0",
    "raid6-1.1",
    "raid5-0.90",
    "raid10-1.0",
    "raid1b-1.1",
    "raid10o-1.2",
    "raid6-0.90",
];

/// The sets of BIOSes that are.
pub(crate) const SETS: [&str; 6] = ["imsm5", "ddf5", "imsm1", "ddf10", "imsm10", "ddf6"];

/// How long a disk is, and how much of it an array has.
const DISK: u64 = 256;
const SIZE: u64 = 24;
/// The same, of one that is dirty: more than a resync has at a time.
pub(crate) const DIRTY_SIZE: u64 = 96;
const CHUNK: u32 = 8;
/// Where data begins, of versions 1.1 and 1.2.
const DATA: u64 = 40;

/// An array.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) members: usize,
    pub(crate) layout: Layout,
    pub(crate) data_offset: Sector,
    pub(crate) has_bitmap: bool,
    /// Which disk has which place.
    order: Vec<usize>,
    /// Of none, where it is a set of a BIOS.
    version: Option<Version>,
    /// How long each disk is, and what it begins with.
    disk: u64,
    heads: Vec<Vec<(u64, Vec<u8>)>>,
}

impl Shape {
    /// Makes a recorded array small: its superblocks and bitmaps.
    pub(crate) fn of(name: &str) -> Shape {
        let images = md_images(name);
        if images.is_empty() {
            return Shape::of_bios(name);
        }
        let heads: Vec<_> = images.iter().map(small).collect();
        let (version, _) = find(&images[0]);
        let candidates: Vec<Candidate> =
            heads.iter().map(|head| candidate(version, head)).collect();
        let said = decide(&candidates, Mode::Careful).expect("an array");
        let facts = candidates[0].superblock.facts();
        Shape {
            name: name.to_owned(),
            members: images.len(),
            layout: said.layout,
            data_offset: facts.data_offset,
            has_bitmap: facts.bitmap.is_some(),
            order: (0..images.len()).collect(),
            version: Some(version),
            disk: DISK,
            heads,
        }
    }

    /// Makes a recorded set of a BIOS small.
    fn of_bios(name: &str) -> Shape {
        let (disk, heads) = bios::small(name);
        let content = |heads: &Vec<(u64, Vec<u8>)>| {
            let mut content = vec![0; disk as usize * 512];
            for (at, bytes) in heads {
                content[*at as usize * 512..][..bytes.len()].copy_from_slice(bytes);
            }
            content
        };
        let contents: Vec<Vec<u8>> = heads.iter().map(content).collect();
        let candidates = bios::candidates(&contents).expect("they are right");
        let chosen = choose(&candidates, None).expect("a volume");
        let said = chosen.assembly(Mode::Careful).expect("an array");
        let order = said.places.iter().map(|taken| taken.member().expect("it is whole"));
        Shape {
            name: name.to_owned(),
            members: heads.len(),
            layout: said.layout,
            data_offset: chosen.start(0),
            has_bitmap: false,
            order: order.collect(),
            version: None,
            disk,
            heads,
        }
    }

    /// Says how the disks start, or why they do not.
    pub(crate) fn said(&self, disks: &[Arc<SimDisk>], mode: Mode) -> Result<Assembly, String> {
        match self.version {
            Some(_) => decide(&self.candidates(disks), mode).map_err(|refused| refused.why),
            None => {
                let chosen = choose(&bios::candidates(&contents(disks))?, None);
                let said = chosen.and_then(|chosen| chosen.assembly(mode));
                said.map_err(|refused| refused.why)
            }
        }
    }

    /// Says who is left out of a set of a BIOS, where that can start.
    pub(crate) fn left_out(&self, disks: &[Arc<SimDisk>]) -> Option<Vec<(usize, LeftOut)>> {
        match self.version {
            Some(_) => None,
            None => self.said(disks, Mode::Force).ok().map(|said| said.left_out),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.layout.len().0
    }

    pub(crate) fn candidates(&self, disks: &[Arc<SimDisk>]) -> Vec<Candidate> {
        let version = self.version.expect("it is md's");
        let read = |disk: &Arc<SimDisk>| candidate(version, &[(0, disk.content())]);
        disks.iter().map(read).collect()
    }

    /// Fails where more than one of Intel's disks was torn, or the others do not start as far as the level
    /// goes.
    pub(crate) fn has_torn_one(&self, disks: &[Arc<SimDisk>]) -> Result<(), String> {
        let contents = contents(disks);
        let torn = contents.iter().filter(|one| bios::candidates(&[one.to_vec()]).is_err()).count();
        match torn {
            1 => Ok(()),
            torn => Err(format!("{torn} disks were torn by one power cut")),
        }
    }

    /// Returns how many events each disk knows of.
    fn events(&self, disks: &[Arc<SimDisk>]) -> Vec<u64> {
        if self.version.is_some() {
            let candidates = self.candidates(disks);
            return candidates.iter().map(|one| one.superblock.facts().events).collect();
        }
        let candidates = bios::candidates(&contents(disks)).expect("they are right");
        candidates.iter().map(|one| one.member.generation().into()).collect()
    }

    /// Fails where copies differ, or parity is wrong.
    pub(crate) fn is_the_same(&self, disks: &[Arc<SimDisk>]) -> Result<(), String> {
        let sector = |leg: usize, at: Sector| {
            disks[self.order[leg]].sector(self.data_offset + Sectors(at.0))
        };
        let Layout::Parity(parity) = &self.layout else {
            for at in (0..self.len()).map(Sector) {
                let places = self.layout.places(at);
                let copies = places.iter().map(|place| sector(place.leg, place.sector));
                let copies: Vec<_> = copies.collect();
                if copies.iter().any(|copy| *copy != copies[0]) {
                    return Err(format!("copies of sector {at} differ"));
                }
            }
            return Ok(());
        };
        for row in (0..self.layout.recovery_len().0).map(Sector) {
            let stripe = parity.stripe_at(row);
            let (mut p, mut q) = (vec![0; 512], vec![0; 512]);
            for leg in stripe.data() {
                for (at, byte) in sector(leg, row).into_iter().enumerate() {
                    p[at] ^= byte;
                    q[at] ^= (0..stripe.weight(leg)).fold(byte, |byte: u8, _| {
                        byte << 1 ^ if byte >> 7 == 1 { 0x1d } else { 0 }
                    });
                }
            }
            if sector(stripe.p(), row) != p || stripe.q().is_some_and(|leg| sector(leg, row) != q) {
                return Err(format!("the parity of row {row} is wrong"));
            }
        }
        Ok(())
    }
}

fn contents(disks: &[Arc<SimDisk>]) -> Vec<Vec<u8>> {
    disks.iter().map(|disk| disk.content()).collect()
}

fn find(image: &MdImage) -> (Version, u64) {
    let len = Sectors::in_bytes(image.len);
    let read = |version: Version| {
        let at = version.place(len)?.0 * 512;
        Superblock::read(version, Sector(at / 512), &image.bytes(at, LEN)).ok()?;
        Some((version, at))
    };
    Version::ALL.into_iter().find_map(read).expect("a superblock")
}

/// Gives out what a small member begins with: superblock and bitmap, and where each lies.
fn small(image: &MdImage) -> Vec<(u64, Vec<u8>)> {
    let (version, at) = find(image);
    let mut bytes = image.bytes(at, LEN);
    let facts = Superblock::read(version, Sector(at / 512), &bytes).expect("one").facts();
    let place = version.place(Sectors(DISK)).expect("room").0;
    let size = if facts.resync_offset == 0 { DIRTY_SIZE } else { SIZE };
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let has_chunks = facts.level != 1;
    let sum_at = match version {
        Version::V0_90 => {
            put(32, &(size as u32 / 2).to_le_bytes());
            if has_chunks {
                put(260, &(CHUNK * 512).to_le_bytes());
            }
            152
        }
        _ => {
            let data = if version == Version::V1_0 { 0 } else { DATA };
            put(80, &size.to_le_bytes());
            if has_chunks {
                put(88, &CHUNK.to_le_bytes());
            }
            put(128, &data.to_le_bytes());
            put(136, &size.to_le_bytes());
            put(144, &place.to_le_bytes());
            216
        }
    };
    let len = if version == Version::V0_90 {
        LEN
    } else {
        256 + 2 * u32::from_le_bytes(bytes[220..224].try_into().expect("4")) as usize
    };
    bytes[sum_at..sum_at + 4].fill(0);
    let words = bytes[..len].chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("4")));
    let sum: u64 = words.map(u64::from).sum();
    let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
    bytes[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
    let mut heads = vec![(place, bytes)];
    if let Some(old) = facts.bitmap {
        let sync = if facts.level == 10 { size * facts.places as u64 / 2 } else { size };
        let mut header = image.bytes(old.0 * 512, HEADER);
        header[40..48].copy_from_slice(&sync.to_le_bytes());
        header[52..56].copy_from_slice(&4096_u32.to_le_bytes());
        header[56..60].copy_from_slice(&1_u32.to_le_bytes());
        // Those that were being written, all over.
        let bits = if facts.resync_offset == 0 { 0xff } else { 0 };
        header.resize(512, bits);
        heads.push((place.wrapping_add_signed(old.0 as i64 - at as i64 / 512), header));
    }
    heads
}

/// Reads what a disk with these bytes says of its array.
fn candidate(version: Version, runs: &[(u64, Vec<u8>)]) -> Candidate {
    let runs = runs.iter().map(|(at, bytes)| (at * 512, bytes.clone())).collect();
    let image = MdImage { len: DISK * 512, runs };
    let at = version.place(Sectors(DISK)).expect("room");
    let superblock = Superblock::read(version, at, &image.bytes(at.0 * 512, LEN));
    let superblock = superblock.expect("a superblock");
    let bitmap = superblock.facts().bitmap.map(|at| {
        let bytes = image.bytes(at.0 * 512, HEADER);
        Header::read(bytes[..].try_into().expect("a header")).expect("a header")
    });
    Candidate { superblock, len: Sectors(DISK), bitmap }
}

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) disks: Vec<Arc<SimDisk>>,
    pub(crate) sent: Arc<Traffic>,
    shape: Shape,
    device: Arc<MappedDevice>,
    errors: Errors,
}

impl Rig {
    /// Sets an array up over new disks of zeros.
    pub(crate) fn new(shape: &Shape, seed: u64) -> Rig {
        let world = World::with(&Schedule::Random(seed), targets::registry(), &[]);
        let disk = |heads: &Vec<(u64, Vec<u8>)>| {
            let disk = world.add_disk(Sectors(shape.disk));
            heads.iter().for_each(|(at, bytes)| disk.fill(Sector(*at), bytes));
            disk
        };
        let disks: Vec<_> = shape.heads.iter().map(disk).collect();
        let speed = [Speed::Waits, Speed::Mixed, Speed::AtOnce][seed as usize / 3 % 3];
        disks.iter().for_each(|disk| disk.set_speed(speed));
        let device = world.set_up(0, &table(shape, &disks));
        let legal = Legal::new(&vec![0; shape.len() as usize * 512]);
        let sent = Arc::new(Traffic::new(0, Arc::default(), Some(legal)));
        Rig { world, disks, sent, shape: shape.clone(), device, errors: Arc::default() }
    }

    /// Sets it up again over disks that were there before; no I/O waits.
    pub(crate) fn over(shape: &Shape, seed: u64, disks: &[Arc<SimDisk>]) -> Rig {
        Rig::try_over(shape, seed, disks, disks).unwrap_or_else(|why| panic!("{why}"))
    }

    /// As [`Rig::over`], with some of the disks, and where it may be refused.
    pub(crate) fn try_over(
        shape: &Shape,
        seed: u64,
        disks: &[Arc<SimDisk>],
        members: &[Arc<SimDisk>],
    ) -> Result<Rig, String> {
        disks.iter().for_each(|disk| disk.set_speed(Speed::AtOnce));
        let world = World::with(&Schedule::Random(seed), targets::registry(), disks);
        let device = world.try_set_up(0, &table(shape, members))?;
        let sent = Arc::new(Traffic::new(0, Arc::<Journal>::default(), None));
        let (shape, disks) = (shape.clone(), disks.to_vec());
        Ok(Rig { world, disks, sent, shape, device, errors: Arc::default() })
    }

    /// As [`Rig::over`], with a table that is loaded read-only.
    pub(crate) fn read_only(shape: &Shape, disks: &[Arc<SimDisk>]) -> Rig {
        let world = World::with(&Schedule::Random(1), targets::registry(), disks);
        world.create(0).expect("a device");
        let lines = sim_core::parse_table(&table(shape, disks)).expect("a table");
        let targets = lines.into_iter().map(|(_, spec)| spec).collect();
        let (access, base) = (sim_core::Access::ReadOnly, String::new());
        let load = Command::TableLoad { id: id(0), access, targets, base };
        world.execute(load).expect("a table");
        world.resume(0).expect("a resume");
        let device = world.device(0);
        let sent = Arc::new(Traffic::new(0, Arc::<Journal>::default(), None));
        let (shape, disks) = (shape.clone(), disks.to_vec());
        Rig { world, disks, sent, shape, device, errors: Arc::default() }
    }

    /// Returns why a table is refused.
    pub(crate) fn refused(disks: &[Arc<SimDisk>], table: &str) -> String {
        let world = World::with(&Schedule::Random(1), targets::registry(), disks);
        world.try_set_up(0, table).map(drop).expect_err("it is refused")
    }

    pub(crate) fn record(&self) {
        self.disks.iter().for_each(|disk| disk.record(self.sent.journal().clone()));
    }

    pub(crate) fn legal(&self) -> Legal {
        self.sent.legal().expect("an array is storage")
    }

    /// Runs steps to their end; the background is idle then.
    pub(crate) fn run(&self, steps: &[Step], tasks: usize) -> Result<(), String> {
        let started = start(&self.world, &self.device, &self.sent, &self.errors, steps, tasks);
        self.idle()?;
        let errors =
            std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner));
        match started.iter().all(Started::is_done) {
            true if errors.is_empty() => self.sent.verdict(),
            true => Err(format!("{errors:?} failed")),
            false => Err("a bio never ends".to_owned()),
        }
    }

    /// Writes all of it.
    pub(crate) fn write_all(&self) -> Result<(), String> {
        let bio =
            BioStep { op: Op::Write, sector: 0, len: self.shape.len(), ..crate::steps::FLUSH };
        self.run(&[Step::Bio(bio)], 1)
    }

    pub(crate) fn idle(&self) -> Result<(), String> {
        self.world.sim.run_until_idle().map_err(|stuck| stuck.to_string())
    }

    pub(crate) fn content(&self) -> Result<Vec<u8>, String> {
        let read = self.world.sim.try_block_on(read_all(self.device.clone()));
        read.map_err(|stuck| format!("a read never ends: {stuck}"))?
    }

    pub(crate) fn suspend(&self) -> Result<(), String> {
        let suspend = Command::DevSuspend { id: id(0), held: Held::Flush };
        let ended = self.world.sim.try_block_on(self.world.control.execute(suspend));
        let ended = ended.map_err(|stuck| stuck.to_string())?;
        ended.map(drop).map_err(|failure| failure.to_string())
    }

    /// Fails where superblocks do not call all members in sync and the array clean, or they differ.
    pub(crate) fn is_whole_and_clean(&self) -> Result<(), String> {
        self.shape.is_the_same(&self.disks)?;
        let said = self.shape.said(&self.disks, Mode::Careful)?;
        let events = self.shape.events(&self.disks);
        let is_clean = said.resync == targets::md::assembly::Resync::Nothing
            && said
                .places
                .iter()
                .all(|taken| matches!(taken, targets::md::assembly::Taken::InSync(_)))
            && events.iter().all(|events| *events == said.events);
        match is_clean {
            true => Ok(()),
            false => Err(format!("{:?}, {:?}", said.resync, said.places)),
        }
    }
}

fn table(shape: &Shape, disks: &[Arc<SimDisk>]) -> String {
    let numbers: Vec<String> = disks.iter().map(|disk| disk.number().to_string()).collect();
    let params = match shape.version {
        Some(_) => "0".to_owned(),
        None if shape.name.starts_with("imsm") => {
            let serials: Vec<String> = (0..disks.len()).map(bios::serial).collect();
            format!("4 volume vol0 serials {}", serials.join(","))
        }
        None => "2 volume vol0".to_owned(),
    };
    format!("0 {} md {params} {} {}", shape.len(), disks.len(), numbers.join(" "))
}
