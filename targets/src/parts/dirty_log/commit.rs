//! Commits of a dirty log: one serves whoever came before it began.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use sim_core::{Area, Bio, BlkError, BlkResult, Buffer, Flags, Sector};

use super::device::{pieces, write_at};
use super::log::{DirtyLog, Keeper};

/// How many pieces of the log are written at a time.
const AT_A_TIME: usize = 4;

/// What one commit writes.
struct Batch {
    blocks: BTreeSet<u64>,
    /// Of the log's bytes, as they are when their turn comes: what has changed meanwhile may be
    /// written too early, and is written again.
    writes: Vec<Range<u64>>,
    marked: bool,
}

/// Why a commit failed.
enum Failed {
    Write,
    Flush,
}

/// Waits until a mark is durable, and makes it so if nobody else does.
pub(crate) async fn commit<K: Keeper>(keeper: &Arc<K>, commit: u64) -> BlkResult {
    let begins = keeper.with_log(|log| {
        log.asked = log.asked.max(commit);
        !std::mem::replace(&mut log.committing, true)
    });
    if begins {
        let own = keeper.clone();
        keeper.runtime().spawn_here(Box::pin(async move { commit_all(&*own).await }));
    }
    let ended = || keeper.with_log(|log| (log.ended >= commit).then(|| log.is_durable(commit)));
    if keeper.committed().until(ended).await { Ok(()) } else { Err(BlkError::Io) }
}

/// Commits what has changed, whether somebody waits for it or not.
pub(crate) async fn commit_changes<K: Keeper>(keeper: &Arc<K>) -> BlkResult {
    let last = keeper.with_log(|log| match (log.has_changes(), log.committing) {
        (false, false) => None,
        (true, _) => Some(log.began + 1),
        (false, true) => Some(log.began),
    });
    match last {
        None => Ok(()),
        Some(last) => commit(keeper, last).await,
    }
}

/// Commits as long as somebody waits for it.
async fn commit_all<K: Keeper>(keeper: &K) {
    let next = || {
        keeper.with_log(|log| {
            if log.asked <= log.began {
                log.committing = false;
                return None;
            }
            log.began += 1;
            Some(Batch::take(log))
        })
    };
    while let Some(batch) = next() {
        let result = write_batch(keeper, &batch).await;
        let failed = keeper.with_log(|log| {
            log.ended = log.began;
            match &result {
                Ok(()) => log.durable = log.began,
                Err(failed) => {
                    log.changed.extend(batch.blocks);
                    log.marked |= batch.marked;
                    log.flush_failed |= matches!(failed, Failed::Flush);
                }
            }
            result.is_err() && !std::mem::replace(&mut log.failed, true)
        });
        if failed {
            keeper.log_has_failed();
        }
        keeper.committed().notify();
    }
}

impl Batch {
    fn take(log: &mut DirtyLog) -> Batch {
        Batch {
            writes: log.changed_bytes().into_iter().flat_map(pieces).collect(),
            blocks: std::mem::take(&mut log.changed),
            marked: std::mem::take(&mut log.marked),
        }
    }
}

async fn write_batch<K: Keeper>(keeper: &K, batch: &Batch) -> Result<(), Failed> {
    let device = keeper.log_device().expect("a core log has nothing to commit");
    let writes = batch.writes.iter().cloned().map(|bytes| write(keeper, device, bytes));
    let mut writes = stream::iter(writes).buffer_unordered(AT_A_TIME);
    let mut result = Ok(());
    while let Some(end) = writes.next().await {
        result = result.and(end);
    }
    result.map_err(|_| Failed::Write)?;
    if batch.marked {
        let flush = device.submit(Sector::ZERO, Bio::flush());
        flush.await.map_err(|_| Failed::Flush)?;
    }
    Ok(())
}

async fn write<K: Keeper>(keeper: &K, device: &Area, bytes: Range<u64>) -> BlkResult {
    let mut buffer = Buffer::take((bytes.end - bytes.start) as usize);
    keeper.with_log(|log| log.image().get_bytes(bytes.start, &mut buffer));
    write_at(device, bytes.start, &buffer, Flags::default()).await
}
