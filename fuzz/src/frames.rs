//! The messages between the command line and the daemon.

use std::io::{self, Read};

use daemon::protocol::{Hello, Reply, Request, Welcome, read_message, write_message};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads bytes as what comes over the socket: frames as they are, or, where the first byte is
/// odd, all of the rest as the text of one frame. Nothing may panic; it makes no difference in
/// how many pieces the bytes come; a message that was understood is written and read as the same.
///
/// That the memory taken is bounded by what arrives is for the fuzzer's `-malloc_limit_mb`.
pub fn frames(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut wire = rest.to_vec();
    if kind % 2 == 1 {
        let len = u32::try_from(rest.len()).expect("no input is that long");
        wire.splice(0..0, len.to_le_bytes());
    }
    let step = usize::from(kind / 2) % 7 + 1;
    read_all::<Hello>(&wire, step);
    read_all::<Welcome>(&wire, step);
    read_all::<Request>(&wire, step);
    read_all::<Reply>(&wire, step);
}

fn read_all<T: Serialize + DeserializeOwned>(wire: &[u8], step: usize) {
    let mut whole = wire;
    let mut pieces = Pieces { rest: wire, step, interrupted: false };
    loop {
        let message = outcome::<T>(&mut whole);
        assert_eq!(message, outcome::<T>(&mut pieces), "in pieces of {step}");
        let Ok(Some(message)) = message else { return };
        let again = outcome::<T>(&mut &message[..]);
        assert_eq!(again, Ok(Some(message)), "a message is read as it was written");
    }
}

/// Reads one message, and writes it again; types on the wire have no equality of their own.
fn outcome<T: Serialize + DeserializeOwned>(
    from: &mut impl Read,
) -> Result<Option<Vec<u8>>, io::ErrorKind> {
    let Some(message) = read_message::<T>(from).map_err(|error| error.kind())? else {
        return Ok(None);
    };
    let mut wire = Vec::new();
    write_message(&mut wire, &message).expect("what was read can be written");
    Ok(Some(wire))
}

/// Gives a few bytes at a time, and is interrupted before each.
struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
    interrupted: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = self.step.min(into.len());
        self.rest.read(&mut into[..len])
    }
}
