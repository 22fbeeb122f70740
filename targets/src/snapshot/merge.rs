//! `snapshot-merge <origin> <cow> <P|PO> <chunk sectors> [<#features> <features>]`: the origin as
//! the snapshot has it, while the snapshot's exceptions are brought back into it.
//!
//! The runs at the end of the store's list are copied to the origin, the origin is flushed, and
//! then the list is cut. Whenever it is interrupted, what was not cut is copied again.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, CtrError, DevNumber, Features, Limits, Mapped,
    Op, Outcome, Profile, Refusal, Sector, Sectors, Spots, StatusKind, StatusWriter, Target,
    TargetType,
};

use super::io::Place;
use super::origin::Origin;
use super::role::Role;
use super::snap::{Health, Merging, Snap};
use super::store::{Persistent, Run, Store};
use super::target::SnapTarget;
use super::tracked::Tracked;
use crate::parts::background::{Background, Round};
use crate::parts::copying::{self, Spot};
use crate::parts::held_ranges::overlap;

/// The most that is merged as one, in bytes, where a chunk is not larger.
const BATCH: u64 = 8 << 20;

/// A snapshot on its way back into its origin.
pub struct SnapshotMerge {
    target: SnapTarget,
    background: Background,
    /// A merge could not go on, since the table was loaded.
    failed: Arc<AtomicBool>,
}

impl TargetType for SnapshotMerge {
    const NAME: &'static str = "snapshot-merge";
    const VERSION: [u32; 3] = [1, 5, 0];
    const FEATURES: Features = Features { changes_below: true, ..Features::NONE };

    fn ctr(args: &mut Args<'_>) -> Result<SnapshotMerge, CtrError> {
        let target = SnapTarget::new(args, Role::Merge)?;
        Ok(SnapshotMerge { target, background: Background::default(), failed: Arc::default() })
    }
}

impl Target for SnapshotMerge {
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        Box::pin(self.target.load())
    }

    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let mut bio = self.target.place(bio);
        let SnapTarget { origin, device, cow, .. } = &self.target;
        let Some(snap) = self.target.snap() else {
            return Mapped::InFlight(Box::pin(through(origin, device, bio)));
        };
        match bio.op() {
            // What is not merged lies in the store, the rest in the origin.
            Op::Flush if bio.nr == 0 => Mapped::Remapped(device, bio.sector, bio),
            Op::Flush => Mapped::Remapped(cow, bio.sector, bio),
            // A discard says nothing of which content is to be merged.
            Op::Discard => Mapped::Completed(Ok(())),
            Op::Read => match snap.read_now(&mut bio) {
                Some(result) => Mapped::Completed(result),
                None => Mapped::InFlight(Box::pin(snap.read(bio))),
            },
            Op::Write => match snap.write_merging_now(origin, &mut bio) {
                Some(result) => Mapped::Completed(result),
                None => Mapped::InFlight(Box::pin(snap.write_merging(origin, bio))),
            },
            Op::WriteZeroes | Op::SecureErase => Mapped::Completed(Err(BlkError::NotSupported)),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        self.target.status(kind, self.failed.load(SeqCst), out)
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        self.target.measure(self.failed.load(SeqCst), out)
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.target.iterate_devices(each);
    }

    fn profile(&self) -> Profile {
        Profile { num_flush_bios: 2, ..self.target.profile() }
    }

    fn io_hints(&self, limits: &mut Limits) {
        self.target.io_hints(limits);
    }

    fn spots(&self, offset: Sector, out: &mut Spots) -> Option<Sectors> {
        self.target.spots(offset, out)
    }

    fn shown_from(&self, below: DevNumber, sector: Sector) -> Option<Vec<Sector>> {
        Some(self.target.shown_from(below, sector))
    }

    fn presuspend(&self) {
        self.background.end();
    }

    fn presuspend_undo(&self) {
        self.target.resume();
        self.start();
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.background.end();
            self.background.settled().await;
            self.target.postsuspend().await;
        })
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.target.preresume())
    }

    fn resume(&self) {
        self.target.resume();
        self.start();
    }
}

impl SnapshotMerge {
    /// Starts to merge, or goes on.
    fn start(&self) {
        // One merge at a time: one that is at work yet ends first.
        self.background.end();
        self.background.resume();
        let Some(snap) = self.target.snap() else { return };
        let (snap, origin, failed) =
            (snap.clone(), self.target.origin.clone(), self.failed.clone());
        self.background.begin().spawn(&*self.target.runtime, |round| async move {
            round.earlier_are_gone().await;
            if let Err(Failed(text)) = merge(&round, &snap, &origin).await {
                snap.log.line(text);
                // The next resume tries again, though the status says so from now on.
                failed.store(true, SeqCst);
            }
        });
    }
}

/// Sends a bio to the origin: what is left of a merge whose store is gone.
async fn through(origin: &Origin, area: &Area, bio: Bio<'_>) -> BlkResult {
    match bio.op() {
        Op::Read | Op::Flush => area.submit(bio.sector, bio).await,
        Op::Write | Op::Discard | Op::WriteZeroes | Op::SecureErase => {
            origin.write(area, bio).await
        }
    }
}

/// Why a merge cannot go on, in the kernel's words.
struct Failed(&'static str);

/// Merges until nothing is left, or the round ends.
async fn merge(round: &Round, snap: &Snap, origin: &Origin) -> Result<(), Failed> {
    while round.goes_on() {
        if let Health::Invalid(_) = snap.health() {
            snap.log.line("Snapshot is invalid: can't merge");
            break;
        }
        match snap.merge_some(origin).await? {
            Merged::Some => {}
            Merged::All => break,
        }
    }
    Ok(())
}

enum Merged {
    Some,
    All,
}

/// What the beginning of a write of a merging device needs.
enum Need<'a> {
    Cow(Sector, Sectors, Tracked<'a>),
    Origin(Sectors),
    Wait(Arc<Outcome<BlkResult>>),
}

impl Snap {
    fn need_merging(&self, sector: Sector, left: Sectors) -> Need<'_> {
        let mut state = self.state();
        if matches!(state.health, Health::Invalid(_)) {
            return Need::Origin(left);
        }
        match self.place(&state, sector, left) {
            Place::Origin(len) => Need::Origin(len),
            Place::Cow(to, len) => {
                let chunks = self.chunk.touched(sector, len);
                let merging = state.merging.as_ref();
                let merging =
                    merging.filter(|now| now.runs.iter().any(|run| overlap(run, &chunks)));
                if let Some(merging) = merging {
                    return Need::Wait(merging.merged.clone());
                }
                Need::Cow(to, len, self.track(&mut state, sector, len))
            }
        }
    }

    fn write_merging_now(&self, origin: &Origin, bio: &mut Bio<'_>) -> Option<BlkResult> {
        let mut done = Sectors::ZERO;
        while done < bio.len() {
            let (sector, left) = (bio.sector + done, bio.len() - done);
            let (result, len) = match self.need_merging(sector, left) {
                Need::Cow(to, len, _tracked) => {
                    (self.cow.submit(to, bio.part(done, len)).now().ok()?, len)
                }
                Need::Origin(len) => {
                    (origin.write_now(&self.origin, bio.part(done, len)).ok()?, len)
                }
                Need::Wait(_) => return None,
            };
            if result.is_err() {
                return Some(result);
            }
            done += len;
        }
        Some(Ok(()))
    }

    async fn write_merging(&self, origin: &Origin, mut bio: Bio<'_>) -> BlkResult {
        let mut done = Sectors::ZERO;
        while done < bio.len() {
            let (sector, left) = (bio.sector + done, bio.len() - done);
            done += match self.need_merging(sector, left) {
                Need::Cow(to, len, _tracked) => {
                    self.cow.submit(to, bio.part(done, len)).await?;
                    len
                }
                Need::Origin(len) => {
                    origin.write(&self.origin, bio.part(done, len)).await?;
                    len
                }
                Need::Wait(merged) => {
                    merged.wait().await?;
                    Sectors::ZERO
                }
            };
        }
        Ok(())
    }

    /// Merges the runs at the end of the list.
    async fn merge_some(&self, origin: &Origin) -> Result<Merged, Failed> {
        let Store::Persistent(store) = &self.store else {
            unreachable!("a transient store is not merged");
        };
        let most = (BATCH / self.chunk.sectors().bytes()).max(1);
        let runs = store.last_runs(most).await;
        let runs =
            runs.map_err(|_| Failed("Read error in exception store: shutting down merge"))?;
        if runs.is_empty() {
            return Ok(Merged::All);
        }
        // Held up to the end: a snapshot that comes into use meanwhile would not have heard of
        // what is written here.
        let _pass = origin.enter().await;
        for (old, run) in &runs {
            let (sector, len) = self.extent(*old, run.len);
            origin.protect(sector, len).await;
        }
        let merged = Arc::new(Outcome::new());
        let chunks: Vec<Range<u64>> = runs.iter().map(|(old, run)| *old..*old + run.len).collect();
        self.state().merging = Some(Merging { runs: chunks.clone(), merged: merged.clone() });
        self.untracked_in(&chunks).await;
        let result = self.bring_back(store, &runs).await;
        let mut state = self.state();
        if result.is_ok() {
            for chunk in chunks.into_iter().flatten() {
                state.exceptions.remove(chunk);
            }
        }
        state.merging = None;
        drop(state);
        merged.set(match result {
            Ok(()) => Ok(()),
            Err(_) => Err(BlkError::Io),
        });
        result.map(|()| Merged::Some)
    }

    /// Returns the sectors of a run of chunks, as far as the origin goes.
    fn extent(&self, old: u64, len: u64) -> (Sector, Sectors) {
        let (begin, end) = (self.chunk.start(old), self.chunk.start(old + len));
        let end = end.min(self.origin.size().to_sector());
        (begin, Sectors(end.0.saturating_sub(begin.0)))
    }

    async fn bring_back(&self, store: &Persistent, runs: &[(u64, Run)]) -> Result<(), Failed> {
        for (old, run) in runs {
            let (sector, len) = self.extent(*old, run.len);
            let from = Spot { area: &self.cow, sector: self.chunk.start(run.new) };
            let copied = copying::copy(from, len, &[Spot { area: &self.origin, sector }]).await;
            if copied.read_failed {
                return Err(Failed("Read error: shutting down merge."));
            }
            if copied.failed != 0 {
                return Err(Failed("Write error: shutting down merge."));
            }
        }
        // The list is cut only when what it was about is durable elsewhere.
        let flushed = self.origin.submit(Sector::ZERO, Bio::flush()).await;
        flushed.map_err(|_| Failed("Flush after merge failed: shutting down merge"))?;
        let count = runs.iter().map(|(_, run)| run.len as usize).sum();
        let cleared = store.clear_last(count).await;
        cleared.map_err(|_| Failed("Write error in exception store: shutting down merge"))
    }
}
