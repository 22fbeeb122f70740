//! What threads meet at. The sources that take it from here are compiled a second time in
//! `tests/interleavings`, where a scheduler that tries interleavings stands behind these names.

pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, atomic};

pub(crate) use arc_swap::{ArcSwapOption, Guard};
