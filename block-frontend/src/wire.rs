//! What travels between the two ends: one JSON value a line, a [`Request`] one way and an
//! [`Answer`] with the same number the other way, in any order.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};
use sim_core::DevNumber;

use crate::node::{Error, Node, Shown};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Reserve,
    Show {
        node: Node,
        shown: Shown,
    },
    /// The partition of a ublk disk, which is made where it is not there.
    Partition {
        disk: u32,
    },
    /// The partition of a ublk disk as long as is said, and all else but what it holds.
    Fit {
        node: Node,
        shown: Shown,
    },
    Remove {
        node: Node,
    },
    /// The node is gone, in use or not.
    Forget {
        node: Node,
    },
    /// The partition of a ublk disk that an earlier helper has made.
    RemovePartition {
        disk: u32,
    },
    Sync {
        node: Node,
    },
    OpenCounts,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) outcome: Result<Outcome, Error>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Reserved(Node),
    /// How often nodes are open; those that are not there are not.
    Counts(Vec<(DevNumber, u32)>),
    Done,
}

/// Writes a message as a line, in one call.
pub(crate) fn send(mut to: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// A path as its bytes: it may be no text.
pub(crate) mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(from)?).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Whole;
    use sim_core::DevNumber;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_request_reads_back_with_any_path() {
        let node = Node { dev: DevNumber { major: 259, minor: 3 }, disk: Whole::Ublk(41) };
        let file = OsStr::from_bytes(b"/mnt/\xff\n\"x").into();
        let shown = Shown { file, bytes: 1 << 50, read_only: true, block: 4096, read_ahead: 256 };
        let request = Request { number: 7, ask: Ask::Show { node, shown: shown.clone() } };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        let Request { number: 7, ask: Ask::Show { node: read, shown: there } } =
            serde_json::from_str(&line).unwrap()
        else {
            panic!("{line}")
        };
        assert_eq!((read, there), (node, shown));
    }
}
