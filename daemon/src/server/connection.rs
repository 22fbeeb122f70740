//! One client's connection: a thread that reads, and one that carries out and answers.
//!
//! The reader also notices that the client has hung up while a command waits, and takes the
//! command back.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use backing::Cancel;

use super::clients::Seat;
use super::counted::Counted;
use super::request::Session;
use super::state::{Daemon, spawn};
use crate::protocol::{
    Hello, Outcome, Reply, Request, VERSION, Welcome, read_message, write_message,
};

/// The most clients at a time.
const MAX_CLIENTS: usize = 1024;

/// How long a client may take to say hello.
const HELLO_TIME: Duration = Duration::from_secs(10);

/// Serves a connection until it ends. Returns at once.
pub(super) fn serve(daemon: &Arc<Daemon>, stream: UnixStream) {
    let stream = Arc::new(stream);
    let Some(seat) = daemon.clients.enter(MAX_CLIENTS, stream.clone()) else {
        // Closed without a word: an answer to one who has not asked could block.
        tracing::warn!("{MAX_CLIENTS} clients wait for answers: one more is turned away");
        return;
    };
    let daemon = daemon.clone();
    let spawned = spawn("client", move || converse(&daemon, &seat, stream));
    if let Err(fault) = spawned {
        tracing::error!(%fault, "a client is turned away");
    }
}

/// Gives the replies that are under way the time to go out; a command that waits gets none.
pub(super) fn let_replies_out(daemon: &Daemon) {
    let deadline = Instant::now() + Duration::from_millis(200);
    while Counted::count(&daemon.replying) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn converse(daemon: &Daemon, seat: &Seat, stream: Arc<UnixStream>) {
    let stream = Closing(stream);
    if let Err(error) = try_converse(daemon, seat, &stream.0) {
        tracing::debug!(%error, "a connection ends");
    }
}

/// A connection that is closed however its conversation ends: the reader, which has it open too,
/// may wait for more, and the client for an answer.
struct Closing(Arc<UnixStream>);

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn try_converse(daemon: &Daemon, seat: &Seat, shared: &Arc<UnixStream>) -> io::Result<()> {
    let (mut stream, reader) = (&**shared, shared.clone());
    stream.set_read_timeout(Some(HELLO_TIME))?;
    let Some(Hello { version }) = read_message(&mut stream)? else { return Ok(()) };
    write_message(
        &mut stream,
        &Welcome {
            version: VERSION,
            pid: std::process::id(),
            mount: daemon.mount.clone(),
            state: daemon.state.clone(),
            pending: daemon.keeper.pending(),
            damage: daemon.damage.clone(),
        },
    )?;
    if version != VERSION {
        return Ok(());
    }
    stream.set_read_timeout(None)?;
    let hung_up = Cancel::new();
    let (requests, inbox) = sync_channel(1);
    let cancel = hung_up.clone();
    let reader = std::thread::Builder::new()
        .name("client-reader".to_owned())
        .spawn(move || read(&reader, &requests, &cancel));
    reader?;
    answer(daemon, seat, stream, &inbox, &hung_up)
}

/// Passes requests on until there are no more, which takes back what waits.
fn read(mut from: &UnixStream, requests: &SyncSender<io::Result<Request>>, hung_up: &Cancel) {
    let _hung_up = HungUp(hung_up);
    loop {
        let request = read_message(&mut from).transpose();
        let last = !matches!(request, Some(Ok(_)));
        // What ends the connection in the middle of a message is a hang-up too; what is no
        // message at all is answered first.
        let gone = match &request {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => error.kind() != io::ErrorKind::InvalidData,
        };
        if gone {
            break;
        }
        let sent = request.map(|request| requests.send(request));
        if last || !matches!(sent, Some(Ok(()))) {
            break;
        }
    }
}

/// Takes back what waits, however the reading ends.
struct HungUp<'a>(&'a Cancel);

impl Drop for HungUp<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn answer(
    daemon: &Daemon,
    seat: &Seat,
    mut stream: &UnixStream,
    inbox: &Receiver<io::Result<Request>>,
    hung_up: &Cancel,
) -> io::Result<()> {
    let mut session = Session::new(daemon, hung_up);
    for request in inbox {
        match request {
            Ok(request) => {
                let _replying = Counted::new(&daemon.replying);
                let reply = seat.serve(|| session.answer(request));
                match write_message(&mut stream, &reply) {
                    // Nothing of it was sent: it cannot be written down.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        let why = format!("the answer cannot be sent: {error}");
                        let (outcome, warning) = (Outcome::Failed(why), None);
                        write_message(&mut stream, &Reply { outcome, warning })?;
                    }
                    sent => sent?,
                }
            }
            Err(error) => {
                let outcome = Outcome::Failed(format!("request: {error}"));
                return write_message(&mut stream, &Reply { outcome, warning: None });
            }
        }
    }
    Ok(())
}
