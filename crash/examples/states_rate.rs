//! How many states of a log a second are made, and how many are made and read by one thread.
//!
//! `cargo run --release -p dmsim-crash --example states_rate LOG [BASE] [states]`

use std::fs::File;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use crash::{Plan, Promises, Recording, State, States};

/// How much of a state is read, in bytes: what a checker that looks at a superblock does.
const LOOK: usize = 64 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let log = args.next().ok_or("expected a log")?;
    let base = args.next().filter(|base| !base.is_empty()).map(File::open).transpose()?;
    let states = args.next().map_or(Ok(100_000), |number| number.parse())?;
    let begin = Instant::now();
    let recording = Arc::new(Recording::new(File::open(log)?, base, Promises::default())?);
    let entries = recording.entries().len();
    println!("{entries} entries read in {:.3} s", begin.elapsed().as_secs_f64());
    let plan = Plan { states, seed: 1, from_mark: 0, to_mark: usize::MAX };
    let rate = |look: &dyn Fn(&State)| {
        let begin = Instant::now();
        let count = States::new(recording.clone(), &plan).inspect(|state| look(state)).count();
        (count, count as f64 / begin.elapsed().as_secs_f64())
    };
    let (count, made) = rate(&|state| {
        black_box(state);
    });
    println!("{count} states, no two alike: {made:.0} a second");
    let len = LOOK.min(usize::try_from(recording.size().bytes())?);
    let (_, read) = rate(&|state| {
        let mut bytes = vec![0; len];
        recording.read(state, 0, &mut bytes).expect("the log can be read");
        black_box(bytes);
    });
    println!("the first {len} bytes of each read: {read:.0} a second");
    Ok(())
}
