//! `snapshot <origin> <cow> <P|PO|N> <chunk sectors> [<#features> <features>]`: what a device was
//! when the snapshot was made, with changes of its own.
//!
//! A chunk that differs from the origin has an *exception*: its content lies in the store on the
//! cow device. A write of the snapshot makes one, and so does a write of the origin
//! (`snapshot-origin`), which first copies the chunk into every snapshot that has none.
//! `snapshot-merge` has the same words, and brings the exceptions back into the origin.
//!
//! `P` keeps the store's metadata on the cow device; `PO` does, and reports that it is full as
//! `Overflow`; `N` forgets it. A chunk size of zero is what the store has, or 32. Features:
//! `discard_zeroes_cow`, `discard_passdown_origin`.

mod chunk;
mod copy;
mod io;
mod merge;
mod origin;
mod role;
mod snap;
mod spots;
pub mod store;
mod table;
mod target;
mod tracked;
mod wait;

use std::fmt;

use sim_core::{
    Area, Args, Bio, BlkError, BlkResult, BoxFuture, CtrError, DevNumber, Limits, Mapped, Op,
    Profile, Refusal, Sector, Sectors, Spots, StatusKind, StatusWriter, Target, TargetType,
};

pub use chunk::ChunkSize;
pub use merge::SnapshotMerge;
pub use origin::SnapshotOrigin;
pub use table::{Duplicate, ExceptionTable, Lookup, MAX_NEW, MAX_OLD};

use self::role::Role;
use self::target::SnapTarget;

/// A snapshot of a device.
pub struct Snapshot {
    target: SnapTarget,
}

impl TargetType for Snapshot {
    const NAME: &'static str = "snapshot";
    const VERSION: [u32; 3] = [1, 16, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Snapshot, CtrError> {
        Ok(Snapshot { target: SnapTarget::new(args, Role::Snapshot)? })
    }
}

impl Target for Snapshot {
    fn read_metadata(&mut self) -> BoxFuture<'_, Result<(), CtrError>> {
        Box::pin(self.target.load())
    }

    fn map<'a>(&'a self, bio: Bio<'a>) -> Mapped<'a> {
        let mut bio = self.target.place(bio);
        let Some(snap) = self.target.snap() else { return Mapped::Completed(Err(BlkError::Io)) };
        match bio.op() {
            // What the snapshot was written lies in its store, and nowhere else.
            Op::Flush => Mapped::Remapped(&self.target.cow, bio.sector, bio),
            Op::Read => match snap.read_now(&mut bio) {
                Some(result) => Mapped::Completed(result),
                None => Mapped::InFlight(Box::pin(snap.read(bio))),
            },
            Op::Write => match snap.write_now(&mut bio) {
                Some(result) => Mapped::Completed(result),
                None => Mapped::InFlight(Box::pin(snap.write(bio))),
            },
            Op::Discard => Mapped::InFlight(Box::pin(self.discard(bio))),
            Op::WriteZeroes | Op::SecureErase => Mapped::Completed(Err(BlkError::NotSupported)),
        }
    }

    fn status(&self, kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        self.target.status(kind, false, out)
    }

    fn measure(&self, out: &mut StatusWriter<'_>) -> fmt::Result {
        self.target.measure(false, out)
    }

    fn iterate_devices(&self, each: &mut dyn FnMut(&Area)) {
        self.target.iterate_devices(each);
    }

    /// The store: of the origin, a snapshot is the past.
    fn writes_to(&self, each: &mut dyn FnMut(&Area)) {
        each(&self.target.cow);
    }

    fn profile(&self) -> Profile {
        Profile { num_flush_bios: 1, ..self.target.profile() }
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

    /// The suspend may be given up while another target of the table goes on with its part.
    fn presuspend_undo(&self) {
        self.target.resume();
    }

    fn postsuspend(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.target.postsuspend())
    }

    fn preresume(&self) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.target.preresume())
    }

    fn resume(&self) {
        self.target.resume();
    }
}

impl Snapshot {
    /// Drops what a range holds in the store: it reads as zeros there. The second copy of a
    /// discard is the origin's, where it is passed down.
    async fn discard(&self, bio: Bio<'_>) -> BlkResult {
        let Some(snap) = self.target.snap() else { return Err(BlkError::Io) };
        match bio.nr {
            0 => snap.discard(bio.sector, bio.len()).await,
            _ => snap.pass_discard_down(bio).await,
        }
    }
}
