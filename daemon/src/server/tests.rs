//! Requests that go wrong in a daemon in this process; and daemons that end at any moment.

mod simulation;

use std::fmt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use sim_core::control::{Answer, Command, Failure, Id, Slot};
use sim_core::{
    Access, Area, Args, Bio, CtrError, Errno, Mapped, Sector, StatusKind, StatusWriter, Target,
    TargetType, parse_table,
};

use super::*;
use crate::protocol::{
    Hello, Outcome, Reply, Request, VERSION, Welcome, read_message, write_message,
};

/// `panics <where>`: a target that panics at `message` or at `status`.
struct Panics {
    at: String,
}

impl TargetType for Panics {
    const NAME: &'static str = "panics";
    const VERSION: [u32; 3] = [1, 0, 0];

    fn ctr(args: &mut Args<'_>) -> Result<Panics, CtrError> {
        Ok(Panics { at: args.next("Invalid argument count")?.text().to_owned() })
    }
}

impl Target for Panics {
    fn map<'a>(&'a self, _bio: Bio<'a>) -> Mapped<'a> {
        Mapped::Completed(Ok(()))
    }

    fn status(&self, _kind: StatusKind, out: &mut StatusWriter<'_>) -> fmt::Result {
        assert_ne!(self.at, "status", "planted");
        write!(out, "{}", self.at)
    }

    fn message<'a>(&'a self, _words: &'a [&'a str]) -> Option<sim_core::Reply<'a>> {
        assert_ne!(self.at, "message", "planted");
        sim_core::reply(Ok(None))
    }

    fn iterate_devices(&self, _each: &mut dyn FnMut(&Area)) {}
}

/// A daemon without a socket; nothing where there is no FUSE.
struct Served {
    daemon: Arc<Daemon>,
    _events: Receiver<Event>,
    _dir: tempfile::TempDir,
}

impl Served {
    fn start() -> Option<Served> {
        if std::fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
            assert!(std::env::var_os("CI").is_none(), "no /dev/fuse");
            println!("skipped: no /dev/fuse");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::find(Some(dir.path())).unwrap();
        let options = Options::default();
        let mount = instance.mapper();
        make_private_dir(&mount).unwrap();
        let (keeper, _) = Keeper::open(instance.state(), None).unwrap();
        let (events, inbox) = channel();
        let registry = Registry::new().with::<Panics>().with::<targets::Zero>();
        let daemon = start(&instance, registry, &options, mount, (keeper, None), events).unwrap();
        Some(Served { daemon, _events: inbox, _dir: dir })
    }

    fn connect(&self) -> Client {
        let (mut stream, theirs) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection::serve(&self.daemon, theirs);
        write_message(&mut stream, &Hello { version: VERSION }).unwrap();
        let welcome: Option<Welcome> = read_message(&mut stream).unwrap();
        welcome.expect("the daemon has room for one more");
        Client(stream)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _unmounted = self.daemon.stop(true);
    }
}

struct Client(UnixStream);

impl Client {
    fn ask(&mut self, request: Request) -> Reply {
        write_message(&mut self.0, &request).unwrap();
        read_message(&mut self.0).unwrap().expect("an answer")
    }

    fn control(&mut self, command: Command) -> Result<Answer, Failure> {
        match self.ask(Request::Control(command)).outcome {
            Outcome::Control(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, name: &str, table: &str) -> Option<String> {
        let (id, targets) = (Id::Name(name.to_owned()), parse_table(table).unwrap());
        let (name, uuid) = (name.to_owned(), None);
        self.control(Command::DevCreate { name, uuid, minor: None }).unwrap();
        let targets = targets.into_iter().map(|(_, target)| target).collect();
        let (access, base) = (Access::ReadWrite, "/".to_owned());
        let load = Command::TableLoad { id: id.clone(), access, targets, base };
        let reply = self.ask(Request::Control(load));
        assert!(matches!(reply.outcome, Outcome::Control(Ok(_))), "{reply:?}");
        self.control(Command::DevResume { id, held: sim_core::Held::Flush }).unwrap();
        reply.warning
    }
}

#[test]
fn a_panic_in_a_request_is_an_answer_and_takes_nothing_from_the_daemon() {
    let Some(served) = Served::start() else { return };
    served.connect().create("p", "0 8 panics message");
    let message = || Command::TargetMsg {
        id: Id::Name("p".to_owned()),
        sector: Sector::ZERO,
        message: "hello".into(),
        slot: Slot::Live,
    };
    // More than there is room for at a time.
    for _ in 0..1100 {
        let mut client = served.connect();
        let failure = client.control(message()).unwrap_err();
        assert_eq!(failure.errno, Errno::IO);
        // The same connection goes on.
        assert!(client.control(Command::ListDevices).is_ok());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while counted::Counted::count(&served.daemon.replying) > 0 {
        assert!(Instant::now() < deadline, "a request is counted for ever");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_table_whose_target_panics_over_its_line_is_loaded_and_not_on_record() {
    let Some(served) = Served::start() else { return };
    let mut client = served.connect();
    let warning = client.create("p", "0 8 panics status").expect("a warning");
    assert!(warning.contains("`p`") && warning.contains("panicked"), "{warning}");
    assert_eq!(client.create("z", "0 8 zero"), None, "it is the fault of no other");
}
