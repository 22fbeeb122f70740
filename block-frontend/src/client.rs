//! The daemon's end.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sim_core::DevNumber;

use crate::node::{Error, Node, Shown, Whole};
use crate::ublk::{Content, Owner, Ublk};
use crate::wire::{Answer, Ask, Outcome, Request, send};

/// How long an answer of the helper is waited for.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long [`Nodes::sync`] is waited for: there may be much to write.
pub const SYNCED_WITHIN: Duration = Duration::from_secs(120);

/// How often it is looked whether an answer is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// For how many times as long as it took, what was found of open nodes is recent.
const RECENT_FOR: u32 = 10;

/// The block nodes of an instance, made by a helper process that runs [`serve`](crate::serve) at
/// the other end of a socket.
///
/// Methods block, at most for [`ANSWER_WITHIN`] unless they say otherwise, and may be called by several threads: what is
/// asked of one node waits for nothing that is asked of another. When it is dropped, the helper
/// takes all nodes away.
#[derive(Debug)]
pub struct Nodes {
    ublk: Option<Ublk>,
    shared: Arc<Connection>,
    limit: Duration,
    /// How often nodes were open when that was looked for last.
    counted: Mutex<Option<Counted>>,
}

#[derive(Debug)]
struct Counted {
    counts: HashMap<DevNumber, u32>,
    begun: Instant,
    took: Duration,
    /// What [`Tree::opens`](crate::Tree::opens) had said by then.
    opens: u64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    /// Held while a line is written.
    writing: Mutex<()>,
    next: AtomicU64,
    /// Who waits for which answer; `None` once the helper has ended.
    waiting: Mutex<Option<Waiting>>,
}

impl Counted {
    fn of(&self, node: Node) -> u32 {
        self.counts.get(&node.dev).copied().unwrap_or(0)
    }

    /// Tells whether nobody has opened or closed a node since, and so little time has passed that
    /// another look would cost much more.
    fn is_recent(&self, opens: u64) -> bool {
        self.opens == opens && self.begun.elapsed() < self.took * RECENT_FOR
    }
}

/// Who waits, by the number of the request.
type Waiting = HashMap<u64, SyncSender<Result<Outcome, Error>>>;

impl Nodes {
    /// Takes the daemon's end of the socket, and starts a thread that reads answers.
    pub fn start(stream: UnixStream) -> Nodes {
        Nodes::with_limit(stream, ANSWER_WITHIN)
    }

    fn with_limit(stream: UnixStream, limit: Duration) -> Nodes {
        let shared = Arc::new(Connection {
            stream,
            writing: Mutex::new(()),
            next: AtomicU64::new(0),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let reader = Arc::clone(&shared);
        thread::spawn(move || reader.read());
        Nodes { ublk: None, shared, limit, counted: Mutex::default() }
    }

    /// Has nodes be partitions of ublk disks, where there is such a driver; of loop devices otherwise.
    #[must_use]
    pub fn on(mut self, ublk: Option<Ublk>) -> Nodes {
        self.ublk = ublk;
        self
    }

    /// Reserves a node: there is a number, and nothing to be read or written. It has the size of
    /// one sector, as no partition is smaller. On ublk it is the one that the device had before its daemon
    /// was killed, if it had one: then what was asked of it waits until it is [shown](Self::show).
    ///
    /// # Errors
    /// What the system says where no disk or partition can be had.
    pub fn reserve(&self, owner: &Owner) -> Result<Node, Error> {
        if let Some(ublk) = &self.ublk {
            match ublk.reserve(owner, &|ask| self.ask("reserving a block node", ask)) {
                Err(Error::Ended) => return Err(Error::Ended),
                Err(error) => {
                    tracing::warn!(error = ?error, "no ublk disk: a loop device is taken instead");
                }
                reserved => return reserved,
            }
        }
        match self.ask("reserving a block node", Ask::Reserve)? {
            Outcome::Reserved(node) => Ok(node),
            Outcome::Counts(_) | Outcome::Done => Err(strange()),
        }
    }

    /// Says what a node holds that is on a ublk disk, once and before it is shown; nothing of it is called
    /// for another. The device is asked itself, and its file is not opened.
    pub fn fill(&self, node: Node, content: impl FnOnce() -> Arc<dyn Content>) {
        if let Some((ublk, id)) = self.on_ublk(node) {
            ublk.fill(id, content);
        }
    }

    /// Notes whose a node is by now: its device may have another name.
    pub fn note(&self, node: Node, owner: &Owner) {
        if let Some((ublk, id)) = self.on_ublk(node) {
            ublk.note(id, owner);
        }
    }

    /// Makes a node show a file, or another size, block size, read-ahead or whether it may be
    /// written. It costs no system call of the helper where nothing has changed.
    ///
    /// # Errors
    /// [`Error::is_busy`] where what is asked needs a node that nobody has open, and somebody has:
    /// another file, the first one among them, and writing where the file had been opened for
    /// reading only. The file is too short or cannot be opened.
    pub fn show(&self, node: Node, shown: &Shown) -> Result<(), Error> {
        let what = format!("showing {} as {}", shown.file.display(), node.dev);
        if let Some((ublk, id)) = self.on_ublk(node) {
            return ublk.show(node, id, shown, &|ask| self.ask(&what, ask));
        }
        self.ask(&what, Ask::Show { node, shown: shown.clone() }).map(|_| ())
    }

    /// Takes a node away, and its number. When it returns the file has been let go of.
    ///
    /// # Errors
    /// [`Error::is_busy`] where somebody has the node open or mounted: everything is as it was.
    pub fn remove(&self, node: Node) -> Result<(), Error> {
        self.ask(&format!("removing {}", node.dev), Ask::Remove { node })?;
        if let Some((ublk, id)) = self.on_ublk(node) {
            ublk.end(id);
        }
        Ok(())
    }

    /// Takes a node away that somebody has open, where it can be: one on a ublk disk, of which whoever has
    /// it gets errors from now on.
    ///
    /// # Errors
    /// [`Error::is_busy`] for one on a loop device: the kernel takes it away when it is closed.
    pub fn remove_used(&self, node: Node) -> Result<(), Error> {
        let Some((ublk, id)) = self.on_ublk(node) else {
            return Err(Error::Busy(format!("{} is open or mounted", node.dev)));
        };
        ublk.end(id);
        self.ask(&format!("removing {}", node.dev), Ask::Forget { node }).map(drop)
    }

    /// Takes away the nodes that wait for their devices since a daemon was killed, and names those devices
    /// whose node somebody has open. By force, those go too, and whoever has them open gets errors.
    pub fn drop_orphans(&self, force: bool) -> Vec<String> {
        let Some(ublk) = &self.ublk else { return Vec::new() };
        let mut used = Vec::new();
        for (disk, owner) in ublk.orphans() {
            let gone = self.ask("removing a block node", Ask::RemovePartition { disk });
            match gone {
                Err(error) if error.is_busy() && !force => used.push(owner.name),
                Ok(_) | Err(_) => ublk.forget(disk),
            }
        }
        used
    }

    /// Takes away what has waited longer than this for its device, since this daemon began: what an earlier
    /// one has left, that was killed. Whoever has it open gets errors. To be called now and then, as a rule
    /// with [`ORPHANS_LAST`](crate::ORPHANS_LAST).
    pub fn expire_orphans(&self, limit: Duration) {
        if let Some(ublk) = &self.ublk {
            ublk.expire(limit);
        }
    }

    fn on_ublk(&self, node: Node) -> Option<(&Ublk, u32)> {
        match (node.disk, &self.ublk) {
            (Whole::Ublk(id), Some(ublk)) => Some((ublk, id)),
            (Whole::Ublk(_), None) | (Whole::Loop(_), _) => None,
        }
    }

    /// Writes out what the kernel holds of a node: its buffers, and what a file system that is
    /// mounted from it has not written. That is what the kernel does before it suspends a device, if
    /// it is not asked for `noflush`; so it is to be called before, as long as the device answers.
    ///
    /// It waits for [`SYNCED_WITHIN`], and as long as `is_wanted`. The node counts as open meanwhile.
    ///
    /// # Errors
    /// What the system says of a write that failed.
    pub fn sync(&self, node: Node, is_wanted: &dyn Fn() -> bool) -> Result<(), Error> {
        let limit = self.limit.max(SYNCED_WITHIN);
        self.ask_while(is_wanted, limit, &format!("flushing {}", node.dev), Ask::Sync { node })
            .map(|_| ())
    }

    /// Counts how often a node is open: each open file once for each process that has it, and once
    /// where it is mounted.
    ///
    /// The kernel tells nobody, so all processes are looked at that the helper can see. What the
    /// kernel itself has open is not found, as a loop device above the node, swap, or an external
    /// journal: only [`remove`](Self::remove) knows for certain. `opens` is what
    /// [`Tree::opens`](crate::Tree::opens) says.
    ///
    /// # Errors
    /// What the system says where the node cannot be looked at.
    pub fn open_count(&self, node: Node, opens: u64) -> Result<u32, Error> {
        let begun = Instant::now();
        let counts = match self.ask("looking who has which nodes open", Ask::OpenCounts)? {
            Outcome::Counts(counts) => counts.into_iter().collect(),
            Outcome::Reserved(_) | Outcome::Done => return Err(strange()),
        };
        let counted = Counted { counts, begun, took: begun.elapsed(), opens };
        let count = counted.of(node);
        *self.counted() = Some(counted);
        Ok(count)
    }

    /// Returns how often a node was open a moment ago: so short that to look anew for each question
    /// would take ten times as long as to answer. Who has opened or closed a node by a name in the
    /// [`Tree`](crate::Tree) since then is counted all the same, by `opens`.
    ///
    /// # Errors
    /// As of [`open_count`](Self::open_count).
    pub fn recent_open_count(&self, node: Node, opens: u64) -> Result<u32, Error> {
        let recent =
            self.counted().as_ref().filter(|last| last.is_recent(opens)).map(|last| last.of(node));
        recent.map_or_else(|| self.open_count(node, opens), Ok)
    }

    fn counted(&self) -> MutexGuard<'_, Option<Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, what: &str, ask: Ask) -> Result<Outcome, Error> {
        self.ask_while(&|| true, self.limit, what, ask)
    }

    /// Asks, and waits no longer than `is_wanted` says so.
    fn ask_while(
        &self,
        is_wanted: &dyn Fn() -> bool,
        limit: Duration,
        what: &str,
        ask: Ask,
    ) -> Result<Outcome, Error> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = sync_channel(1);
        self.shared.waiting().as_mut().ok_or(Error::Ended)?.insert(number, answer);
        self.shared.send(&Request { number, ask });
        let begun = Instant::now();
        let answer = loop {
            let left = limit.saturating_sub(begun.elapsed());
            match answered.recv_timeout(left.min(LOOK)) {
                Err(RecvTimeoutError::Timeout) if left > LOOK && is_wanted() => {}
                answer => break answer,
            }
        };
        match answer {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(waiting) = self.shared.waiting().as_mut() {
                    waiting.remove(&number);
                }
                // It may have come meanwhile.
                answered
                    .try_recv()
                    .unwrap_or_else(|_| Err(Error::TimedOut { what: what.to_owned(), limit }))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Ended),
        }
    }
}

fn strange() -> Error {
    Error::Refused("the block helper answers something else".into())
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // The helper reads an end, and so does our reader.
        let _ = self.shared.stream.shutdown(Shutdown::Both);
    }
}

impl Connection {
    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request. One that cannot be sent has no answer: the reader sees the end too.
    fn send(&self, request: &Request) {
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if send(&self.stream, request).is_err() {
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }

    fn read(&self) {
        for line in BufReader::new(&self.stream).lines() {
            let Ok(line) = line else { break };
            let Ok(Answer { number, outcome }) = serde_json::from_str(&line) else { break };
            // The lock is held until the answer is handed over: whoever gives up takes it, and finds
            // the answer or is no longer looked for.
            let mut waiting = self.waiting();
            let waiter = waiting.as_mut().and_then(|waiting| waiting.remove(&number));
            match (waiter, outcome) {
                (Some(waiter), outcome) => {
                    let _ = waiter.try_send(outcome);
                }
                // Nobody has this number, nor ever will: the node would stay for good.
                (None, Ok(Outcome::Reserved(node))) => {
                    drop(waiting);
                    let number = self.next.fetch_add(1, Ordering::Relaxed);
                    self.send(&Request { number, ask: Ask::Remove { node } });
                }
                (None, Ok(Outcome::Counts(_) | Outcome::Done) | Err(_)) => {}
            }
        }
        // Whoever waits sees its sender go.
        self.waiting().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Node = Node { dev: DevNumber { major: 259, minor: 1 }, disk: Whole::Loop(4096) };

    fn owner() -> Owner {
        Owner { minor: 1, uuid: None, name: "d".to_owned() }
    }

    fn next(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Request {
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    }

    #[test]
    fn answers_may_come_in_any_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let nodes = Nodes::start(ours);
        let helper = thread::spawn(move || {
            let mut lines = BufReader::new(&theirs).lines();
            let requests = [next(&mut lines), next(&mut lines)];
            for request in requests.iter().rev() {
                let outcome = match request.ask {
                    Ask::Reserve => Ok(Outcome::Reserved(NODE)),
                    _ => Err(Error::Busy("open".into())),
                };
                send(&theirs, &Answer { number: request.number, outcome }).unwrap();
            }
        });
        thread::scope(|scope| {
            let removing = scope.spawn(|| nodes.remove(NODE));
            assert_eq!(nodes.reserve(&owner()), Ok(NODE));
            assert!(removing.join().unwrap().unwrap_err().is_busy());
        });
        helper.join().unwrap();
    }

    #[test]
    fn a_node_that_comes_too_late_is_given_back() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let nodes = Nodes::with_limit(ours, Duration::from_millis(20));
        let error = nodes.reserve(&owner()).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut lines = BufReader::new(&theirs).lines();
        let number = next(&mut lines).number;
        send(&theirs, &Answer { number, outcome: Ok(Outcome::Reserved(NODE)) }).unwrap();
        assert!(matches!(next(&mut lines).ask, Ask::Remove { node } if node == NODE));
    }

    #[test]
    fn a_helper_that_ends_ends_what_waits_for_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let nodes = Nodes::start(ours);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| nodes.reserve(&owner()));
            BufReader::new(&theirs).lines().next().unwrap().unwrap();
            theirs.shutdown(Shutdown::Both).unwrap();
            assert_eq!(waiting.join().unwrap(), Err(Error::Ended));
        });
        assert_eq!(nodes.reserve(&owner()), Err(Error::Ended));
    }

    #[test]
    fn what_was_counted_a_moment_ago_is_not_asked_again() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let nodes = Nodes::start(ours);
        let other = Node { dev: DevNumber { major: 259, minor: 2 }, disk: Whole::Loop(4097) };
        let helper = thread::spawn(move || {
            let mut lines = BufReader::new(&theirs).lines();
            for count in [3, 4, 5] {
                let request = next(&mut lines);
                assert!(matches!(request.ask, Ask::OpenCounts));
                // What takes so long is recent for ten times as long.
                thread::sleep(Duration::from_millis(100));
                let outcome = Ok(Outcome::Counts(vec![(NODE.dev, count)]));
                send(&theirs, &Answer { number: request.number, outcome }).unwrap();
            }
        });
        assert_eq!(nodes.recent_open_count(NODE, 7), Ok(3));
        let recent = [NODE, other].map(|node| nodes.recent_open_count(node, 7));
        assert_eq!(recent, [Ok(3), Ok(0)]);
        // Somebody has opened one meanwhile, or it has to be known for certain.
        assert_eq!(nodes.recent_open_count(NODE, 8), Ok(4));
        assert_eq!(nodes.open_count(NODE, 8), Ok(5));
        helper.join().unwrap();
    }
}
