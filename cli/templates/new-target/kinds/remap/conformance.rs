//! What every target must do, and what this one does.

use sim_core::Registry;

use crate_name::TargetName;

// A test for each part of the suite: the model under any schedule, splits, reloads, garbled tables,
// the flattened map, failing I/O, power cuts, suspends, discards and FUA, messages, bios that are
// given up, and mapped devices below that get their table late, move, or fail.
testkit::conformance!(TargetName, "0 512 target-word a 16");

#[test]
fn chunks_lie_in_reverse_order() {
    let registry = Registry::new().with::<TargetName>();
    testkit::check(&registry, "0 512 target-word a 16", "R 0+8, W 130+2", "R a 400+8, W a 274+2");
    // A bio that crosses the end of a chunk.
    testkit::check(&registry, "0 512 target-word a 16", "R 120+16", "R a 272+8, R a 520+8");
}
