//! What threads wait with, on primitives that have the scheduler behind them.

#[path = "../../../src/sync/gate.rs"]
pub(crate) mod gate;
pub(crate) mod primitives;
#[path = "../../../src/sync/signal.rs"]
pub(crate) mod signal;
