//! The command line of `open`.

use std::path::{Path, PathBuf};

use clap::Args;
use containers::veracrypt::Volume;
use containers::{Limits, Unlock, VeraCrypt};
use crypto::Secret;
use daemon::Fault;
use daemon::fault::USAGE;
use ops::open::Sharing;
use ops::size::parse_size;

use crate::passphrase::{self, Range};

/// Open what an image holds: LUKS, BitLocker, VeraCrypt, plain dm-crypt
///
/// Exit status: 3 wrong passphrase or key slot, 4 no container, 5 damaged or too short, 6 unknown
/// cipher or hash, 7 reencryption in progress, 8 integrity, 9 costs more than the limits, 10 not
/// supported; 1 for anything else, 2 for a command line that makes no sense.
#[derive(Args, Clone, Debug)]
pub(crate) struct Open {
    /// The image: a file, an attached image's name, or a mapped device
    pub(crate) image: PathBuf,
    /// What the device is to be called
    pub(crate) name: String,
    /// Read the passphrase from a file, all of it; `-` is standard input
    #[arg(long, short = 'd', value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Read the passphrase from an open file descriptor
    #[arg(long, value_name = "N", conflicts_with = "key_file")]
    pub(crate) key_fd: Option<i32>,
    /// Skip so many bytes of the key file
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) keyfile_offset: u64,
    /// Read so many bytes of the key file
    #[arg(long, value_name = "BYTES")]
    pub(crate) keyfile_size: Option<u64>,
    /// Try this key slot alone
    #[arg(long, short = 'S', value_name = "N")]
    pub(crate) key_slot: Option<u32>,
    /// The header lies in this file, apart from the data
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,
    /// Refuse writes to the device
    #[arg(long, short = 'r')]
    pub(crate) read_only: bool,
    /// Pass discards on to the image
    #[arg(long)]
    pub(crate) allow_discards: bool,
    /// Open the image though another device uses it
    #[arg(long)]
    pub(crate) shared: bool,
    /// Derive keys though it takes as much memory (default 4G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) kdf_memory: Option<u64>,
    /// Derive keys though it takes so many iterations of PBKDF2 (default 100 million), or passes of
    /// Argon2 over its memory in KiB
    #[arg(long, value_name = "N")]
    pub(crate) kdf_iterations: Option<u64>,
    /// What the image is
    #[arg(long = "type", value_enum, default_value_t = Kind::Auto)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) headerless: Headerless,
    #[command(flatten)]
    pub(crate) plain: Plain,
    #[command(flatten)]
    pub(crate) tcrypt: Tcrypt,
}

/// What kind of container an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// What its header says: LUKS1, LUKS2, BitLocker
    Auto,
    /// Plain dm-crypt: there is no header
    Plain,
    /// VeraCrypt, or TrueCrypt: the header says nothing before it is opened
    Veracrypt,
    /// TrueCrypt alone, which is much faster to try
    Truecrypt,
}

/// What no header says.
#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "With --type plain, veracrypt and truecrypt, whose headers do not say it"
)]
pub(crate) struct Headerless {
    /// The cipher [plain: aes-xts-plain64; else all are tried]
    #[arg(long, short = 'c', value_name = "SPEC")]
    pub(crate) cipher: Option<String>,
    /// What the passphrase is hashed with; `plain` takes it as it is [plain: sha256; else all are
    /// tried]
    #[arg(long, value_name = "NAME")]
    pub(crate) hash: Option<String>,
}

/// How a TrueCrypt or VeraCrypt volume is found.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --type veracrypt and truecrypt")]
pub(crate) struct Tcrypt {
    /// Open the hidden volume
    #[arg(long)]
    pub(crate) hidden: bool,
    /// Open an encrypted system disk
    #[arg(long, conflicts_with = "hidden")]
    pub(crate) system: bool,
    /// Use the header at the end of the image
    #[arg(long)]
    pub(crate) backup: bool,
    /// The personal iterations multiplier
    #[arg(long, value_name = "N")]
    pub(crate) pim: Option<u32>,
    /// A key file that goes with the passphrase. May be given again
    #[arg(long = "with-key-file", value_name = "FILE")]
    pub(crate) key_files: Vec<PathBuf>,
}

/// What there is no header for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --type plain")]
pub(crate) struct Plain {
    /// The length of the key
    #[arg(long, short = 's', value_name = "BITS", default_value_t = 256)]
    pub(crate) key_size: u32,
    /// Where the data begin on the image
    #[arg(long, short = 'o', value_name = "SECTORS", default_value_t = 0)]
    pub(crate) offset: u64,
    /// What is added to sector numbers for initialization vectors
    #[arg(long, short = 'p', value_name = "SECTORS", default_value_t = 0)]
    pub(crate) skip: u64,
    /// The length of the data [default: up to the end]
    #[arg(long, short = 'b', value_name = "SECTORS")]
    pub(crate) size: Option<u64>,
    /// What is encrypted as one
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    pub(crate) sector_size: u32,
    /// Count initialization vectors in these instead of in 512 bytes
    #[arg(long)]
    pub(crate) iv_large_sectors: bool,
}

impl Open {
    /// Returns what is to be opened; key files that go with a passphrase are read.
    pub(crate) fn ask(&self) -> Result<ops::open::Open, Fault> {
        Ok(ops::open::Open {
            image: self.image.clone(),
            name: self.name.clone(),
            kind: self.kind()?,
            read_only: self.read_only,
            allow_discards: self.allow_discards,
            sharing: if self.shared { Sharing::Shared } else { Sharing::Exclusive },
        })
    }

    fn kind(&self) -> Result<ops::open::Kind, Fault> {
        Ok(match self.kind {
            Kind::Auto => ops::open::Kind::Container {
                header: self.header.clone(),
                unlock: Unlock { key_slot: self.key_slot, limits: self.limits() },
            },
            Kind::Plain => ops::open::Kind::Plain {
                plain: self.plain.describe(&self.headerless)?,
                raw_key: self.key_file.as_deref().is_some_and(|file| file != Path::new("-")),
            },
            Kind::Veracrypt | Kind::Truecrypt => ops::open::Kind::VeraCrypt {
                volume: self.veracrypt(),
                key_files: self.tcrypt.read_key_files()?,
                limits: self.limits(),
            },
        })
    }

    fn veracrypt(&self) -> VeraCrypt {
        let volume = match (self.tcrypt.hidden, self.tcrypt.system) {
            (true, _) => Volume::Hidden,
            (false, true) => Volume::System,
            (false, false) => Volume::Outer,
        };
        VeraCrypt {
            volume,
            backup: self.tcrypt.backup,
            pim: self.tcrypt.pim,
            hash: self.headerless.hash.clone(),
            cipher: self.headerless.cipher.clone(),
            truecrypt_only: self.kind == Kind::Truecrypt,
        }
    }

    /// Raises the limits of key derivation as far as was asked for.
    fn limits(&self) -> Limits {
        let usual = Limits::default();
        let memory = self.kdf_memory.map_or(usual.argon2_memory_kib, |bytes| bytes / 1024);
        Limits {
            pbkdf2_iterations: self.kdf_iterations.unwrap_or(usual.pbkdf2_iterations),
            argon2_memory_kib: memory,
            argon2_work_kib: self
                .kdf_iterations
                .map_or(usual.argon2_work_kib, |passes| passes.saturating_mul(memory))
                .max(usual.argon2_work_kib),
            ..usual
        }
    }
}

impl Tcrypt {
    fn read_key_files(&self) -> Result<Vec<Secret>, Fault> {
        let read = |path: &PathBuf| passphrase::from_file(path, Range::default());
        self.key_files.iter().map(read).collect()
    }
}

impl Plain {
    fn describe(&self, named: &Headerless) -> Result<containers::Plain, Fault> {
        if !self.key_size.is_multiple_of(8) {
            let why = format!("expected a multiple of 8 bits, found {}", self.key_size);
            return Err(Fault::new("--key-size", why).with_status(USAGE));
        }
        let usual = containers::Plain::default();
        Ok(containers::Plain {
            cipher: named.cipher.clone().unwrap_or(usual.cipher),
            key_bytes: self.key_size / 8,
            hash: named.hash.clone().unwrap_or(usual.hash),
            offset: self.offset,
            skip: self.skip,
            size: self.size,
            sector_size: self.sector_size,
            iv_large_sectors: self.iv_large_sectors,
        })
    }
}
