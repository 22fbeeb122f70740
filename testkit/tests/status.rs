//! What may wait: a message, and a status that the target has to get ready for.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use sim_core::control::{Answer, Command, Report, Slot};
use sim_core::{
    Area, Args, Bio, BoxFuture, CtrError, Held, KeyText, Mapped, Reply, Runtime, Sector,
    StatusKind, StatusWriter, Target, TargetType,
};
use testkit::{World, id};

/// Counts how often it had to commit; the message `wait` is answered after a second.
struct Commits {
    count: AtomicU32,
    runtime: Arc<dyn Runtime>,
}

impl TargetType for Commits {
    const NAME: &'static str = "commits";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Commits, CtrError> {
        Ok(Commits { count: AtomicU32::new(0), runtime: args.runtime().clone() })
    }
}

impl Target for Commits {
    fn map<'a>(&'a self, _bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Completed(Ok(()))
    }
    fn prepare_status(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.runtime.sleep(Duration::from_millis(10)).await;
            self.count.fetch_add(1, SeqCst);
        })
    }
    fn message<'a>(&'a self, words: &'a [&'a str]) -> Option<Reply<'a>> {
        Some(Box::pin(async move {
            self.runtime.sleep(Duration::from_secs(1)).await;
            Ok(Some(words.join("+")))
        }))
    }
    fn status(&self, _kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        write!(out, "{}", self.count.load(SeqCst))
    }
    fn iterate_devices(&self, _each: &mut dyn FnMut(&Area)) {}
}

fn world() -> World {
    let world = World::new(5, targets::registry().with::<Commits>());
    world.set_up(0, "0 8 commits");
    world
}

fn count(world: &World, report: Report) -> String {
    let (slot, device_names, keys) = (Slot::Live, false, KeyText::Zeros);
    let command = Command::TableStatus { id: id(0), report, slot, device_names, keys };
    match world.execute(command) {
        Ok(Answer::Table(_, lines)) => lines[0].params.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_status_is_prepared_for_unless_it_is_told_not_to_or_the_device_is_suspended() {
    let world = world();
    assert_eq!(count(&world, Report::StatusNoFlush), "0");
    assert_eq!(count(&world, Report::Status), "1");
    assert_eq!(count(&world, Report::Table), "1", "the record asks for it under a lock");
    world.suspend(0, Held::Flush).unwrap();
    assert_eq!(count(&world, Report::Status), "1");
    world.resume(0).unwrap();
    assert_eq!(count(&world, Report::Status), "2");
}

#[test]
fn a_message_that_waits_holds_nobody_else_up() {
    let world = world();
    let (control, message) = (world.control.clone(), "one two".into());
    let command = Command::TargetMsg { id: id(0), sector: Sector(0), message, slot: Slot::Live };
    let waits = world.sim.start("message", async move { control.execute(command).await });
    assert_eq!(count(&world, Report::StatusNoFlush), "0");
    world.suspend(0, Held::Flush).unwrap();
    world.resume(0).unwrap();
    assert!(!waits.is_done());
    world.sim.run_until_idle().unwrap();
    assert_eq!(waits.take(), Some(Ok(Answer::Text(Some("one+two".into())))));
}
