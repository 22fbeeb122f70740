//! Tests for targets: a seeded executor, simulated disks, reference models, and a suite that
//! holds any target to what all must do.
//!
//! [`conformance!`] is where the author of a target starts: one line stamps the tests.
//! [`check`](crate::check()) tests what a table makes of a bio, as text. The rest is what these
//! are made of, for tests of one's own:
//!
//! A [`World`] is a control plane over simulated disks: the same [`Control`](sim_core::Control)
//! and the same targets as in production, run by [`Sim`], which has one thread, virtual time and
//! a seed that makes every choice. [`Model`] says what the bytes must be. [`search`] runs a
//! property over generated cases, and prints the one line that repeats a case which fails.
//! [`Fault`] breaks I/O; [`Explorer`] makes every state that a power cut can leave from the record
//! of a run, and [`Legal`] says which contents are right then. A [`Schedule`] says who comes next:
//! at random, by priorities, or exactly; [`exhaustive`] tries them all.
//!
//! ```
//! use sim_core::{Bio, BlkResult, Sector, Sectors};
//! use testkit::{World, send};
//!
//! let world = World::new(7, targets::registry());
//! let disk = world.add_disk(Sectors(64));
//! let device = world.set_up(0, "0 16 linear 7:0 32");
//! let result: BlkResult = world.sim.block_on(send(device, Bio::write(Sector(1), &[7; 512])));
//! assert_eq!(result, Ok(()));
//! assert_eq!(disk.content()[33 * 512..34 * 512], [7; 512]);
//! // Not flushed: the power may fail and take it away.
//! assert_eq!(disk.durable(Sector(33)), [0; 512]);
//! ```

#![forbid(unsafe_code)]

mod check;
pub mod conformance;
mod crash;
mod disk;
mod io;
mod md_images;
mod model;
mod search;
mod shape;
mod sim;
mod story;
mod traffic;
mod watch;
mod world;

pub use check::{CHECK_DISK, check, outcome};
pub use crash::legal::Legal;
pub use crash::{Crash, Cut, Explorer, Plan, Witness};
pub use disk::fault::{Damage, Fault, FaultSpan};
pub use disk::journal::{Entry, Event, Journal, Write};
pub use disk::latency::Latency;
pub use disk::state::{Counts, Speed};
pub use disk::{DISK_MAJOR, SimDisk};
pub use io::Io;
pub use md_images::{
    MdImage, bios_arrays, bios_images, bios_pattern, md_arrays, md_images, write_bios_images,
    write_md_images,
};
pub use model::{DeviceBelow, Kind, Line, Model, Place, Step, specs};
pub use search::{FROM, SECONDS, SEED, each_seed, search};
pub use shape::Shape;
pub use sim::core::{MAX_STEPS, Stuck};
pub use sim::handle::Handle;
pub use sim::schedule::{Choice, Run, Schedule, exhaustive, shrink};
pub use sim::{Sim, Started};
pub use sim_core::Rng;
pub use traffic::{BioStep, Traffic, pattern, read_all};
pub use watch::WATCHDOG;
pub use world::{World, id, send};

/// A sector's length in memory.
pub(crate) const SECTOR: usize = sim_core::SECTOR_SIZE as usize;
