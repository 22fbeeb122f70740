//! Return values of plug-ins, and the texts that they write: none of it is believed.

use std::ffi::c_int;

use sim_core::{BlkError, BlkResult, Errno};

/// The highest errno of Linux.
const MAX_ERRNO: i32 = 4095;

/// The errno of a read-only device.
pub(crate) const READ_ONLY: c_int = -Errno::ROFS.0;
/// The errno of a call that makes no sense.
pub(crate) const INVALID: c_int = -Errno::INVAL.0;
/// The errno of an I/O that is not on the device.
pub(crate) const IO: c_int = -Errno::IO.0;

/// Reads the end of a bio; what is no errno of a bio is an I/O error.
pub(crate) fn bio_end(code: c_int) -> BlkResult {
    match code.checked_neg().map(Errno) {
        Some(Errno(0)) => Ok(()),
        Some(Errno::OPNOTSUPP) => Err(BlkError::NotSupported),
        Some(Errno::NOSPC) => Err(BlkError::NoSpace),
        Some(Errno::TIMEDOUT) => Err(BlkError::Timeout),
        Some(Errno::NODATA) => Err(BlkError::Medium),
        Some(Errno::ILSEQ) => Err(BlkError::Protection),
        Some(Errno::NODEV) => Err(BlkError::Gone),
        Some(_) | None => Err(BlkError::Io),
    }
}

/// Reads the end of anything else; `None` where the code is no errno.
pub(crate) fn errno(code: c_int) -> Option<Result<(), Errno>> {
    match code.checked_neg()? {
        0 => Some(Ok(())),
        number @ 1..=MAX_ERRNO => Some(Err(Errno(number))),
        _ => None,
    }
}

/// Returns the code that tells a plug-in of the end of a bio.
pub(crate) fn of_bio(result: BlkResult) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => -error.errno().0,
    }
}

/// Takes the text that a plug-in says it wrote into a buffer, `len` bytes of it.
pub(crate) fn text(buffer: &[u8], len: usize) -> Result<&str, &'static str> {
    let Some((text, end)) = buffer.split_at_checked(len) else {
        return Err("a text longer than its buffer");
    };
    if end.first() != Some(&0) {
        return Err("a text that does not end where it should");
    }
    let text = std::str::from_utf8(text).map_err(|_| "a text that is not UTF-8")?;
    if text.chars().any(char::is_control) {
        return Err("a text with control characters");
    }
    Ok(text)
}

/// Takes the text that ends at the first zero byte of a buffer.
pub(crate) fn text_to_zero(buffer: &[u8]) -> Result<&str, &'static str> {
    text(buffer, buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_is_no_errno_is_an_io_error() {
        assert_eq!(bio_end(0), Ok(()));
        assert_eq!(bio_end(-28), Err(BlkError::NoSpace));
        for nonsense in [1, 28, 77, -1, -11, -5000, i32::MIN, i32::MAX] {
            assert_eq!(bio_end(nonsense), Err(BlkError::Io), "{nonsense}");
        }
        assert_eq!((errno(-22), errno(0)), (Some(Err(Errno::INVAL)), Some(Ok(()))));
        assert_eq!([errno(1), errno(-4096), errno(i32::MIN)], [None; 3]);
    }

    #[test]
    fn a_text_is_taken_only_whole() {
        assert_eq!(text(b"ab\0\0", 2), Ok("ab"));
        assert_eq!(text(b"\0", 0), Ok(""));
        for (buffer, len) in
            [(&b"ab\0"[..], 1), (b"ab\0", 3), (b"ab\0", 4), (b"a\0c\0", 3), (b"\xff\0", 1)]
        {
            assert!(text(buffer, len).is_err(), "{buffer:?} {len}");
        }
        assert_eq!(text_to_zero(b"ab\0c"), Ok("ab"));
        assert!(text_to_zero(b"abc").is_err());
        assert!(text_to_zero(b"a\nc\0").is_err());
    }
}
