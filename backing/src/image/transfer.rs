//! Bytes to and from the file of an image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sim_core::{BlkError, BlkResult, Errno};

use super::Image;
use super::opening::Kind;
use crate::runtime::blocking::blocking;

impl Image {
    /// Tells whether I/O may wait for a device of this very daemon: a disk of the machine may be a loop device over
    /// one. Nothing that serves devices is to wait for it.
    pub(super) fn may_wait_for_us(&self) -> bool {
        self.kind == Kind::Node
    }

    /// Reads on this thread, or where it may wait on another.
    pub(super) async fn read_all(&self, at: u64, buffer: &mut [u8]) -> BlkResult {
        if !self.may_wait_for_us() {
            return self.read(at, buffer);
        }
        let len = buffer.len();
        let read = apart(&self.file, move |file| {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
            bytes.resize(len, 0);
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        });
        match read.await? {
            Ok(bytes) => {
                buffer.copy_from_slice(&bytes);
                Ok(())
            }
            Err(error) => self.read_failed(&error),
        }
    }

    /// Writes on this thread, or where it may wait on another.
    pub(super) async fn write_all(&self, at: u64, data: &[u8]) -> BlkResult {
        if !self.may_wait_for_us() {
            return self.write(at, data);
        }
        self.check_whole(at + data.len() as u64)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(data.len()).map_err(|_| BlkError::Io)?;
        bytes.extend_from_slice(data);
        let written = apart(&self.file, move |file| file.write_all_at(&bytes, at));
        written.await?.map_err(|error| self.failed("write", &error))
    }

    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> BlkResult {
        if buffer.is_empty() {
            return Ok(());
        }
        match self.mapping() {
            // A file that ends within its last page reads as zeros there, without a signal.
            Some(mapping) if at + buffer.len() as u64 <= mapping.tail() => {
                mapping.copy(at, buffer).then_some(()).ok_or_else(|| {
                    self.tell_fault();
                    BlkError::Io
                })
            }
            Some(_) | None => self.pread(at, buffer),
        }
    }

    fn pread(&self, at: u64, buffer: &mut [u8]) -> BlkResult {
        self.file.read_exact_at(buffer, at).or_else(|error| self.read_failed(&error))
    }

    pub(super) fn write(&self, at: u64, data: &[u8]) -> BlkResult {
        self.check_whole(at + data.len() as u64)?;
        self.file.write_all_at(data, at).map_err(|error| self.failed("write", &error))
    }

    /// Fails where the file was cut: a write would make it long again, with zeros for what is
    /// lost. `end` is where, in bytes, what is to be written ends.
    pub(super) fn check_whole(&self, end: u64) -> BlkResult {
        let now = self.now();
        let whole = match now.mapping() {
            // Much cheaper than to ask, and enough: the file reaches into its last page.
            Some(mapping) if end <= mapping.tail() => mapping.is_whole(),
            Some(_) | None => self.kind == Kind::Node || self.file_len() >= now.size.bytes(),
        };
        whole.then_some(()).ok_or_else(|| self.poison())
    }

    fn read_failed(&self, error: &io::Error) -> BlkResult {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Err(self.poison()),
            _ => Err(self.failed("read", error)),
        }
    }
}

/// Does something with a file on a thread of its own.
async fn apart<T: Send + 'static>(
    file: &Arc<File>,
    work: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, BlkError> {
    let file = file.clone();
    let done: Result<_, Errno> = blocking("host disk", move || Ok(work(&file))).await;
    done.map_err(|_| BlkError::Io)
}
