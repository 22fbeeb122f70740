//! `snapshot-origin <dev>`: a device whose old content its snapshots keep.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};

use futures_util::lock::Mutex as AsyncMutex;
use sim_core::{
    Area, Args, Bio, BlkResult, CtrError, DevNumber, Flat, Gate, Locked, Mapped, Op, Pass, Profile,
    Sector, Sectors, Spots, StatusKind, StatusWriter, Target, TargetType,
};

use super::role::Role;
use super::snap::Snap;
use super::store::Store;
use super::wait::Wait;
use crate::lines::{self, snapshot_origin::Line};
use crate::parts::lock::lock;

/// The origins of an instance, by the device below them.
#[derive(Default)]
pub(super) struct Origins(Mutex<HashMap<DevNumber, Weak<Origin>>>);

impl Origins {
    /// Returns the origin on a device: the same for all who ask, as long as one of them is there.
    pub(super) fn of(&self, number: DevNumber) -> Arc<Origin> {
        let mut origins = lock(&self.0);
        origins.retain(|_, origin| origin.strong_count() > 0);
        if let Some(origin) = origins.get(&number).and_then(Weak::upgrade) {
            return origin;
        }
        let origin = Arc::new(Origin::default());
        origins.insert(number, Arc::downgrade(&origin));
        origin
    }
}

/// A device with snapshots.
#[derive(Default)]
pub(super) struct Origin {
    /// Writes of the origin pass here. Closed while a snapshot comes into use: a write that has
    /// not heard of it ends first.
    gate: Gate,
    members: RwLock<Vec<Arc<Member>>>,
    /// One snapshot at a time comes into use.
    changing: AsyncMutex<()>,
}

/// A snapshot target, as its origin knows it.
pub(super) struct Member {
    pub(super) role: Role,
    /// The device of the store.
    pub(super) cow: DevNumber,
    /// Resumed once: the origin's writes wait for its copies.
    pub(super) active: AtomicBool,
    pub(super) suspended: AtomicBool,
    /// Nothing before the store is loaded, or handed over.
    pub(super) snap: OnceLock<Arc<Snap>>,
    pub(super) claim: Locked<Claim>,
}

/// What a member has to do with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The store is the member's.
    Has,
    /// It is handed over at the resume.
    Waits,
    /// Whoever was to hand it over is gone.
    Cancelled,
    /// It was handed over to another.
    Gave,
}

/// The members that share a store.
#[derive(Default)]
pub(super) struct Pairing {
    /// The one in use.
    pub(super) source: Option<Arc<Member>>,
    /// The one that is to take it over.
    pub(super) destination: Option<Arc<Member>>,
    /// How many there are.
    pub(super) count: usize,
    /// A merge of the same origin, whatever its store.
    pub(super) merge: Option<Arc<Member>>,
}

impl Pairing {
    /// Finds the members whose store is on this device (`__find_snapshots_sharing_cow`).
    fn of(members: &[Arc<Member>], cow: DevNumber) -> Pairing {
        let mut pairing = Pairing::default();
        for member in members {
            if member.role == Role::Merge {
                pairing.merge = Some(member.clone());
            }
            if member.cow != cow {
                continue;
            }
            pairing.count += 1;
            match member.active.load(SeqCst) {
                true => pairing.source = Some(member.clone()),
                false => pairing.destination = Some(member.clone()),
            }
        }
        pairing
    }
}

impl Origin {
    fn members(&self) -> RwLockReadGuard<'_, Vec<Arc<Member>>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn members_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Member>>> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a snapshot in, unless `join` refuses to for those that share its store: what it has
    /// looked at is so until the snapshot is there.
    pub(super) fn join<E>(
        &self,
        cow: DevNumber,
        join: impl FnOnce(Pairing) -> Result<Arc<Member>, E>,
    ) -> Result<Arc<Member>, E> {
        let mut members = self.members_mut();
        let member = join(Pairing::of(&members, cow))?;
        members.push(member.clone());
        Ok(member)
    }

    /// Lets a snapshot go, and tells whether a handover of its store was cancelled by that.
    pub(super) fn leave(&self, member: &Arc<Member>) -> bool {
        let mut members = self.members_mut();
        let Pairing { source, destination, .. } = Pairing::of(&members, member.cow);
        members.retain(|other| !Arc::ptr_eq(other, member));
        let source = source.filter(|source| Arc::ptr_eq(source, member));
        let destination = destination.filter(|_| source.is_some());
        destination.inspect(|destination| *destination.claim.lock() = Claim::Cancelled).is_some()
    }

    /// Finds the members whose store is on this device.
    pub(super) fn sharing(&self, cow: DevNumber) -> Pairing {
        Pairing::of(&self.members(), cow)
    }

    /// Calls `change` with the members whose store is on this device while no write of the origin
    /// is under way, and while no member comes or goes.
    pub(super) async fn change<T>(&self, cow: DevNumber, change: impl FnOnce(Pairing) -> T) -> T {
        let _one = self.changing.lock().await;
        self.gate.close();
        let _opens = OpenOnDrop(&self.gate);
        self.gate.drained().await;
        let members = self.members_mut();
        change(Pairing::of(&members, cow))
    }

    /// Lets a merge write to the origin for as long as the pass is held.
    pub(super) async fn enter(&self) -> Pass<'_> {
        self.gate.enter().await.expect("the gate of an origin is never taken down")
    }

    /// Carries out a write of the origin at once, or hands it back where it has to wait.
    pub(super) fn write_now<'b>(
        &self,
        area: &Area,
        mut bio: Bio<'b>,
    ) -> Result<BlkResult, Bio<'b>> {
        let Some(_pass) = self.gate.try_enter() else { return Err(bio) };
        let (sector, len) = (bio.sector, bio.len());
        let protected = |member: &Arc<Member>| match member.guarded() {
            Some(snap) => snap.is_protected(sector, len),
            None => true,
        };
        if !self.members().iter().all(protected) {
            return Err(bio);
        }
        if let Ok(result) = area.submit(sector, bio.reborrow()).now() {
            return Ok(result);
        }
        Err(bio)
    }

    /// Carries out a write of the origin when every snapshot has what it needs.
    pub(super) async fn write(&self, area: &Area, bio: Bio<'_>) -> BlkResult {
        let _pass = self.enter().await;
        self.protect(bio.sector, bio.len()).await;
        area.submit(bio.sector, bio).await
    }

    /// Copies what a write of the origin to this range is about to change, into every snapshot.
    pub(super) async fn protect(&self, sector: Sector, len: Sectors) {
        loop {
            let snaps: Vec<Arc<Snap>> =
                self.members().iter().filter_map(|member| member.guarded().cloned()).collect();
            let waits: Vec<Wait> =
                snaps.iter().flat_map(|snap| snap.protect(sector, len)).collect();
            if waits.is_empty() {
                return;
            }
            for wait in waits {
                wait.end().await;
            }
        }
    }
}

/// Opens a gate when dropped.
struct OpenOnDrop<'a>(&'a Gate);

impl Drop for OpenOnDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Member {
    /// Returns the snapshot if the origin's writes must not change what it shows.
    fn guarded(&self) -> Option<&Arc<Snap>> {
        let active = self.role == Role::Snapshot && self.active.load(SeqCst);
        self.snap.get().filter(|_| active)
    }

    pub(super) fn is_transient(&self) -> bool {
        self.snap.get().is_some_and(|snap| matches!(snap.store, Store::Transient(_)))
    }
}

/// The origin of snapshots.
pub struct SnapshotOrigin {
    /// The range that the device shows, by the kernel's account.
    shown: Area,
    device: Area,
    /// Where the target begins on its device: the sectors below are counted from the device's
    /// first, as the kernel's target does.
    start: Sector,
    origin: Arc<Origin>,
}

impl TargetType for SnapshotOrigin {
    const NAME: &'static str = "snapshot-origin";
    const VERSION: [u32; 3] = [1, 9, 0];

    fn ctr(args: &mut Args<'_>) -> Result<SnapshotOrigin, CtrError> {
        let line = lines::parse(args, |words, devices| Line::parse(words, devices))?;
        let shown = Area::new(line.device, Sector::ZERO, args.target_len());
        let origin = args.shared::<Origins>().of(shown.number());
        let (device, start) = (shown.whole_device(), args.target_start());
        Ok(SnapshotOrigin { shown, device, start, origin })
    }
}

impl Target for SnapshotOrigin {
    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let sector = self.start + bio.sector.from_start();
        match bio.op() {
            Op::Flush => Mapped::Remapped(&self.device, Sector::ZERO, bio),
            Op::Read => Mapped::Remapped(&self.device, sector, bio),
            Op::Write | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
                match self.origin.write_now(&self.device, bio.at(sector)) {
                    Ok(result) => Mapped::Completed(result),
                    Err(bio) => Mapped::InFlight(Box::pin(self.origin.write(&self.device, bio))),
                }
            }
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        match kind {
            StatusKind::Info => Ok(()),
            StatusKind::Table => {
                let device = lines::device_word(&self.shown, out)?;
                write!(out, "{}", Line { device })
            }
        }
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.shown);
    }

    fn profile(&self) -> Profile {
        Profile { num_flush_bios: 1, map_may_be_repeated: true, ..Profile::default() }
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        let sector = self.start + offset.from_start();
        out.at(&self.device, sector, "data");
        Some(self.shown.size() - offset.from_start())
    }

    fn flatten(&self, op: Op, offset: Sector) -> Flat<'_> {
        match op {
            Op::Read => {
                let sector = self.start + offset.from_start();
                Flat::Device(&self.device, sector, self.shown.size() - offset.from_start())
            }
            _ => Flat::Opaque,
        }
    }
}
