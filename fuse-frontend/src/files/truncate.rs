//! Truncation: an open file ends for its user where the user says, and goes on from there as a
//! regular file does, with zeros wherever nothing was written.
//!
//! Zeros are made when the end moves past old bytes, and for those alone: what lies behind the end
//! is left as it is. Nobody else writes to the device meanwhile, so that whoever writes into the
//! gap writes after the zeros.

use std::sync::Arc;

use sim_core::{BlkResult, Buffer, Errno};

use super::end::End;
use super::ranges::Change;
use super::reply::Reply;
use super::request::{Alone, Disk, Durability, Turn};

impl Disk {
    /// Moves the end of an open file to `size`, and answers with what `done` returns. Past the
    /// device's end there is nothing: [`Errno::FBIG`]. A file that is `in_use` may have writes under
    /// way, which come before or after it.
    pub fn truncate<T: Send>(
        self: &Arc<Disk>,
        end: &Arc<End>,
        size: u64,
        in_use: bool,
        done: impl FnOnce() -> T + Send + 'static,
        reply: impl Reply<T>,
    ) {
        let device = self.size();
        if let Err(errno) = self.check_truncate(end, size, device) {
            return reply.error(errno);
        }
        if end.leaves_gap(size) {
            let (disk, end) = (self.clone(), end.clone());
            return self.start(reply, async move {
                let alone = disk.alone().await;
                disk.move_end(&alone, &end, size).await?;
                Ok(done())
            });
        }
        let is_earlier = move |end: &End| end.get().is_some() || size < device;
        if in_use && is_earlier(end) {
            let (disk, end) = (self.clone(), end.clone());
            return self.start(reply, async move {
                // A write that ends later would move the end on to where it was.
                let alone = disk.alone().await;
                match end.leaves_gap(size) {
                    true => disk.move_end(&alone, &end, size).await?,
                    false => end.set(size),
                }
                Ok(done())
            });
        }
        if is_earlier(end) {
            end.set(size);
        }
        reply.ok(&done());
    }

    /// As [`write`](Self::write), by an open file that may have been truncated.
    pub fn write_to(
        self: &Arc<Disk>,
        end: &Arc<End>,
        at: u64,
        data: &[u8],
        durability: Durability,
        reply: impl Reply<u32>,
    ) {
        if !end.leaves_gap(at) {
            return self.write_reaching(Some(end), at, data, durability, reply);
        }
        let span = match self.span_to_write(at, data.len()) {
            Ok(Some(span)) => span,
            Ok(None) => return reply.ok(&0),
            Err(errno) => return reply.error(errno),
        };
        let data = Buffer::copy_of(&data[..span.inner().len()]);
        let (disk, end) = (self.clone(), end.clone());
        self.start(reply, async move {
            let alone = disk.alone().await;
            disk.move_end(&alone, &end, at).await?;
            disk.write_bytes(span, &data, durability.flags(), Turn::Held(&alone)).await?;
            let written = data.len() as u32;
            end.reach(at + u64::from(written));
            Ok(written)
        });
    }

    /// As [`allocate`](Self::allocate), by an open file that may have been truncated: where a
    /// regular file would become longer by it, the end moves.
    pub fn allocate_to(
        self: &Arc<Disk>,
        end: &Arc<End>,
        mode: u32,
        at: u64,
        len: u64,
        reply: impl Reply<()>,
    ) {
        let (change, range) = match self.check_allocate(mode, at, len) {
            Ok((change, range))
                if change.lengthens(mode) && end.leaves_gap(range.end) && !range.is_empty() =>
            {
                (change, range)
            }
            Ok(_) | Err(_) => return self.allocate(mode, at, len, reply),
        };
        let (disk, end) = (self.clone(), end.clone());
        self.start(reply, async move {
            let alone = disk.alone().await;
            match change {
                Change::Reserve => {
                    // First, as it may be refused; and again, as zeros may be made by giving room
                    // back.
                    disk.change(change, range.clone(), Turn::Held(&alone)).await?;
                    disk.move_end(&alone, &end, range.end).await?;
                }
                Change::Punch | Change::Zero => disk.move_end(&alone, &end, range.start).await?,
            }
            disk.change(change, range.clone(), Turn::Held(&alone)).await?;
            end.reach(range.end);
            Ok(())
        });
    }

    fn check_truncate(&self, end: &End, size: u64, device: u64) -> Result<(), Errno> {
        match () {
            () if self.is_gone() => Err(Errno::NODEV),
            () if size > device => Err(Errno::FBIG),
            () if end.leaves_gap(size) => self.check_write(0, device),
            () => Ok(()),
        }
    }

    /// Moves an end on to `to`: what it leaves behind reads as zeros.
    async fn move_end(&self, alone: &Alone<'_>, end: &End, to: u64) -> BlkResult {
        // Asked again: others have moved it until this one was alone.
        let Some(before) = end.get().filter(|before| *before < to) else { return Ok(()) };
        let change = if self.can_punch() { Change::Punch } else { Change::Zero };
        // The device may be smaller by now.
        let to_there = to.min(self.size());
        if before < to_there {
            self.clear(change, before..to_there, Turn::Held(alone)).await?;
        }
        end.reach(to);
        Ok(())
    }
}
