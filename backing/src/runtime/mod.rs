//! What carries bios out: threads, tasks, a clock, and the thread that flushes an image.

pub(crate) mod block_on;
pub(crate) mod blocking;
pub(crate) mod flusher;
mod key_ring;
pub(crate) mod pool;
mod task;
mod timer;
