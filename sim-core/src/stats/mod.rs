//! Statistics of what a device is sent, by regions and areas: the kernel's `dm-stats`.
//!
//! A region is a range of the device, cut into areas of one length; each area has counters. They are
//! made and read by messages (`message.rs`). What is counted is a bio as the table cuts it: one that
//! crosses targets counts once for each, and once in each area that it touches. A flush has no
//! sectors, and is not counted.
//!
//! A device that counts nothing pays nothing: the first region takes the flattened maps away that
//! pass through the device, and a bio looks for regions only on its way through the tables.

mod area;
mod message;
mod region;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::{Bio, Errno, Op, Runtime, Sector, Sectors};
pub(crate) use message::{Message, parse};
use region::Region;

/// The statistics of one device.
pub(crate) struct Stats {
    /// There is a region. Says the same as `regions`, for less.
    on: AtomicBool,
    /// Nothing where there is no region.
    regions: ArcSwapOption<Regions>,
    /// One change at a time.
    changing: Mutex<()>,
    /// Where the bio ended that came last, and which way it went: `sector << 1 | write`.
    last: AtomicU64,
    runtime: Arc<dyn Runtime>,
}

/// The regions of a device, by their numbers; at least one.
pub(crate) struct Regions {
    list: Vec<Arc<Region>>,
    /// A region counts nanoseconds.
    precise: bool,
}

/// Which way the data of a bio go: what is no read is a write, as for the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

/// The time by the clock of most regions, and by the one that a precise region asks for.
#[derive(Clone, Copy)]
struct Clock {
    coarse: Duration,
    precise: Duration,
}

/// What is told of a bio.
#[derive(Clone, Copy)]
struct Counted {
    way: Way,
    sector: Sector,
    len: Sectors,
    /// It begins where the one before it ended, and goes the same way.
    merged: bool,
}

/// A bio that is counted as being in flight until this goes.
pub(crate) struct InFlight<'a> {
    stats: &'a Stats,
    regions: &'a Regions,
    bio: Counted,
    since: Clock,
    handed_back: bool,
}

impl Stats {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Stats {
        Stats {
            on: AtomicBool::new(false),
            regions: ArcSwapOption::empty(),
            changing: Mutex::new(()),
            last: AtomicU64::new(u64::MAX),
            runtime,
        }
    }

    /// Tells whether anything is counted.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Returns the regions that a bio is to be counted in. It keeps them to its end: a region that
    /// is made meanwhile knows nothing of it.
    pub(crate) fn regions(&self) -> Option<Arc<Regions>> {
        if self.is_on() { self.regions.load_full() } else { None }
    }

    /// As [`regions`](Self::regions), for a bio that ends before `carry_out` does.
    pub(crate) fn with_regions<T>(&self, carry_out: impl FnOnce(Option<&Regions>) -> T) -> T {
        if !self.is_on() {
            return carry_out(None);
        }
        carry_out(self.regions.load().as_deref())
    }

    /// Counts a bio that begins now; nothing for one without sectors.
    pub(crate) fn begin<'a>(&'a self, regions: &'a Regions, bio: &Bio<'_>) -> Option<InFlight<'a>> {
        if bio.is_empty() {
            return None;
        }
        let way = if bio.op() == Op::Read { Way::Read } else { Way::Write };
        // Who comes between the two is taken for no neighbour: the count is a guess in the kernel, too.
        let merged = self.last.load(Relaxed) == way.at(bio.sector);
        self.last.store(way.at(bio.sector.wrapping_add(bio.len())), Relaxed);
        let bio = Counted { way, sector: bio.sector, len: bio.len(), merged };
        let since = self.clock(regions);
        regions.each(&bio, |region, index, _| region.begin(index, way, since.of(region)));
        Some(InFlight { stats: self, regions, bio, since, handed_back: false })
    }

    fn clock(&self, regions: &Regions) -> Clock {
        let coarse = self.runtime.coarse_now();
        let precise = if regions.precise { self.runtime.now() } else { Duration::ZERO };
        Clock { coarse, precise }
    }

    /// Carries out a message. `turned` is called, with nothing else going on here, when the first
    /// region has come or the last one has gone.
    pub(crate) fn perform(
        &self,
        message: Message,
        turned: impl FnOnce(),
    ) -> Result<Option<String>, Errno> {
        match message {
            Message::Create(shape) => {
                let region = Region::new(shape)?;
                self.change(|list| add(list, region), turned).map(|id| Some(id.to_string()))
            }
            Message::Delete(id) => {
                let remove = |list: &mut Vec<Arc<Region>>| {
                    let at = list.binary_search_by_key(&id, |region| region.id);
                    list.remove(at.map_err(|_| Errno::NOENT)?);
                    Ok(())
                };
                self.change(remove, turned).map(|()| None)
            }
            Message::Clear(id) => {
                self.look(id, |region, now| region.clear(now))?;
                Ok(Some(String::new()))
            }
            Message::List(program) => Ok(Some(self.list(program.as_deref()))),
            Message::Print { id, areas, clear } => {
                self.look(id, |region, now| region.print(areas, clear, now)).map(Some)
            }
            Message::SetAux(id, text) => {
                self.look(id, |region, _| region.set_aux(text)).map(|()| None)
            }
        }
    }

    /// Puts other regions in place of those that are there.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Arc<Region>>) -> Result<T, Errno>,
        turned: impl FnOnce(),
    ) -> Result<T, Errno> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.regions.load_full();
        let mut list = before.as_ref().map(|regions| regions.list.clone()).unwrap_or_default();
        let done = change(&mut list)?;
        let on = !list.is_empty();
        let precise = list.iter().any(|region| region.is_precise());
        self.regions.store(on.then(|| Arc::new(Regions { list, precise })));
        self.on.store(on, Relaxed);
        if on != before.is_some() {
            turned();
        }
        Ok(done)
    }

    fn look<T>(&self, id: u32, look: impl FnOnce(&Region, Duration) -> T) -> Result<T, Errno> {
        // Two who print and clear come one after the other.
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let regions = self.regions.load_full().ok_or(Errno::NOENT)?;
        let at = regions.list.binary_search_by_key(&id, |region| region.id);
        let region = &regions.list[at.map_err(|_| Errno::NOENT)?];
        Ok(look(region, self.clock(&regions).of(region)))
    }

    fn list(&self, program: Option<&str>) -> String {
        let regions = self.regions.load_full();
        let regions = regions.iter().flat_map(|regions| &regions.list);
        let asked = regions.filter(|region| program.is_none_or(|name| name == region.program()));
        asked.map(|region| region.line()).collect()
    }
}

/// Adds a region under the lowest free number, and returns that.
fn add(list: &mut Vec<Arc<Region>>, mut region: Region) -> Result<u32, Errno> {
    let taken = (0..).zip(list.iter()).take_while(|(id, region)| *id == region.id).count();
    region.id = u32::try_from(taken).map_err(|_| Errno::NFILE)?;
    let id = region.id;
    list.insert(taken, Arc::new(region));
    Ok(id)
}

impl Regions {
    /// Calls `each` with every area that a bio touches, its index, and how many sectors are in it.
    fn each(&self, bio: &Counted, mut each: impl FnMut(&Region, usize, Sectors)) {
        for region in &self.list {
            region.touched(bio.sector, bio.len, |index, len| each(region, index, len));
        }
    }
}

impl Way {
    /// Returns what `Stats::last` says where a bio that goes this way ended at a sector.
    fn at(self, sector: Sector) -> u64 {
        sector.0 << 1 | u64::from(self == Way::Write)
    }
}

impl Clock {
    fn of(&self, region: &Region) -> Duration {
        if region.is_precise() { self.precise } else { self.coarse }
    }
}

impl InFlight<'_> {
    /// Takes it back that the bio has begun: it comes again.
    pub(crate) fn hand_back(mut self) {
        self.handed_back = true;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let InFlight { stats, regions, bio, since, handed_back } = self;
        if *handed_back {
            if bio.merged {
                stats.last.store(bio.way.at(bio.sector), Relaxed);
            }
            return regions.each(bio, |region, index, _| region.take_back(index, bio.way));
        }
        let now = stats.clock(regions);
        regions.each(bio, |region, index, len| {
            let (now, since) = (now.of(region), since.of(region));
            region.end(index, bio, len, now, now.saturating_sub(since));
        });
    }
}
