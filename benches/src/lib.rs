//! Benchmarks of dmsim.
