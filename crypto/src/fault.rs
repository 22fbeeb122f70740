use std::fmt;

/// What the kernel refuses a cipher, a key or a sector size with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kernel's own text (`ti->error`), for those who search for it.
    pub kernel: &'static str,
    /// Which errno the kernel gives.
    pub kind: FaultKind,
    /// What is wrong, in words for people: what was expected, what was found. Names no key.
    pub detail: String,
}

/// Which errno stands for a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// `EINVAL`: the words are wrong, or do not go together.
    Invalid,
    /// `ENOENT`: nothing has that name.
    NoEntry,
    /// `EEXIST`: the algorithm is there, under another name.
    Exists,
    /// `ENOMEM`: the specification is longer than an algorithm's name may be.
    NoMemory,
}

impl FaultKind {
    /// Returns the errno as Linux numbers it, positive.
    pub fn errno(self) -> i32 {
        match self {
            FaultKind::Invalid => 22,
            FaultKind::NoEntry => 2,
            FaultKind::Exists => 17,
            FaultKind::NoMemory => 12,
        }
    }
}

impl Fault {
    pub(crate) fn new(kernel: &'static str, kind: FaultKind, detail: impl Into<String>) -> Fault {
        Fault { kernel, kind, detail: detail.into() }
    }

    pub(crate) fn invalid(kernel: &'static str, detail: impl Into<String>) -> Fault {
        Fault::new(kernel, FaultKind::Invalid, detail)
    }

    /// Says whether the kernel finds this fault only after it has opened the device: the one case
    /// is `Integrity profile not supported.`, asked of the device below.
    pub fn is_about_the_device(&self) -> bool {
        self.kernel == NO_PROFILE
    }
}

/// What a kernel says where authenticated data has no device with room for tags below it.
pub(crate) const NO_PROFILE: &str = "Integrity profile not supported.";
/// What a kernel says of any key it cannot read or its cipher does not take.
pub(crate) const BAD_KEY: &str = "Error decoding and setting key";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.detail, self.kernel)
    }
}

impl std::error::Error for Fault {}
