//! Runs a row's script, and judges what it leaves.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use tempfile::TempDir;

use super::rows::{Leaves, Row};
use super::{DEVICE, Place};

/// How long the source is: neither whole pages nor whole sectors, with a hole in front, holes of
/// several sizes, and a hole at the end.
const SOURCE: usize = (1 << 20) + 5000;
const DATA: [(usize, usize); 5] =
    [(128 << 10, 64 << 10), (200_000, 1), (300_001, 70_000), (512 << 10, 4096), (900_000, 90_000)];

/// Where scripts find what they copy.
pub(crate) struct Shell {
    http: String,
    copied: Vec<u8>,
}

impl Shell {
    pub(crate) fn new() -> Shell {
        let mut copied = vec![0; SOURCE];
        for (from, len) in DATA {
            copied[from..from + len].fill(0xee);
        }
        Shell { http: serve(copied.clone()), copied }
    }

    /// Runs a row, and tells what it leaves that it must not.
    pub(crate) fn check(&self, row: &Row, leaves: Leaves, place: &mut Place) -> Result<(), String> {
        let Row { program, script, .. } = row;
        if !is_installed(program) {
            return Ok(());
        }
        let dir = tempfile::tempdir().unwrap();
        let source = self.make_source(dir.path());
        let before = place.fill();
        let node = identity(&place.path);
        let output = run(
            script,
            &dir,
            &[("SRC", source.as_path()), ("DST", &place.path), ("HTTP", Path::new(&self.http))],
        );
        let said = said(&output);
        let wrong = |what: &str| Err(format!("{script}: {what}: {said}"));
        let (word, succeeds) = match leaves {
            Leaves::Refused(word) => (word, false),
            Leaves::Warned(word) => (word, true),
            Leaves::Fails => ("", false),
            Leaves::Source
            | Leaves::SourceInSectors
            | Leaves::SourceAt(_)
            | Leaves::AllButLastHole
            | Leaves::Data(_)
            | Leaves::SomeHoles
            | Leaves::Zeros
            | Leaves::ZerosIn(..)
            | Leaves::Nothing
            | Leaves::Own
            | Leaves::Replaced => ("", true),
        };
        match (succeeds, output.status.success()) {
            (false, true) => return wrong("it is taken"),
            (true, false) => return wrong("it fails"),
            _ if !said.contains(word) => return wrong("it says something else"),
            (false, false) | (true, true) => {}
        }
        leaves.check(&before, &self.copied, &place.content()).or_else(|why| wrong(&why))?;
        match (leaves, identity(&place.path) == node) {
            (Leaves::Replaced, true) => return wrong("it is the same file"),
            (Leaves::Replaced, false) => return Ok(()),
            (_, false) => return wrong("it is another file"),
            (_, true) => {}
        }
        match place.file.seek(SeekFrom::End(0)).unwrap() {
            len if len == DEVICE as u64 => Ok(()),
            len => wrong(&format!("{len} bytes")),
        }
    }

    fn make_source(&self, dir: &Path) -> PathBuf {
        // An archive's member has the device's name.
        let path = dir.join("d");
        let file = File::create(&path).unwrap();
        file.set_len(SOURCE as u64).unwrap();
        for (from, len) in DATA {
            file.write_all_at(&self.copied[from..from + len], from as u64).unwrap();
        }
        File::create(dir.join("larger")).unwrap().set_len(2 * DEVICE as u64).unwrap();
        path
    }
}

/// Which file a path leads to; none where there is none.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Runs a script in a directory of its own.
pub(crate) fn run(script: &str, dir: &TempDir, environment: &[(&str, &Path)]) -> Output {
    Command::new("sh")
        .args(["-c", script])
        .envs(environment.iter().copied())
        .env("DIR", dir.path())
        .env("LC_ALL", "C")
        .env("PATH", PATH)
        .current_dir(dir.path())
        .output()
        .unwrap()
}

/// Where file systems' programs lie is not in everybody's path.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Tells whether a program is there, and says once where it is not.
pub(crate) fn is_installed(program: &'static str) -> bool {
    static KNOWN: Mutex<Option<HashMap<&str, bool>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap();
    *known.get_or_insert_default().entry(program).or_insert_with(|| {
        let script = format!("command -v {program}");
        let which = Command::new("sh").args(["-c", &script]).env("PATH", PATH).output().unwrap();
        let found = which.status.success();
        assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed");
        if !found {
            println!("skipped: {program} is not installed");
        }
        found
    })
}

pub(crate) fn said(Output { stdout, stderr, .. }: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
}

/// Serves some bytes to whoever asks for anything, and returns where.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/d", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // One that hangs up early is told by what its program has left.
            let _asked = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
            let _sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
        }
    });
    url
}
