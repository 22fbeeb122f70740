//! What the targets `snapshot` and `snapshot-merge` have in common: how one comes to have its store,
//! or gives it to another.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use sim_core::{
    Area, Arg, Args, Bio, CtrError, Discarded, Errno, Limits, Locked, Op, Profile, Refusal,
    Runtime, Sector, Sectors, StatusKind, StatusWriter, TargetEvents, TargetLog,
};

use super::ChunkSize;
use super::origin::{Claim, Member, Origin, Origins, Pairing};
use super::role::Role;
use super::snap::{Health, Parts, Snap};
use super::store::{Loaded, Persistent, Refused, Store, Transient, Usage};
use super::table::ExceptionTable;
use crate::lines;
use crate::lines::snapshot::{COW_WORD, Features, Line, STORE_WORD, Status, StoreKind, WhenFull};
use crate::lines::y_or_n;

const NO_MERGE: &str = "Snapshot exception store does not support snapshot-merge.";

/// A target, and the place that it has among the origin's snapshots.
pub(super) struct SnapTarget {
    /// The range of the origin that the device shows, by the kernel's account.
    pub(super) shown: Area,
    /// Where the target begins on its device: the sectors of the origin are counted from the
    /// device's first, as the kernel's target does.
    pub(super) start: Sector,
    /// The whole origin.
    pub(super) device: Area,
    pub(super) cow: Area,
    kind: StoreKind,
    /// Nothing where the line says zero.
    chunk: Option<ChunkSize>,
    features: Features,
    pub(super) origin: Arc<Origin>,
    member: Arc<Member>,
    pub(super) runtime: Arc<dyn Runtime>,
    events: TargetEvents,
    pub(super) log: TargetLog,
}

impl SnapTarget {
    /// Reads the table line, and takes a place among the origin's snapshots.
    pub(super) fn new(args: &mut Args<'_>, role: Role) -> Result<SnapTarget, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let shown = Area::new(line.origin.clone(), Sector::ZERO, args.target_len());
        let cow = Area::whole(line.cow.clone());
        let (origin_number, cow_number) = (shown.number(), cow.number());
        let (cow_word, store_word) = (args.at(COW_WORD, "")?, args.at(STORE_WORD, "")?);
        let origin = args.shared::<Origins>().of(origin_number);
        let member = origin.join(cow_number, |pairing| {
            check_pairing(&pairing, role, cow_word)?;
            if role == Role::Merge && line.is_transient() {
                return Err(store_word.error("a persistent store", NO_MERGE));
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
        let log = args.log().of_module("snapshots");
        let Line { store: kind, chunk, features, .. } = line;
        Ok(SnapTarget {
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
        if (self.kind, self.chunk) == (StoreKind::Transient, None) {
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
            StoreKind::Persistent(_) => {
                let blocks = blocks(&[&self.shown, &self.cow]);
                let (cow, chunk, runtime) = (self.cow.clone(), self.chunk, self.runtime.clone());
                let loaded = Persistent::load(cow, chunk, &blocks, runtime, &self.log).await?;
                let store = Store::Persistent(Arc::new(loaded.store));
                Ok(Loaded { store, exceptions: loaded.exceptions })
            }
            StoreKind::Transient => {
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
            when_full: when_full(self.kind),
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

    /// Writes the device's status or its line. `failed` where a merge could not go on.
    pub(super) fn status(
        &self,
        kind: StatusKind,
        failed: bool,
        out: &mut StatusWriter<'_>,
    ) -> fmt::Result {
        match kind {
            StatusKind::Info => write!(out, "{}", self.info(failed)),
            StatusKind::Table => {
                let (store, chunk) = match (self.snap(), self.claim()) {
                    (Some(snap), Claim::Has) => (kind_of(&snap.store, self.kind), Some(snap.chunk)),
                    _ => (self.kind, None),
                };
                let word = |area| lines::device_word(area, out);
                let (origin, cow) = (word(&self.shown)?, word(&self.cow)?);
                write!(out, "{}", Line { origin, cow, store, chunk, features: self.features })
            }
        }
    }

    /// Writes what is measured of the device. `failed` where a merge could not go on.
    pub(super) fn measure(&self, failed: bool, out: &mut StatusWriter<'_>) -> fmt::Result {
        let word = |area| lines::device_word(area, out);
        let (origin, cow) = (word(&self.shown)?, word(&self.cow)?);
        let (valid, overflowed) = match self.info(failed) {
            Status::Invalid => (false, false),
            Status::Overflow => (true, true),
            Status::Used { .. } | Status::MergeFailed | Status::Unknown => (true, false),
        };
        write!(out, "snap_origin_name={origin},snap_cow_name={cow},snap_valid={},", y_or_n(valid))?;
        write!(
            out,
            "snap_merge_failed={},snapshot_overflowed={}",
            y_or_n(failed),
            y_or_n(overflowed)
        )
    }

    fn info(&self, failed: bool) -> Status {
        let size = self.cow.size();
        if self.claim() == Claim::Waits {
            return Status::Used { allocated: Sectors::ZERO, size, metadata: Sectors::ZERO };
        }
        let Some(snap) = self.snap() else { return Status::Invalid };
        match (snap.health(), failed) {
            (Health::Invalid(_), _) => Status::Invalid,
            (Health::Good | Health::Overflowed, true) => Status::MergeFailed,
            (Health::Overflowed, false) => Status::Overflow,
            (Health::Good, false) => {
                let Usage { allocated, metadata } = snap.usage();
                Status::Used { allocated, size, metadata }
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
            discarded: if discard_zeroes_cow { Discarded::Zeros } else { Discarded::Anything },
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
    pub(super) async fn preresume(&self) -> Result<(), Refusal> {
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
    fn source_in(&self, pairing: &Pairing) -> Result<Option<Arc<Member>>, Refusal> {
        let (Some(source), Some(_)) = (&pairing.source, &pairing.destination) else {
            return Ok(None);
        };
        if Arc::ptr_eq(source, &self.member) {
            let why = "Unable to resume snapshot source until handover completes.";
            return Err(self.log.refusal(Errno::INVAL, why));
        }
        if !source.suspended.load(SeqCst) {
            let why = "Unable to perform snapshot handover until source is suspended.";
            return Err(self.log.refusal(Errno::INVAL, why));
        }
        Ok(Some(source.clone()))
    }

    fn come_into_use(&self, pairing: &Pairing) -> Result<(), Refusal> {
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

impl Drop for SnapTarget {
    fn drop(&mut self) {
        if self.origin.leave(&self.member) {
            self.log.line("Cancelling snapshot handover.");
        }
    }
}

fn when_full(kind: StoreKind) -> WhenFull {
    match kind {
        StoreKind::Persistent(when) => when,
        StoreKind::Transient => WhenFull::Invalidate,
    }
}

/// Returns the kind of a store that may have been made by another table line.
fn kind_of(store: &Store, line: StoreKind) -> StoreKind {
    match store {
        Store::Persistent(_) => StoreKind::Persistent(when_full(line)),
        Store::Transient(_) => StoreKind::Transient,
    }
}

fn blocks(areas: &[&Area]) -> Vec<Sectors> {
    areas.iter().map(|area| area.limits().logical_block()).collect()
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
