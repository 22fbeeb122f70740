//! Tests of what threads meet at, each taken one way. They lie apart from their sources, which
//! `tests/interleavings` compiles a second time.

mod gate;
mod graph;
mod signal;
