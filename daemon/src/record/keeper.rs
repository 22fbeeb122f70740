//! Takes notes of what changes, and has them written.
//!
//! A note is an entry in memory; one thread writes what was noted since it wrote last, and
//! flushes it, for all that wait for it at that moment.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backing::{ImageChange, block_on};
use sim_core::control::{Noted, Recorder};
use sim_core::{BoxFuture, DevNumber};

use super::convert::{convert, take_over};
use super::entry::{Entry, Forgotten, ImageRecord, Started};
use super::folder::{DiskFolder, Folder};
use super::log::{Log, MARGIN, NAME, Note};
use super::past::{Meant, Past, PastDevice, PastImage, superseded};
use super::present::{NotedDevice, Present};
use crate::fault::{About, Fault};

/// How long what is noted may wait for the end of a change under way: a client may begin a batch,
/// and go to sleep.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps the record in line with an instance.
pub(crate) struct Keeper {
    /// The record's path, as it is told.
    shown: String,
    state: Mutex<State>,
    /// Something is to be written, or was.
    turn: Condvar,
    log: Mutex<Log>,
    patience: Duration,
}

#[derive(Default)]
struct State {
    present: Present,
    /// What is not on the disk.
    notes: Vec<Note>,
    /// Counts notes; those of commands that have `ended` may be written; `tried` of them were
    /// tried to be, and `durable` are on the disk.
    noted: u64,
    ended: u64,
    tried: u64,
    durable: u64,
    /// Counts the wishes to write; `answered` is the last one for which that was tried.
    asked: u64,
    answered: u64,
    /// Why the last try failed.
    failure: Option<String>,
    /// What cannot be put into words, since the last commit.
    unwritable: Option<String>,
    /// Who waits for `answered`.
    waiting: Vec<Waker>,
    writing: bool,
    /// Changes under way, each of which commits when it is done.
    changing: usize,
    closed: bool,
    /// Nobody writes any more.
    gone: bool,
}

impl Keeper {
    /// Opens the record in a folder, and takes over what lies in the folder `before` that earlier
    /// versions kept it in. What is on record is past from now on. The second fault is no obstacle:
    /// it says what of the record was damaged.
    pub(crate) fn open(
        dir: &Path,
        before: Option<&Path>,
    ) -> Result<(Keeper, Option<Fault>), Fault> {
        let folder = |dir: &Path| -> Box<dyn Folder> { Box::new(DiskFolder(dir.to_owned())) };
        Keeper::open_in(folder(dir), before.map(folder), MARGIN)
    }

    pub(super) fn open_in(
        folder: Box<dyn Folder>,
        before: Option<Box<dyn Folder>>,
        margin: u64,
    ) -> Result<(Keeper, Option<Fault>), Fault> {
        let shown = folder.shown(NAME);
        let (mut log, mut damage) = open_log(folder, margin)?;
        if let Some(before) = before {
            let (mut before, damaged) = open_log(before, margin)?;
            take_over(&mut log, &mut before)?;
            damage = damage.or(damaged);
        }
        let superseded = superseded(&log).about(&shown)?;
        let gone = superseded.into_iter().map(|id| Note::new(&Entry::Gone(id)));
        let gone = gone.collect::<Result<Vec<_>, _>>().about(&shown)?;
        if !gone.is_empty() {
            log.commit(&gone).about(&shown)?;
        }
        let contents = log.contents();
        let past = contents.past().into_iter().map(|(id, _)| id).collect();
        let present = Present::new(past, contents.highest());
        let state = Mutex::new(State { present, ..State::default() });
        let (turn, log) = (Condvar::new(), Mutex::new(log));
        Ok((Keeper { shown, state, turn, log, patience: PATIENCE }, damage))
    }

    /// Tells whether a write would have something to do at once.
    #[cfg(test)]
    pub(crate) fn is_asked(&self) -> bool {
        let state = self.state();
        !state.closed && state.asked != state.answered
    }

    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Keeper {
        Keeper { patience, ..self }
    }

    /// Writes what is noted, whenever it is to be written, for ever.
    pub(crate) fn run(&self) {
        // A commit that waits for a thread that has ended would wait for ever.
        let _gone = Gone(self);
        loop {
            self.write();
        }
    }

    /// Counts what was there before and is not restored yet.
    pub(crate) fn pending(&self) -> usize {
        self.state().present.past().len()
    }

    /// Returns what was there before and is not restored yet.
    pub(crate) fn past(&self) -> Result<Past, Fault> {
        // What a restore has left of a device is read from the file too.
        let _told_where_it_was_noted = block_on(self.commit());
        let left = self.state().present.past().clone();
        Past::read(&lock(&self.log), &left).about(&self.shown)
    }

    /// Finds a number in the tables of a device that stood for something else when they were loaded than
    /// it does now, by what `now` says of it; where nothing has it now, loading the table tells.
    pub(crate) fn stranger(
        &self,
        past: &Past,
        device: &PastDevice,
        now: impl Fn(DevNumber) -> Option<Meant>,
    ) -> Option<(DevNumber, Meant, Meant)> {
        device.names().find_map(|(table, number)| {
            let there = self.state().present.id_of(number)?;
            let (id, meant) = past.meant(number, table)?;
            // What came between the two is in the place of what was there before.
            let is_it = (id..table).contains(&there);
            let now = now(number).filter(|now| !is_it && *now != meant)?;
            Some((number, now, meant))
        })
    }

    /// Drops the record of what was there before.
    pub(crate) fn forget(&self) {
        self.noting(|present| {
            present.forget();
            vec![Entry::Forgotten(Forgotten {})]
        });
    }

    /// Drops something from the past that is there in another way.
    pub(crate) fn image_is_back(&self, past: &PastImage) {
        self.noting(|present| present.is_back(past.id));
    }

    /// Drops something from the past that is there in another way.
    pub(crate) fn device_is_back(&self, past: &PastDevice) {
        self.noting(|present| present.is_back(past.entry.id));
    }

    /// Begins to attach an image again.
    pub(crate) fn returning<'a>(&'a self, past: &'a PastImage) -> Returning<'a> {
        self.state().present.begin_image(past.image.dev, past.id);
        Returning { keeper: self, past }
    }

    /// Begins to build a device again: until it is back, it is on record as past, and nothing of
    /// it as present.
    pub(crate) fn restoring<'a>(&'a self, past: &'a PastDevice) -> Restoring<'a> {
        let begun = self.state().present.begin_device(past);
        Restoring { keeper: self, past, begun }
    }

    /// Ends a command: what was noted so far is on record all together, or not at all.
    pub(crate) fn end_command(&self) {
        self.state().end_command();
    }

    /// Begins a change: what it notes is written when it commits, not before.
    pub(crate) fn change(&self) -> Change<'_> {
        self.state().changing += 1;
        Change(self)
    }

    /// Takes note of an image. Called with the list of images locked.
    pub(crate) fn note_image(&self, change: ImageChange<'_>) {
        self.noting(|present| match change {
            ImageChange::Attached(image) => present.image(ImageRecord::from(image)),
            ImageChange::Gone(number) => present.image_gone(number),
        });
    }

    /// Leaves the record as it is from now on: what a stop takes apart stays on record.
    pub(crate) fn close(&self) {
        let _told_where_it_was_noted = block_on(self.commit());
        let mut state = self.state();
        state.closed = true;
        state.wake_all();
        let wait = self.turn.wait_while(state, |state| state.writing);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes [`close`](Self::close) back. What was noted meanwhile is written with what comes.
    pub(crate) fn reopen(&self) {
        self.state().closed = false;
        self.turn.notify_all();
    }

    fn noting(&self, note: impl FnOnce(&mut Present) -> Vec<Entry>) {
        let mut state = self.state();
        let entries = note(&mut state.present);
        for entry in entries {
            match Note::new(&entry) {
                Ok(mut note) => {
                    note.expect_more();
                    state.notes.push(note);
                    state.noted += 1;
                }
                Err(error) => state.unwritable = Some(error.to_string()),
            }
        }
        self.write_if_nobody_will(&mut state);
    }

    /// Has notes written that no change under way is going to commit.
    fn write_if_nobody_will(&self, state: &mut State) {
        if state.noted == state.tried {
            return;
        }
        if state.changing == 0 {
            state.end_command();
            state.asked += 1;
        }
        // Also the thread's patience begins.
        self.turn.notify_all();
    }

    /// Waits until something is to be written, and writes it.
    pub(crate) fn write(&self) {
        let mut state = self.wait_for_work();
        let (asked, noted) = (state.asked, state.ended);
        let count = usize::try_from(noted - state.durable).expect("they are in memory");
        let later = state.notes.split_off(count);
        let notes = std::mem::replace(&mut state.notes, later);
        state.writing = true;
        drop(state);
        let mut log = lock(&self.log);
        let result = if notes.is_empty() { Ok(()) } else { log.commit(&notes) };
        let mut state = self.state();
        (state.tried, state.answered, state.writing) = (noted, asked, false);
        match &result {
            Ok(()) => (state.durable, state.failure) = (noted, None),
            Err(error) => {
                tracing::error!(file = self.shown, %error, "changes are not on record");
                state.failure = Some(error.to_string());
                state.notes.splice(..0, notes);
            }
        }
        state.wake_all();
        self.turn.notify_all();
        drop(state);
        if result.is_ok()
            && let Err(error) = log.tidy()
        {
            tracing::warn!(file = self.shown, %error, "the record cannot be made smaller");
        }
    }

    fn wait_for_work(&self) -> MutexGuard<'_, State> {
        let idle = |state: &mut State| state.closed || state.asked == state.answered;
        let nothing = |state: &mut State| idle(state) && state.noted == state.tried;
        loop {
            let waited = self.turn.wait_while(self.state(), nothing);
            let state = waited.unwrap_or_else(PoisonError::into_inner);
            let waited = self.turn.wait_timeout_while(state, self.patience, idle);
            let (mut state, late) = waited.unwrap_or_else(PoisonError::into_inner);
            if !late.timed_out() {
                return state;
            }
            if !state.closed && state.noted > state.tried {
                state.end_command();
                state.asked += 1;
                return state;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn end_command(&mut self) {
        if let Some(last) = self.notes.last_mut() {
            last.end();
        }
        self.ended = self.noted;
    }

    fn wake_all(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Recorder for Keeper {
    fn note(&self, minor: u32, device: Option<Noted<'_>>) {
        let Some(noted) = device else {
            return self.noting(|present| present.device_gone(minor));
        };
        // A long table takes its time to be written down: not with the lock held.
        let written = self.state().present.written(minor);
        match NotedDevice::new(&noted, &written) {
            Some(noted) => self.noting(|present| present.device(minor, noted)),
            None => {
                let why = format!("device `{}`: a target panicked over its table line", noted.name);
                tracing::error!(why, "a change is not on record");
                self.state().unwritable = Some(why);
            }
        }
    }

    fn commit(&self) -> BoxFuture<'_, Result<(), String>> {
        let mut state = self.state();
        state.end_command();
        let noted = state.noted;
        if noted > state.durable {
            state.asked += 1;
            self.turn.notify_all();
        }
        let asked = state.asked;
        Box::pin(Commit { keeper: self, noted, asked })
    }
}

/// Waits until what was noted is durable.
struct Commit<'a> {
    keeper: &'a Keeper,
    noted: u64,
    asked: u64,
}

impl Future for Commit<'_> {
    type Output = Result<(), String>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.keeper.state();
        let shown = &self.keeper.shown;
        let result = if self.noted <= state.durable || state.closed {
            match state.unwritable.take() {
                None => Ok(()),
                Some(why) => Err(format!("{shown}: {why}")),
            }
        } else if state.gone {
            Err(format!("{shown}: the thread that writes it has ended"))
        } else if self.asked <= state.answered {
            Err(format!("{shown}: {}", state.failure.as_deref().unwrap_or("not written")))
        } else {
            state.waiting.push(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(result)
    }
}

/// A change under way.
pub(crate) struct Change<'a>(&'a Keeper);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.changing -= 1;
        // What came after its commit, or where it ended without one.
        self.0.write_if_nobody_will(&mut state);
    }
}

/// An image that is about to be attached again.
pub(crate) struct Returning<'a> {
    keeper: &'a Keeper,
    past: &'a PastImage,
}

impl Drop for Returning<'_> {
    fn drop(&mut self) {
        self.keeper.state().present.end_image(self.past.image.dev);
    }
}

/// A device that is being built again; where it is dropped it is as past as before.
pub(crate) struct Restoring<'a> {
    keeper: &'a Keeper,
    past: &'a PastDevice,
    begun: bool,
}

impl Restoring<'_> {
    /// Takes note that the device is back, but for its inactive table where that is `left`.
    pub(crate) fn done(self, left: bool) {
        self.keeper.noting(|present| present.end_device(self.past, left));
    }
}

impl Drop for Restoring<'_> {
    fn drop(&mut self) {
        if self.begun {
            self.keeper.noting(|present| present.abandon_device(self.past.entry.minor));
        }
    }
}

/// Tells who waits when the thread that writes ends.
struct Gone<'a>(&'a Keeper);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.gone = true;
        state.wake_all();
    }
}

/// Opens a log, lets all that is in it be past, and adds what a `state.json` beside it has.
fn open_log(folder: Box<dyn Folder>, margin: u64) -> Result<(Log, Option<Fault>), Fault> {
    let shown = folder.shown(NAME);
    let (mut log, damage) = Log::open(folder, margin)?;
    if log.contents().has_present() {
        let started = Note::new(&Entry::Started(Started { pid: std::process::id() }));
        log.commit(&[started.about(&shown)?]).about(&shown)?;
    }
    convert(&mut log)?;
    Ok((log, damage))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
