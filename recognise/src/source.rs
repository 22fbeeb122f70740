//! Where headers are read from.

use std::io;

use zeroize::Zeroizing;

use crate::Error;

/// Something that holds a container: a file, a block device, bytes in memory. It is only read.
pub trait Source {
    /// Returns its size in bytes.
    fn len(&self) -> u64;

    /// Fills `into` from byte `offset` on. A read past the end is an error, never a short one.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Returns whether it holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|start| self.get(start..));
        let from = from.and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for &[u8] {
    fn len(&self) -> u64 {
        Source::len(*self)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        Source::read_at(*self, offset, into)
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Source::len(self.as_slice())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        Source::read_at(self.as_slice(), offset, into)
    }
}

/// Reads `len` bytes at `offset`, which the caller has bounded. They may be key material.
pub(crate) fn read(
    source: &dyn Source,
    offset: u64,
    len: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let needed = offset.saturating_add(len as u64);
    if source.len() < needed {
        return Err(Error::TooSmall { what: "the image", len: source.len(), needed });
    }
    let mut bytes = Zeroizing::new(vec![0; len]);
    let read = source.read_at(offset, &mut bytes);
    read.map_err(|source| Error::Io { offset, len: len as u64, source })?;
    Ok(bytes)
}
