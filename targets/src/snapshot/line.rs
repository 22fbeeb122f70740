//! What the table lines of `snapshot` and `snapshot-merge` have in common: their words, and how
//! a target comes to have its store, or gives it to another.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use sim_core::{
    Area, Arg, Args, Bio, CtrError, Errno, Limits, Locked, Op, Profile, Runtime, Sector, Sectors,
    StatusKind, StatusWriter, TargetEvents, TargetLog,
};

use super::ChunkSize;
use super::origin::{Claim, Member, Origin, Origins, Pairing, Role};
use super::snap::{Health, Parts, Snap, WhenFull};
use super::store::{Loaded, Persistent, Refused, Store, Transient};
use super::table::ExceptionTable;

const STORE: &str = "Couldn't create exception store";
const NO_MERGE: &str = "Snapshot exception store does not support snapshot-merge.";

/// A line with its words, and the place that it has among the origin's snapshots.
pub(super) struct Line {
    /// The range of the origin that the device shows, by the kernel's account.
    shown: Area,
    /// Where the target begins on its device: the sectors of the origin are counted from the
    /// device's first, as the kernel's target does.
    start: Sector,
    /// The whole origin.
    pub(super) device: Area,
    pub(super) cow: Area,
    kind: Kind,
    /// Nothing where the line says zero.
    chunk: Option<ChunkSize>,
    features: Features,
    pub(super) origin: Arc<Origin>,
    member: Arc<Member>,
    pub(super) runtime: Arc<dyn Runtime>,
    events: TargetEvents,
    pub(super) log: TargetLog,
}

/// The store's kind: the third word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Persistent(WhenFull),
    Transient,
}

#[derive(Clone, Copy, Debug, Default)]
struct Features {
    discard_zeroes_cow: bool,
    discard_passdown_origin: bool,
}

impl Line {
    /// Reads the words, in the order of the kernel's checks, and takes a place among the origin's
    /// snapshots.
    pub(super) fn read(args: &mut Args<'_>, role: Role) -> Result<Line, CtrError> {
        const TOO_FEW: &str = "requires 4 or more arguments";
        args.at_least(4, TOO_FEW)?;
        let features = Features::read(args)?;
        let (origin_word, cow_word) = (args.next(TOO_FEW)?, args.next(TOO_FEW)?);
        let (kind_word, chunk_word) = (args.next(TOO_FEW)?, args.next(TOO_FEW)?);
        let len = args.target_len();
        let shown = args.area(origin_word, Sector::ZERO, len, "Cannot get origin device")?;
        let cow = Area::whole(args.device(cow_word, "Cannot get COW device")?);
        let (origin_number, cow_number) = (shown.number(), cow.number());
        if origin_number == cow_number {
            let same = "COW device cannot be the same as origin device";
            return Err(cow_word.error("another device than the origin", same));
        }
        let log = args.log().of_module("snapshots");
        let kind = Kind::read(kind_word, &args.log())?;
        let chunk = read_chunk(chunk_word, &[&shown, &cow])?;
        let origin = args.shared::<Origins>().of(origin_number);
        let member = origin.join(cow_number, |pairing| {
            check_pairing(&pairing, role, cow_word)?;
            if role == Role::Merge && kind == Kind::Transient {
                return Err(kind_word.error("a persistent store", NO_MERGE));
            }
            let claim = if pairing.source.is_some() { Claim::Waits } else { Claim::Has };
            Ok(Arc::new(Member {
                role,
                cow: cow_number,
                active: AtomicBool::new(false),
                suspended: AtomicBool::new(true),
                snap: OnceLock::new(),
                claim: Locked::new(claim),
            }))
        })?;
        let (runtime, events) = (args.runtime().clone(), args.events());
        let (device, start) = (shown.whole_device(), args.target_start());
        Ok(Line {
            shown,
            start,
            device,
            cow,
            kind,
            chunk,
            features,
            origin,
            member,
            runtime,
            events,
            log,
        })
    }

    /// Reads the store, unless another target hands it over later.
    pub(super) async fn load(&mut self) -> Result<(), CtrError> {
        if self.claim() == Claim::Waits {
            return Ok(());
        }
        if (self.kind, self.chunk) == (Kind::Transient, None) {
            return Err(CtrError::new("Chunk size not set").arg(3));
        }
        let loaded = self.load_store().await.map_err(|Refused { errno, detail }| {
            CtrError::new("Failed to read snapshot metadata").errno(errno).arg(1).detail(detail)
        })?;
        if loaded.exceptions.is_none() {
            self.log.line("Snapshot is marked invalid.");
        }
        let snap = Snap::new(self.parts(), loaded.store, loaded.exceptions);
        assert!(self.member.snap.set(snap).is_ok(), "a store is loaded once");
        Ok(())
    }

    async fn load_store(&self) -> Result<Loaded<Store>, Refused> {
        match self.kind {
            Kind::Persistent(_) => {
                let blocks = blocks(&[&self.shown, &self.cow]);
                let (cow, chunk, runtime) = (self.cow.clone(), self.chunk, self.runtime.clone());
                let loaded = Persistent::load(cow, chunk, &blocks, runtime, &self.log).await?;
                let store = Store::Persistent(Arc::new(loaded.store));
                Ok(Loaded { store, exceptions: loaded.exceptions })
            }
            Kind::Transient => {
                let chunk = self.chunk.expect("a chunk size is asked for first");
                let store = Store::Transient(Transient::new(self.cow.clone(), chunk));
                Ok(Loaded { store, exceptions: Some(ExceptionTable::default()) })
            }
        }
    }

    fn parts(&self) -> Parts {
        Parts {
            origin: self.device.clone(),
            end: self.start + self.shown.size(),
            cow: self.cow.clone(),
            role: self.member.role,
            when_full: self.kind.when_full(),
            runtime: self.runtime.clone(),
            events: self.events.clone(),
            log: self.log.clone(),
        }
    }

    /// Moves a bio to where it goes on the origin.
    pub(super) fn place<'b>(&self, bio: Bio<'b>) -> Bio<'b> {
        let sector = self.start + bio.sector.from_start();
        if bio.op() == Op::Flush { bio } else { bio.at(sector) }
    }

    /// Returns the snapshot: none before it is handed over, and for ever where that was cancelled.
    pub(super) fn snap(&self) -> Option<&Arc<Snap>> {
        self.member.snap.get()
    }

    /// Writes the device's status or its line. `merge` says what has become of a merge.
    pub(super) fn status(
        &self,
        kind: StatusKind,
        merge: Option<&str>,
        out: &mut StatusWriter<'_>,
    ) -> fmt::Result {
        match kind {
            StatusKind::Info => self.info(merge, out),
            StatusKind::Table => {
                out.device(&self.shown)?;
                write!(out, " ")?;
                out.device(&self.cow)?;
                match (self.snap(), self.claim()) {
                    (Some(snap), Claim::Has) => {
                        let (kind, chunk) = (self.kind.of(&snap.store), snap.chunk.sectors());
                        write!(out, " {kind} {chunk}{}", self.features)
                    }
                    _ => write!(out, " {} 0{}", self.kind, self.features),
                }
            }
        }
    }

    fn info(&self, merge: Option<&str>, out: &mut StatusWriter<'_>) -> fmt::Result {
        if self.claim() == Claim::Waits {
            return write!(out, "0/{} 0", self.cow.size());
        }
        let Some(snap) = self.snap() else { return write!(out, "Invalid") };
        match (snap.health(), merge) {
            (Health::Invalid(_), _) => write!(out, "Invalid"),
            (Health::Good | Health::Overflowed, Some(text)) => write!(out, "{text}"),
            (Health::Overflowed, None) => write!(out, "Overflow"),
            (Health::Good, None) => {
                let usage = snap.usage();
                write!(out, "{}/{} {}", usage.allocated, self.cow.size(), usage.metadata)
            }
        }
    }

    pub(super) fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.shown);
        each(&self.cow);
    }

    pub(super) fn profile(&self) -> Profile {
        let Features { discard_zeroes_cow, discard_passdown_origin } = self.features;
        Profile {
            num_discard_bios: u32::from(discard_zeroes_cow) + u32::from(discard_passdown_origin),
            map_may_be_repeated: true,
            ..Profile::default()
        }
    }

    pub(super) fn io_hints(&self, limits: &mut Limits) {
        let Some(snap) = self.snap().filter(|_| self.features.discard_zeroes_cow) else { return };
        let chunk = u32::try_from(snap.chunk.sectors().0).expect("a chunk size fits 32 bits");
        // The kernel takes the number of sectors for one of bytes here.
        limits.discard_granularity = chunk.max(limits.physical_block_size);
        limits.max_discard_sectors = chunk;
    }

    pub(super) async fn postsuspend(&self) {
        if let Some(snap) = self.snap() {
            snap.settle().await;
        }
        self.member.suspended.store(true, SeqCst);
    }

    /// Takes the store over from another target, if there is one that has it, and comes into use.
    pub(super) async fn preresume(&self) -> Result<(), Errno> {
        let cow = self.member.cow;
        self.source_in(&self.origin.sharing(cow))?;
        if self.member.active.load(SeqCst) {
            return Ok(());
        }
        // Asked again when nobody comes or goes: it may be another one by then.
        self.origin.change(cow, |pairing| self.come_into_use(&pairing)).await
    }

    /// Returns the target that hands its store over, if there is one; fails where it cannot do that
    /// yet, or where this one is to.
    fn source_in(&self, pairing: &Pairing) -> Result<Option<Arc<Member>>, Errno> {
        let (Some(source), Some(_)) = (&pairing.source, &pairing.destination) else {
            return Ok(None);
        };
        if Arc::ptr_eq(source, &self.member) {
            self.log.line("Unable to resume snapshot source until handover completes.");
            return Err(Errno::INVAL);
        }
        if !source.suspended.load(SeqCst) {
            self.log.line("Unable to perform snapshot handover until source is suspended.");
            return Err(Errno::INVAL);
        }
        Ok(Some(source.clone()))
    }

    fn come_into_use(&self, pairing: &Pairing) -> Result<(), Errno> {
        let source = self.source_in(pairing)?;
        let source = source.filter(|_| self.claim() == Claim::Waits);
        if let Some((source, from)) =
            source.as_ref().and_then(|from| Some((from, from.snap.get()?)))
        {
            *source.claim.lock() = Claim::Gave;
            let taken = self.member.snap.set(from.hand_over(self.parts()));
            assert!(taken.is_ok(), "a store is handed over once");
            *self.member.claim.lock() = Claim::Has;
        }
        self.member.active.store(true, SeqCst);
        Ok(())
    }

    fn claim(&self) -> Claim {
        *self.member.claim.lock()
    }

    pub(super) fn resume(&self) {
        self.member.suspended.store(false, SeqCst);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.origin.leave(&self.member) {
            self.log.line("Cancelling snapshot handover.");
        }
    }
}

impl Features {
    fn read(args: &mut Args<'_>) -> Result<Features, CtrError> {
        const UNKNOWN: &str = "Unrecognised feature requested";
        const ALONE: &str = "discard_passdown_origin feature depends on discard_zeroes_cow";
        let mut features = Features::default();
        let words = args.group(4, 2, "Invalid number of feature arguments")?;
        for word in &words {
            match word.text().to_ascii_lowercase().as_str() {
                "discard_zeroes_cow" => features.discard_zeroes_cow = true,
                "discard_passdown_origin" => features.discard_passdown_origin = true,
                _ => return Err(word.error("a feature of snapshots", UNKNOWN)),
            }
        }
        match (features.discard_passdown_origin, features.discard_zeroes_cow, words.last()) {
            (true, false, Some(word)) => Err(word.error("both features", ALONE)),
            _ => Ok(features),
        }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Features { discard_zeroes_cow, discard_passdown_origin } = *self;
        match (discard_zeroes_cow, discard_passdown_origin) {
            (false, _) => Ok(()),
            (true, false) => f.write_str(" 1 discard_zeroes_cow"),
            (true, true) => f.write_str(" 2 discard_zeroes_cow discard_passdown_origin"),
        }
    }
}

impl Kind {
    fn read(word: Arg<'_>, log: &TargetLog) -> Result<Kind, CtrError> {
        let refused = |what: &str| Err(word.error(what, STORE));
        let mut letters = word.text().chars().map(|letter| letter.to_ascii_uppercase());
        match (letters.next(), letters.next()) {
            (Some('P'), None) => Ok(Kind::Persistent(WhenFull::Invalidate)),
            (Some('P'), Some('O')) => Ok(Kind::Persistent(WhenFull::Overflow)),
            (Some('P'), Some(_)) => {
                let options = &word.text()[1..];
                log.of_module("persistent snapshot")
                    .line(format_args!("Unsupported persistent store option: {options}"));
                refused("`P` or `PO`")
            }
            // What follows an N is ignored, as the kernel does.
            (Some('N'), _) => Ok(Kind::Transient),
            _ => refused("`P`, `PO` or `N`"),
        }
    }
}

impl Kind {
    fn when_full(self) -> WhenFull {
        match self {
            Kind::Persistent(when) => when,
            Kind::Transient => WhenFull::Invalidate,
        }
    }

    /// Returns the kind of a store that may have been another line's.
    fn of(self, store: &Store) -> Kind {
        match store {
            Store::Persistent(_) => Kind::Persistent(self.when_full()),
            Store::Transient(_) => Kind::Transient,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Persistent(WhenFull::Invalidate) => "P",
            Kind::Persistent(WhenFull::Overflow) => "PO",
            Kind::Transient => "N",
        })
    }
}

fn blocks(areas: &[&Area]) -> Vec<Sectors> {
    areas.iter().map(|area| area.limits().logical_block()).collect()
}

/// Reads the chunk size; nothing for zero.
fn read_chunk(word: Arg<'_>, areas: &[&Area]) -> Result<Option<ChunkSize>, CtrError> {
    let chunk = word.u32(STORE)?;
    if chunk == 0 {
        return Ok(None);
    }
    let size = ChunkSize::new(Sectors(chunk.into()), &blocks(areas));
    size.map(Some).map_err(|why| word.error(why, STORE))
}

/// Refuses a third user of a store, and a second merge (`__validate_exception_handover`).
fn check_pairing(pairing: &Pairing, role: Role, word: Arg<'_>) -> Result<(), CtrError> {
    if pairing.count == 2 || pairing.destination.is_some() {
        let kernel = "Snapshot cow pairing for exception table handover failed";
        return Err(word.error("a store that no two tables use already", kernel));
    }
    let Some(source) = &pairing.source else { return Ok(()) };
    match (role, &pairing.merge) {
        (Role::Snapshot, _) => Ok(()),
        (Role::Merge, Some(_)) => {
            Err(word.error("an origin without a merge", "A snapshot is already merging."))
        }
        (Role::Merge, None) if source.is_transient() => {
            Err(word.error("a persistent store", NO_MERGE))
        }
        (Role::Merge, None) => Ok(()),
    }
}
