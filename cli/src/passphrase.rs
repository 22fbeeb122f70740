//! Where passphrases come from: the terminal, standard input, a key file, a file descriptor.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

use crypto::Secret;
use daemon::{About, Fault};
use zeroize::Zeroizing;

/// The longest key file, in bytes; cryptsetup's limit.
const MAX_KEY_FILE: u64 = 8 << 20;

/// The longest passphrase that is typed, in bytes; cryptsetup's limit.
const MAX_PASSPHRASE: u64 = 512;

/// How often a passphrase may be typed.
pub(crate) const TRIES: u32 = 3;

/// Which bytes of a key file count.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) size: Option<u64>,
}

/// Tells whether somebody can be asked.
pub(crate) fn is_asked() -> bool {
    io::stdin().is_terminal()
}

/// Asks on the terminal, which does not show what is typed; where there is none, takes a line of
/// standard input.
pub(crate) fn ask(prompt: &str) -> Result<Secret, Fault> {
    if is_asked() {
        let typed = Zeroizing::new(rpassword::prompt_password(prompt).about("passphrase")?);
        return Ok(Secret::from(typed.as_bytes()));
    }
    // Room for all of it first: a line that grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE as usize + 2));
    let mut stdin = io::stdin().lock().take(MAX_PASSPHRASE + 2);
    stdin.read_until(b'\n', &mut line).about("standard input")?;
    if line.is_empty() {
        return Err(Fault::new("standard input", "expected a passphrase, found nothing"));
    }
    let passphrase = line.strip_suffix(b"\n").unwrap_or(&line);
    if passphrase.len() as u64 > MAX_PASSPHRASE {
        let why = format!("a passphrase of more than {MAX_PASSPHRASE} bytes");
        return Err(Fault::new("standard input", why));
    }
    Ok(Secret::from(passphrase))
}

/// Reads a key file; `-` is standard input. Nothing of it is left out, a newline at its end
/// neither.
pub(crate) fn from_file(path: &Path, range: Range) -> Result<Secret, Fault> {
    if path == Path::new("-") {
        return from_reader("standard input", &mut io::stdin().lock(), range);
    }
    let mut file = File::open(path).about(path.display())?;
    from_reader(&path.display().to_string(), &mut file, range)
}

/// Reads a passphrase from a file descriptor that this process was given.
pub(crate) fn from_descriptor(number: i32, range: Range) -> Result<Secret, Fault> {
    // By its name: nothing here may take a descriptor that belongs to somebody else.
    let path = format!("/proc/self/fd/{number}");
    let mut file = File::open(&path).about(format!("file descriptor {number}"))?;
    from_reader(&format!("file descriptor {number}"), &mut file, range)
}

fn from_reader(what: &str, from: &mut impl Read, range: Range) -> Result<Secret, Fault> {
    let skipped = io::copy(&mut from.by_ref().take(range.offset), &mut io::sink()).about(what)?;
    let most = range.size.unwrap_or(MAX_KEY_FILE);
    if most > MAX_KEY_FILE {
        return Err(Fault::new(what, format!("a key of more than {MAX_KEY_FILE} bytes")));
    }
    // As large as it can become at once: a buffer that grows leaves copies behind.
    let mut key = Secret::zeroed(most as usize + 1);
    let mut len = 0;
    let wanted = most as usize + usize::from(range.size.is_none());
    while len < wanted {
        match from.read(&mut key.expose_mut()[len..wanted]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::new(what, error)),
        }
    }
    if len as u64 > most {
        return Err(Fault::new(what, format!("a key of more than {MAX_KEY_FILE} bytes")));
    }
    if skipped < range.offset || range.size.is_some_and(|size| (len as u64) < size) {
        let (offset, found) = (range.offset, skipped + len as u64);
        let needed = offset.saturating_add(range.size.unwrap_or(0));
        return Err(Fault::new(what, format!("expected at least {needed} bytes, found {found}")));
    }
    Ok(Secret::from(&key.expose()[..len]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_from_where_and_as_far_as_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, b"0123456789\n").unwrap();
        let read = |offset, size| {
            let key = from_file(&path, Range { offset, size });
            key.map(|key| key.expose().to_vec()).map_err(|fault| fault.why)
        };
        assert_eq!(read(0, None), Ok(b"0123456789\n".to_vec()));
        assert_eq!(read(3, Some(4)), Ok(b"3456".to_vec()));
        assert_eq!(read(11, None), Ok(Vec::new()));
        assert_eq!(read(8, Some(4)), Err("expected at least 12 bytes, found 11".to_owned()));
        assert_eq!(read(12, Some(1)).unwrap_err(), "expected at least 13 bytes, found 11");
        std::fs::write(&path, vec![7; MAX_KEY_FILE as usize]).unwrap();
        assert_eq!(read(0, None).map(|key| key.len()), Ok(MAX_KEY_FILE as usize));
        std::fs::write(&path, vec![7; MAX_KEY_FILE as usize + 1]).unwrap();
        assert!(read(0, None).unwrap_err().contains("more than"));
    }
}
