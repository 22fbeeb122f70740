//! Where passphrases come from: the terminal, standard input, a key file, a file descriptor.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;

use crypto::Secret;
use daemon::{About, Fault};
use ops::{INTERRUPTED, Watch};
use recognise::shown_line;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::output::complain;

/// The longest key whose length nobody says, in bytes; cryptsetup's limit.
const MAX_KEY_FILE: u64 = 8 << 20;

/// How much of a passphrase that is typed counts, in bytes; cryptsetup's limit.
const MAX_TYPED: usize = 512;

/// How much is read at once of what is skipped, and of a key whose length is not known.
const PIECE: usize = 64 << 10;

/// Which bytes of a key file count.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    /// Without it the key ends where the file does; [`MAX_KEY_FILE`] may not be passed then.
    pub(crate) size: Option<u32>,
}

/// Where a key on standard input ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// At the end of the input, newlines and all.
    End,
    /// Before the first newline. Nothing behind it is read, so that the next program finds it.
    Newline,
}

/// How a passphrase is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    Once,
    /// Typed twice, the same both times.
    Twice,
}

/// Tells whether somebody can be asked.
pub(crate) fn is_asked() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a key by `read`, which may wait for ever; a signal ends that. What the terminal was told for it, not to
/// show what is typed, it is told no more.
///
/// # Errors
/// Those of `read`, or that of the interruption.
pub(crate) fn interruptibly(
    watch: &dyn Watch,
    read: impl FnOnce() -> Result<Secret, Fault> + Send + 'static,
) -> Result<Secret, Fault> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").ok();
    let before = terminal.as_ref().and_then(|terminal| tcgetattr(terminal).ok());
    ops::unless_interrupted("open", watch, read).unwrap_or_else(|interrupted| {
        if let (Some(mut terminal), Some(before)) = (terminal, before) {
            // One that is gone needs nothing.
            let _best_effort = tcsetattr(&terminal, OptionalActions::Now, &before);
            let _next_line = terminal.write_all(b"\n");
        }
        Err(interrupted)
    })
}

/// Asks on the terminal, which does not show what is typed; where there is none, takes a line of
/// standard input.
pub(crate) fn ask(prompt: &str, asking: Asking) -> Result<Secret, Fault> {
    if !is_asked() {
        return from_stdin(Range::default(), Until::Newline);
    }
    let typed = Zeroizing::new(typed(&shown_line(prompt))?);
    if asking == Asking::Twice {
        let again = self::typed("Verify passphrase: ")?;
        if *typed != *Zeroizing::new(again) {
            return Err(Fault::new("passphrase", "the two that were typed differ").with_status(3));
        }
    }
    if typed.len() > MAX_TYPED {
        complain!(
            "dmsim: warning: of a typed passphrase {MAX_TYPED} bytes count, as in cryptsetup"
        );
    }
    Ok(Secret::from(&typed.as_bytes()[..typed.len().min(MAX_TYPED)]))
}

/// Reads what somebody types. Ctrl-C is no signal meanwhile.
fn typed(prompt: &str) -> Result<String, Fault> {
    rpassword::prompt_password(prompt).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => {
            Fault::new("passphrase", "interrupted").with_status(INTERRUPTED)
        }
        _ => Fault::new("passphrase", error),
    })
}

/// Reads a key from standard input, from where it stands.
pub(crate) fn from_stdin(range: Range, until: Until) -> Result<Secret, Fault> {
    let what = "standard input";
    let stdin = io::stdin().as_fd().try_clone_to_owned().about(what)?;
    read(what, &File::from(stdin), Named::No, range, until)
}

/// Reads a key file; `-` is standard input. Nothing of it is left out, a newline at its end neither.
pub(crate) fn from_file(path: &Path, range: Range) -> Result<Secret, Fault> {
    if path == Path::new("-") {
        return from_stdin(range, Until::End);
    }
    let what = path.display().to_string();
    let file = File::open(path).about(&what)?;
    read(&what, &file, Named::Yes, range, Until::End)
}

/// Reads a passphrase from a file descriptor that this process was given.
pub(crate) fn from_descriptor(number: i32, range: Range) -> Result<Secret, Fault> {
    // By its name: nothing here may take a descriptor that belongs to somebody else.
    let what = format!("file descriptor {number}");
    let file = File::open(format!("/proc/self/fd/{number}")).about(&what)?;
    read(&what, &file, Named::No, range, Until::End)
}

/// Whether a file was named on the command line. An empty one that was holds an empty passphrase;
/// anything else that is empty is a writer that has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Yes,
    No,
}

/// Reads as cryptsetup's `crypt_keyfile_device_read` does.
fn read(
    what: &str,
    file: &File,
    named: Named,
    range: Range,
    until: Until,
) -> Result<Secret, Fault> {
    if file.is_terminal() {
        return Err(Fault::new(what, "is a terminal: a key is not read from one"));
    }
    let meta = file.metadata().about(what)?;
    if meta.is_dir() {
        return Err(Fault::new(what, "is a directory"));
    }
    let regular = named == Named::Yes && meta.is_file();
    let short = |found: u64| {
        let needed = range.offset.saturating_add(range.size.map_or(0, u64::from));
        Fault::new(what, format!("expected at least {needed} bytes, found {found}"))
    };
    if regular && range.offset > meta.len() {
        return Err(short(meta.len()));
    }
    if let Skipped::Only(found) = skip(file, range.offset).about(what)? {
        return Err(short(found));
    }
    // One byte more than may be there shows that there is more.
    let limit = range.size.map_or(MAX_KEY_FILE + 1, u64::from) as usize;
    let expected = if regular { (meta.len() - range.offset) as usize + 1 } else { PIECE };
    let key = match until {
        Until::End => read_to_end(file, limit, expected),
        Until::Newline => read_line(file, limit),
    };
    let Key { bytes, newline } = key.about(what)?;
    let len = bytes.len() as u64;
    if len == 0 && !regular && !newline {
        return Err(Fault::new(what, "expected a passphrase or key, found nothing"));
    }
    match range.size {
        None if len > MAX_KEY_FILE => {
            let why = format!("a key of more than {MAX_KEY_FILE} bytes: --keyfile-size takes it");
            Err(Fault::new(what, why))
        }
        Some(size) if len < u64::from(size) && newline => {
            let why = format!("expected {size} bytes before the newline, found {len}");
            Err(Fault::new(what, why))
        }
        Some(size) if len < u64::from(size) => Err(short(range.offset + len)),
        None | Some(_) => Ok(bytes),
    }
}

/// How far something was skipped.
enum Skipped {
    All,
    /// The input has so many bytes.
    Only(u64),
}

/// Skips bytes by seeking, and by reading where that cannot be.
fn skip(mut file: &File, bytes: u64) -> io::Result<Skipped> {
    if bytes == 0 {
        return Ok(Skipped::All);
    }
    let distance = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    match file.seek(SeekFrom::Current(distance)) {
        Ok(at) if at > 0 => return Ok(Skipped::All),
        // A device without a position, as /dev/urandom, which counts what is taken out.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotSeekable => {}
        Err(error) => return Err(error),
    }
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    let mut left = bytes;
    while left > 0 {
        let most = left.min(PIECE as u64) as usize;
        match file.read(&mut piece[..most]) {
            Ok(0) => return Ok(Skipped::Only(bytes - left)),
            Ok(read) => left -= read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Skipped::All)
}

/// What was read.
struct Key {
    bytes: Secret,
    /// It ended at a newline, which does not belong to it.
    newline: bool,
}

/// Reads up to `limit` bytes; `expected` is how many there seem to be.
fn read_to_end(mut file: &File, limit: usize, expected: usize) -> io::Result<Key> {
    let mut key = room(limit.min(expected))?;
    let mut len = 0;
    loop {
        if len == key.len() {
            if len == limit {
                break;
            }
            key = larger(&key, limit)?;
        }
        match file.read(&mut key.expose_mut()[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Key { bytes: Secret::from(&key.expose()[..len]), newline: false })
}

/// Reads up to `limit` bytes or a newline, byte by byte: what follows is not ours.
fn read_line(mut file: &File, limit: usize) -> io::Result<Key> {
    let mut key = room(limit.min(PIECE))?;
    let (mut len, mut newline) = (0, false);
    while len < limit {
        if len == key.len() {
            key = larger(&key, limit)?;
        }
        match file.read(&mut key.expose_mut()[len..=len]) {
            Ok(0) => break,
            Ok(_) if key.expose()[len] == b'\n' => {
                newline = true;
                break;
            }
            Ok(_) => len += 1,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Key { bytes: Secret::from(&key.expose()[..len]), newline })
}

/// Makes room for so many bytes. A vector that grows by itself leaves copies behind.
fn room(len: usize) -> io::Result<Secret> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(len, 0);
    Ok(Secret::new(bytes))
}

/// Moves a key to twice the room; the old one is wiped.
fn larger(key: &Secret, limit: usize) -> io::Result<Secret> {
    let mut next = room((key.len() * 2).max(PIECE).min(limit))?;
    next.expose_mut()[..key.len()].copy_from_slice(key.expose());
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: Result<Secret, Fault>) -> Result<Vec<u8>, String> {
        key.map(|key| key.expose().to_vec()).map_err(|fault| fault.why)
    }

    #[test]
    fn a_key_file_is_read_from_where_and_as_far_as_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, b"0123456789\n").unwrap();
        let read = |offset, size| bytes(from_file(&path, Range { offset, size }));
        assert_eq!(read(0, None), Ok(b"0123456789\n".to_vec()));
        assert_eq!(read(3, Some(4)), Ok(b"3456".to_vec()));
        assert_eq!(read(11, None), Ok(Vec::new()));
        assert_eq!(read(8, Some(4)), Err("expected at least 12 bytes, found 11".to_owned()));
        assert_eq!(read(12, Some(1)).unwrap_err(), "expected at least 13 bytes, found 11");
        assert_eq!(read(u64::MAX, Some(1)).unwrap_err().rsplit(' ').next(), Some("11"));
    }

    #[test]
    fn a_long_key_is_read_where_its_length_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let read = |size| from_file(&path, Range { offset: 0, size }).map(|key| key.len());
        std::fs::write(&path, vec![7; MAX_KEY_FILE as usize]).unwrap();
        assert_eq!(read(None), Ok(MAX_KEY_FILE as usize));
        std::fs::write(&path, vec![7; MAX_KEY_FILE as usize + 9]).unwrap();
        assert!(read(None).unwrap_err().why.contains("--keyfile-size"));
        assert_eq!(read(Some(MAX_KEY_FILE as u32 + 9)), Ok(MAX_KEY_FILE as usize + 9));
        assert!(read(Some(u32::MAX)).unwrap_err().why.contains("found 8388617"));
    }

    #[test]
    fn an_offset_is_skipped_by_seeking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let file = File::create(&path).unwrap();
        let at = 15_000_000_000;
        std::os::unix::fs::FileExt::write_all_at(&file, b"far", at).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(bytes(from_file(&path, Range { offset: at, size: None })), Ok(b"far".to_vec()));
        assert!(begun.elapsed() < std::time::Duration::from_secs(1));
    }

    #[test]
    fn an_endless_file_is_read_as_far_as_was_said() {
        let read = |offset, size| bytes(from_file("/dev/zero".as_ref(), Range { offset, size }));
        assert_eq!(read(100_000, Some(5)), Ok(vec![0; 5]));
        assert!(read(0, None).unwrap_err().contains("more than 8388608 bytes"));
        let urandom = Range { offset: 3, size: Some(100_000) };
        assert_eq!(from_file("/dev/urandom".as_ref(), urandom).unwrap().len(), 100_000);
        assert!(bytes(from_file("/dev/null".as_ref(), Range::default())).is_err());
    }
}
