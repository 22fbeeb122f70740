//! What an unlock may cost, and what is asked of it.

/// What a header may make its reader spend. A header is whatever somebody wrote on a disk: one
/// that asks for more is refused with the figure, before anything is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Iterations of PBKDF2 for one key slot or digest. 100 million, which is some twenty times
    /// what cryptsetup picks on a fast machine; the largest that a header can hold is 4 billion.
    pub pbkdf2_iterations: u64,
    /// Memory for Argon2 in KiB. 4 GiB, the most that cryptsetup writes (its default is 1 GiB).
    pub argon2_memory_kib: u64,
    /// Memory times passes of Argon2 in KiB, which is what it costs in time. 256 GiB: minutes.
    pub argon2_work_kib: u64,
    /// Lanes of Argon2. 16: cryptsetup writes 4 at most.
    pub argon2_lanes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pbkdf2_iterations: 100_000_000,
            argon2_memory_kib: 4 << 20,
            argon2_work_kib: 256 << 20,
            argon2_lanes: 16,
        }
    }
}

/// How to unlock: the default tries every key slot within the default [`Limits`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlock {
    /// Only this key slot, even one that is to be ignored otherwise.
    pub key_slot: Option<u32>,
    /// What it may cost.
    pub limits: Limits,
}

/// The device that holds the encrypted data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Its size in bytes.
    pub len: u64,
    /// Whether it is the image that holds the header.
    pub place: Place,
}

/// Where the data lie. The offset of the data in the header counts on the data device in both
/// cases; a detached header's is mostly 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind the header, on the same device.
    WithHeader,
    /// On a device of its own.
    Apart,
}

impl Data {
    /// The usual case: data behind the header, in an image of `len` bytes.
    pub fn with_header(len: u64) -> Data {
        Data { len, place: Place::WithHeader }
    }

    /// Data on a device of `len` bytes, without the header.
    pub fn apart(len: u64) -> Data {
        Data { len, place: Place::Apart }
    }
}
