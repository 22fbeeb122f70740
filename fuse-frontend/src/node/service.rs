//! Carries out what is asked of the mount of the node.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::SystemTime;

use backing::Cancel;
use sim_core::control::Command;
use sim_core::control::ioctl::{self, Call};
use sim_core::{Control, DevNumber, Errno, Runtime};
use zeroize::Zeroizing;

use super::caller::{self, Memory};
use super::file::OpenFiles;
use super::names::Names;
use super::threads::{self, Threads};
use super::{Calls, NAME};
use crate::dev_fuse::{Connection, is_being_killed};
use crate::files::{
    Attributes, Caller, Entry, Interruption, Ioctl, Kind, Listed, Listing, Opened, Operation,
    Output, Pages, Polled, ROOT, Replies, Reply, Request, Service, SetAttributes, Statistics,
    barred,
};
use crate::mount;

/// The number of `/dev/mapper/control`, by linux/miscdevice.h.
const NUMBER: DevNumber = DevNumber { major: 10, minor: 236 };

/// The inodes that the name comes to: the one that is seen, and the one that is opened.
const SHOWN: u64 = 2;
const OPENED: u64 = 3;

/// `POLLIN` and `POLLRDNORM`, of poll(2).
const READABLE: u32 = 0x41;

/// The most that large calls under way may have in memory together, in bytes, by what they announce:
/// as much as one of them may.
const ROOM: usize = ioctl::MAX_DATA_SIZE as usize;

/// What counts for small: such calls have room whatever others take.
const SMALL: usize = 1 << 20;

/// How many threads read requests, and how many of them whatever calls are under way.
pub(super) const READERS: usize = 4;
const ALWAYS_READ: usize = 2;

/// The node, as the threads hold it that serve the mount.
pub(super) struct Shared(pub(super) Arc<Node>);

/// What the mount shows, and who has it open.
pub(super) struct Node {
    calls: Arc<dyn Calls>,
    control: Arc<Control>,
    runtime: Arc<dyn Runtime>,
    threads: Arc<Threads>,
    files: OpenFiles,
    /// The names of devices, where they are beside the node.
    names: Option<Names>,
    /// Bytes of large calls.
    room: Arc<Limit>,
    /// Calls that wait for events, which may be for ever: others have threads too.
    waits: Arc<Limit>,
    /// Threads that read requests and carry out a call themselves: to hand it on would cost as much as
    /// most calls do.
    at_once: Arc<Limit>,
    mounted: SystemTime,
    owner: (u32, u32),
    is_closed: AtomicBool,
    /// Where polls are answered that wait.
    connection: OnceLock<Weak<Connection>>,
}

impl Service for Shared {
    fn serve(&self, request: Request<'_>, reply: impl Replies) {
        self.0.serve(request, reply);
    }

    fn end(&self) {
        self.0.files.close_all();
    }
}

impl Node {
    pub(super) fn new(
        calls: Arc<dyn Calls>,
        control: Arc<Control>,
        runtime: Arc<dyn Runtime>,
        names: Option<Names>,
    ) -> Node {
        Node {
            calls,
            control,
            runtime,
            threads: Arc::default(),
            files: OpenFiles::default(),
            names,
            room: Limit::new(ROOM),
            waits: Limit::new(threads::MOST / 2),
            at_once: Limit::new(READERS - ALWAYS_READ),
            mounted: SystemTime::now(),
            owner: mount::owner(),
            is_closed: AtomicBool::new(false),
            connection: OnceLock::new(),
        }
    }

    /// Says who serves the mount.
    pub(super) fn served_by(&self, connection: &Arc<Connection>) {
        let _once = self.connection.set(Arc::downgrade(connection));
    }

    /// Tells whether somebody has the node open.
    pub(super) fn is_open(&self) -> bool {
        self.files.are_open()
    }

    /// Refuses calls from here on.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
    }

    fn serve(self: &Arc<Node>, request: Request<'_>, reply: impl Replies) {
        let Request { caller, inode, operation } = request;
        if let Some(names) = &self.names
            && let Some(of_name) = names.serve(&self.control, caller, inode, &operation)
        {
            return of_name.answer(reply);
        }
        match operation {
            Operation::LookUp { name } if inode == ROOT && name == NAME => {
                let opens = caller::opens(caller.pid);
                reply.ok(&Entry(self.attributes(if opens { OPENED } else { SHOWN })));
            }
            Operation::LookUp { .. } => reply.error(Errno::NOENT),
            Operation::ReadLink => reply.error(Errno::INVAL),
            Operation::Attributes => reply.ok(&self.attributes(inode)),
            Operation::Open { .. } | Operation::Ioctl(_) if self.is_closed.load(SeqCst) => {
                reply.error(Errno::NODEV);
            }
            Operation::Open { .. } => match caller::check(caller) {
                Ok(()) => {
                    let handle = self.files.open(self.control.events());
                    reply.ok(&Opened { handle, pages: Pages::Direct });
                }
                Err(errno) => reply.error(errno),
            },
            Operation::OpenDirectory => reply.ok(&Opened { handle: 0, pages: Pages::Default }),
            Operation::List { after, most } => reply.ok(&list(after, most)),
            Operation::Ioctl(ioctl) => self.ioctl(caller, &ioctl, reply),
            Operation::Poll { handle, wakes } => match self.poll(handle, wakes) {
                Ok(events) => reply.ok(&Polled(events)),
                Err(errno) => reply.error(errno),
            },
            Operation::Release { handle } => {
                self.files.close(handle);
                reply.ok(&());
            }
            Operation::Statistics => reply.ok(&Statistics { blocks: 0, files: 1 }),
            Operation::Flush { .. }
            | Operation::Close { .. }
            | Operation::ReleaseDirectory
            | Operation::FlushDirectory => reply.ok(&()),
            // As of the kernel's node, which has nothing of all this.
            Operation::Read { .. }
            | Operation::Write { .. }
            | Operation::Allocate { .. }
            | Operation::Seek { .. } => reply.error(Errno::INVAL),
            // An open with O_TRUNC, which a device does not mind.
            Operation::SetAttributes(SetAttributes {
                mode: None,
                uid: None,
                gid: None,
                size: Some(_),
                handle: _,
            }) => reply.ok(&self.attributes(inode)),
            Operation::SetAttributes(_) | Operation::Rearrange => reply.error(Errno::PERM),
        }
    }

    fn attributes(&self, inode: u64) -> Attributes {
        let (kind, mode) = match inode {
            ROOT => (Kind::Directory, 0o700),
            OPENED => (Kind::File, 0o600),
            _ => (Kind::CharacterDevice(NUMBER), 0o600),
        };
        let (uid, gid) = self.owner;
        Attributes { inode, kind, size: 0, mode, uid, gid, time: self.mounted }
    }

    fn poll(&self, handle: u64, wakes: Option<u64>) -> Result<u32, Errno> {
        let file = self.files.find(handle)?;
        let events = self.control.events();
        if file.is_behind(events) {
            return Ok(READABLE);
        }
        if let (Some(poll), Some(connection)) = (wakes, self.connection.get().cloned()) {
            let control = self.control.clone();
            self.runtime.spawn(Box::pin(async move {
                control.any_event(events).await;
                if let Some(connection) = connection.upgrade() {
                    connection.wake_poll(poll);
                }
            }));
        }
        Ok(0)
    }

    fn ioctl(self: &Arc<Node>, caller: Caller, ioctl: &Ioctl<'_>, mut reply: impl Reply<Output>) {
        // Each time, as the kernel does: the file may have been handed on.
        let found = caller::check(caller).and_then(|()| self.files.find(ioctl.handle));
        let file = match found {
            Ok(file) => file,
            Err(errno) => return reply.error(errno),
        };
        let brought = Brought {
            memory: Memory::of(caller.pid),
            at: ioctl.argument,
            head: Zeroizing::new(ioctl.input.to_vec()),
            room: ioctl.room as usize,
        };
        let call = match Call::read(ioctl.command, &brought.head) {
            Ok(call) => call,
            Err(refused) => return reply.ok(&self.end(&brought, refused)),
        };
        let room = if call.reads() > SMALL { call.reads() } else { 0 };
        let Some(room) = self.room.take(room) else { return reply.error(Errno::NOMEM) };
        let turn = self.waits.take(usize::from(call.waits_for_event()));
        let Some(turn) = turn else { return reply.error(Errno::AGAIN) };
        let given_up = Cancel::new();
        let may_wait = call.is_interruptible();
        let interruption = match may_wait {
            true => reply.signal(),
            false => reply.interruption(),
        };
        let reply = Arc::new(Mutex::new(Some(reply)));
        if let Some(interruption) = interruption {
            let (given_up, copying) = (given_up.clone(), brought.memory.copying());
            // Whoever carries out the call has it: where that is dropped, it is answered.
            let reply = Arc::downgrade(&reply);
            when_interrupted(&interruption, move || {
                given_up.cancel();
                let is_over = is_being_killed(caller.pid) && copying.abandon();
                if is_over && let Some(reply) = reply.upgrade().and_then(|reply| taken(&reply)) {
                    reply.error(Errno::INTR);
                }
                if is_over { Asked::Enough } else { Asked::Again }
            });
        }
        let node = self.clone();
        let carry_out = move || {
            // The reply is dropped where this panics, and answers an I/O error then.
            let _ended = barred("a call", || {
                let request = brought.read(call.reads()).and_then(|bytes| call.decode(bytes));
                let answer = request.map_or_else(
                    |refused| refused,
                    |request| {
                        if *request.command() == Command::ArmPoll {
                            file.known.store(node.control.events(), SeqCst);
                        }
                        node.calls.call(caller, request, &given_up)
                    },
                );
                let output = node.end(&brought, answer);
                drop((room, turn));
                // Where nobody waits any more, there is none.
                if let Some(reply) = taken(&reply) {
                    reply.ok(&output);
                }
            });
        };
        let at_once = if may_wait { None } else { self.at_once.take(1) };
        match at_once {
            Some(_taken) => carry_out(),
            None => self.threads.run(caller::group(caller.pid), carry_out),
        }
    }

    /// Writes to the caller what a call comes to.
    fn end(&self, brought: &Brought, mut reply: ioctl::Reply) -> Output {
        let mut result = reply.result;
        let bytes = brought.write(&reply).unwrap_or_else(|| {
            result = Err(Errno::FAULT);
            Vec::new()
        });
        reply.log.drain(..).for_each(|line| self.calls.log(&line));
        Output { value: result.err().map_or(0, |errno| -errno.0), bytes }
    }
}

/// What the kernel has brought of a call, and where the rest is.
struct Brought {
    memory: Memory,
    /// Where the caller's buffer begins.
    at: u64,
    /// The start of it.
    head: Zeroizing<Vec<u8>>,
    /// How much of its start the kernel takes back.
    room: usize,
}

impl Brought {
    /// Reads so much from the start of the buffer.
    fn read(&self, len: usize) -> Result<Zeroizing<Vec<u8>>, ioctl::Reply> {
        match self.head.get(..len) {
            Some(head) => Ok(Zeroizing::new(head.to_vec())),
            None => self.memory.read(self.at, len).ok_or_else(ioctl::Reply::bad_address),
        }
    }

    /// Writes an answer, and returns what of it the kernel is to write; nothing where it cannot be
    /// written.
    fn write(&self, reply: &ioctl::Reply) -> Option<Vec<u8>> {
        self.memory.wipe(self.at, reply.wiped)?;
        let bytes = &reply.bytes;
        if reply.wiped == 0 && bytes.len() <= self.head.len().min(self.room) {
            // What the kernel writes begins where the buffer does, and may end anywhere.
            return Some(bytes.to_vec());
        }
        self.memory.write(self.at, bytes).map(|()| Vec::new())
    }
}

fn taken<R>(reply: &Mutex<Option<R>>) -> Option<R> {
    reply.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Whether an interruption is to be told of again, as long as its request has no answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Enough,
    Again,
}

/// Does something when a request's caller wants no answer any more, and again until it is enough.
fn when_interrupted(
    interruption: &Arc<Interruption>,
    act: impl Fn() -> Asked + Send + Sync + 'static,
) {
    struct Switch<F>(Weak<Interruption>, F);
    impl<F: Fn() -> Asked + Send + Sync + 'static> Wake for Switch<F> {
        fn wake(self: Arc<Switch<F>>) {
            if (self.1)() == Asked::Again
                && let Some(interruption) = self.0.upgrade()
            {
                // It is set again and again.
                let _set = interruption.is_set(&Waker::from(self));
            }
        }
    }
    let switch = Arc::new(Switch(Arc::downgrade(interruption), act));
    if interruption.is_set(&Waker::from(switch.clone())) {
        switch.wake();
    }
}

/// What calls under way have of something there is only so much of.
struct Limit {
    most: usize,
    used: AtomicUsize,
}

/// What one of them has, until it is dropped.
struct Taken(Arc<Limit>, usize);

impl Limit {
    fn new(most: usize) -> Arc<Limit> {
        Arc::new(Limit { most, used: AtomicUsize::new(0) })
    }

    /// Takes so much; nothing where there is not so much left.
    fn take(self: &Arc<Limit>, amount: usize) -> Option<Taken> {
        let more = |used: usize| used.checked_add(amount).filter(|used| *used <= self.most);
        let taken = self.used.fetch_update(SeqCst, SeqCst, more);
        taken.ok().map(|_| Taken(self.clone(), amount))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.used.fetch_sub(self.1, SeqCst);
    }
}

pub(super) fn list(after: u64, most: usize) -> Listing {
    let names = [(ROOT, Kind::Directory, "."), (ROOT, Kind::Directory, "..")];
    let names = names.into_iter().chain([(SHOWN, Kind::CharacterDevice(NUMBER), NAME)]);
    let listed = (1..).zip(names).filter(|(place, _)| *place > after).take(most);
    Listing(
        listed
            .map(|(place, (inode, kind, name))| Listed {
                inode,
                place,
                kind,
                name: name.to_owned(),
            })
            .collect(),
    )
}
