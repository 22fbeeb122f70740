//! The ioctl interface in bytes, against what Linux 6.12 did with calls of real programs and with
//! calls that no program makes.

mod describe;
mod recording;
mod request;
mod round_trip;

use std::path::Path;

use describe::describe;
use recording::Exchange;
use sim_core::Errno;
use sim_core::control::ioctl::{self, Call, FIELDS_LEN, Reply, Request, When, client};
use sim_core::control::{Answer, Command, Listed};

#[test]
fn calls_at_the_edges_of_the_rules() {
    check("rules.txt");
}

#[test]
fn a_session_of_dmsetup() {
    check("dmsetup.txt");
}

#[test]
fn a_session_of_cryptsetup() {
    check("cryptsetup.txt");
}

#[test]
fn a_session_of_lvm() {
    check("lvm.txt");
}

/// Reads each call of a recording, and compares what it says with what is expected of it; then makes
/// the reply from what the kernel's answer says, and compares it byte by byte.
fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ioctl");
    let exchanges = recording::read(&folder.join(name));
    assert!(exchanges.len() > 20, "{name}: {}", exchanges.len());
    for (index, exchange) in exchanges.iter().enumerate() {
        let place = format!("{name}: {}: ioctl {index}", exchange.title);
        let (found, reply) = answer(&exchanges, index, usize::MAX);
        assert_eq!(found, exchange.want, "{place}");
        let (errno, log) = (exchange.errno, &exchange.log);
        let at = difference(exchange, &reply);
        let same = is_same(exchange, &reply) && at.is_none();
        assert_eq!(same, exchange.differs.is_none(), "{place}: {errno} {log:?} {at:?}, {reply:?}");
        if same {
            // Where less of the buffer was read, zeros are where the kernel has the caller's bytes.
            let (_, short) = answer(&exchanges, index, 0);
            assert_eq!(short.bytes.len(), reply.bytes.len(), "{place}");
            for (at, (short, whole)) in short.bytes.iter().zip(reply.bytes.iter()).enumerate() {
                let is_hole = *short == 0 && *whole == exchange.before[at] && at >= FIELDS_LEN;
                assert!(short == whole || is_hole, "{place}: byte {at}: {short}, {whole}");
            }
        }
    }
}

/// Tells whether errno and log are the kernel's.
fn is_same(exchange: &Exchange, reply: &Reply) -> bool {
    let errno = reply.result.err().map_or(0, |errno| errno.0);
    // What a command logs is not the codec's.
    errno == exchange.errno && (reply.log.is_empty() || reply.log == exchange.log)
}

/// Returns the first byte of the caller's buffer that is another than the kernel made it: where it is, what
/// it is, and what it was to be.
fn difference(exchange: &Exchange, reply: &Reply) -> Option<(usize, u8, u8)> {
    let mut buffer = exchange.before.clone();
    reply.apply(&mut buffer);
    let mut after = exchange.after.clone();
    if exchange.errno == 0 && matches!(exchange.code & 0xff, REMOVE | RENAME | SUSPEND) {
        // No uevent is made, and none is said to be.
        after[29] &= !UEVENT_GENERATED;
    }
    let at = buffer.iter().zip(&after).position(|(found, expected)| found != expected)?;
    Some((at, buffer[at], after[at]))
}

const REMOVE: u32 = 4;
const RENAME: u32 = 5;
const SUSPEND: u32 = 6;
const STATUS: u32 = 7;
/// The flag, in the second byte of the flags on a little-endian machine.
const UEVENT_GENERATED: u8 = 0x20;

/// Reads a call, of which `most` bytes are handed over where that is enough, says what it is, and
/// makes its reply.
fn answer(exchanges: &[Exchange], index: usize, most: usize) -> (String, Reply) {
    let exchange = &exchanges[index];
    let read = Call::read(exchange.code, &exchange.before).and_then(|call| {
        let len = call.reads().max(most).min(exchange.before.len());
        call.decode(exchange.before[..len].to_vec().into())
    });
    let request = match read {
        Ok(request) => request,
        Err(reply) => {
            let errno = reply.result.expect_err("a refusal");
            return (format!("refused {}", errno.name()), reply);
        }
    };
    // Where something is wrong that the kernel sees when it has found the device.
    let is_late =
        matches!(request.command(), Command::DevStatus { .. }) && exchange.code & 0xff != STATUS;
    let what = describe(request.command());
    let what = if is_late { format!("refused after {what}") } else { what };
    let reply = match exchange.errno {
        0 => {
            again(request.command(), exchange);
            succeed(exchanges, index, request)
        }
        _ if is_late && exchange.errno != Errno::NXIO.0 => {
            let answer = reading(exchange, request.command()).status;
            request.reply(Ok(Answer::Status(answer)), None)
        }
        errno => request.reply(Err(Errno(errno)), None),
    };
    (what, reply)
}

fn reading(exchange: &Exchange, command: &Command) -> client::Reading {
    client::read(command, &exchange.after).expect("an answer")
}

/// Writes the command as a call of our own, which is to be read as the same.
fn again(command: &Command, exchange: &Exchange) {
    let written = client::write(command, exchange.before.len()).expect("it was an ioctl");
    assert_eq!(written.code & 0xff, exchange.code & 0xff);
    let request = ioctl::decode(written.code, written.buffer.to_vec()).expect("a whole call");
    assert_eq!(request.command(), command);
}

/// Makes the reply out of what the recorded one says; where that had no room, out of what the next
/// or the last one to the same call says that had.
fn succeed(exchanges: &[Exchange], index: usize, request: Request) -> Reply {
    let exchange = &exchanges[index];
    let command = request.command().clone();
    let client::Reading { mut status, answer } = reading(exchange, &command);
    let (last, next) = exchanges.split_at(index);
    let mut others = next.iter().chain(last.iter().rev());
    let mut answer = answer.unwrap_or_else(|| {
        others
            .by_ref()
            .filter(|other| other.want == exchange.want)
            .find_map(|other| reading(other, &command).answer)
            .unwrap_or_else(|| panic!("{}: no other of the kind had room", exchange.title))
    });
    match &mut answer {
        Answer::Table(of, _) => status.clone_into(of),
        // The uuid is not told, but counted when the list was made.
        Answer::Devices(devices) => {
            let prefix = &exchange.before[176..305];
            let len = prefix.iter().position(|byte| *byte == 0).expect("a NUL");
            let prefix = str::from_utf8(&prefix[..len]).expect("a uuid");
            let told = |device: &Listed| device.uuid.is_some() || prefix.is_empty();
            for device in devices.iter_mut().filter(|device| !told(device)) {
                device.uuid = Some(prefix.to_owned());
            }
        }
        _ => {}
    }
    let also = match request.also() {
        None => None,
        Some((When::Before, Command::DevStatus { .. })) if exchange.code & 0xff == REMOVE => {
            // It is still there, as it was open.
            status.open_count = u32::from(status.deferred_remove);
            Some(Answer::Status(status))
        }
        Some((_, Command::DevStatus { .. })) => Some(Answer::Status(status)),
        Some((_, Command::TableStatus { .. })) => Some(answer.clone()),
        Some(other) => panic!("{other:?}"),
    };
    request.reply(Ok(answer), also)
}
