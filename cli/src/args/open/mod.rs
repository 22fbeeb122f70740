//! The command line of `open`.

pub(crate) mod stack;

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use crypto::Secret;
use daemon::Fault;
use daemon::fault::USAGE;
use ops::open::{Expected, Sharing};
use ops::size::parse_size;
use recognise::containers::veracrypt::Volume;
use recognise::containers::{Limits, Unlock, VeraCrypt};

use crate::passphrase::{self, Asking, Range, Until};
use stack::Stack;

/// Open what images hold: partitions, LUKS, BitLocker, LVM2, RAID sets, down to the file systems
///
/// With a NAME, the container that the image is becomes the device NAME: LUKS, BitLocker, and with --type
/// VeraCrypt and plain dm-crypt. Without one, all that is there is opened, layer by layer: each becomes a
/// device (disk1p2, vg-lv), and those with file systems are printed, with type, size and label. Nothing is
/// mounted. `dmsim close` takes it all down again.
///
/// Of two words the second is a NAME, unless it is the path of a file; --name makes all words images.
///
/// Options are cryptsetup's, where it has them; docs/src/cryptsetup.md has a table of what becomes of
/// each.
///
/// --json prints an object: name, the stack's, which closes it; devices, from the bottom up, with name, path,
/// size_bytes, read_only, has_layers_above, is_part (of another device, nothing for people), type, label and
/// uuid of what it holds, or null, and lines, those of its table; not_opened, objects with name and why.
///
/// Exit status: 11 where some of it could not be opened (what and why is said), and the rest is; 3 wrong passphrase or key slot, 4 no container, 5 damaged or too short, 6 unknown
/// cipher or hash, 7 reencryption in progress, 8 integrity, 9 costs more than the limits, 10 not
/// supported; 1 for anything else, 2 for a command line that makes no sense.
#[derive(Args, Clone, Debug)]
// cryptsetup's -h is --hash: what prints a help and opens nothing must not end well.
#[command(
    disable_help_flag = true,
    override_usage = "dmsim open [OPTIONS] IMAGE NAME\n       dmsim open [OPTIONS] [--name NAME] IMAGE..."
)]
pub(crate) struct Open {
    /// The image, or images: files, attached images' names, or mapped devices; or one, and what its device is to
    /// be called
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) words: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) stack: Stack,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// What the image is
    #[arg(long = "type", short = 'M', value_enum, default_value_t = Kind::Auto)]
    pub(crate) kind: Kind,
    /// Read the passphrase from a file, all of it; `-` is standard input
    #[arg(long, short = 'd', value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Read the passphrase from an open file descriptor
    #[arg(long, value_name = "N", conflicts_with = "key_file")]
    pub(crate) key_fd: Option<i32>,
    /// Skip so many bytes of the key file or of standard input
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) keyfile_offset: u64,
    /// Read so many bytes of the key file or of standard input
    #[arg(long, short = 'l', value_name = "BYTES")]
    pub(crate) keyfile_size: Option<u32>,
    /// Try this key slot alone
    #[arg(long, short = 'S', value_name = "N")]
    pub(crate) key_slot: Option<u32>,
    /// The header lies in this file, apart from the data
    #[arg(long, value_name = "FILE")]
    pub(crate) header: Option<PathBuf>,
    /// Refuse writes to the device
    #[arg(long, short = 'r', alias = "readonly")]
    pub(crate) read_only: bool,
    /// Pass discards on to the image
    #[arg(long)]
    pub(crate) allow_discards: bool,
    /// Open the image though another device uses it
    #[arg(long)]
    pub(crate) shared: bool,
    /// Try the passphrase and make no device
    #[arg(long)]
    pub(crate) test_passphrase: bool,
    /// Ask so often for a passphrase
    #[arg(long, short = 'T', value_name = "N", default_value_t = 3)]
    pub(crate) tries: u32,
    /// Ask for a passphrase twice, and refuse it where the two differ
    #[arg(long, short = 'y')]
    pub(crate) verify_passphrase: bool,
    /// Leave out warnings: of options that are ignored, and of another device that writes there too
    #[arg(long, short = 'q', visible_alias = "quiet")]
    pub(crate) batch_mode: bool,
    /// With --test-passphrase: say which key slot opens
    #[arg(long, short = 'v')]
    pub(crate) verbose: bool,
    /// Derive keys though it takes as much memory (default 4G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) kdf_memory: Option<u64>,
    /// Derive keys though it takes so many iterations of PBKDF2 (default 100 million), or passes of
    /// Argon2 over its memory in KiB
    #[arg(long, value_name = "N")]
    pub(crate) kdf_iterations: Option<u64>,
    #[command(flatten)]
    pub(crate) headerless: Headerless,
    #[command(flatten)]
    pub(crate) plain: Plain,
    #[command(flatten)]
    pub(crate) tcrypt: Tcrypt,
    #[command(flatten)]
    pub(crate) perf: Perf,
    #[command(flatten)]
    pub(crate) moot: Moot,
}

/// What kind of container an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// What its header says: LUKS1, LUKS2, BitLocker
    Auto,
    /// LUKS1 or LUKS2, and nothing else
    Luks,
    /// LUKS1 alone
    Luks1,
    /// LUKS2 alone
    Luks2,
    /// BitLocker alone
    #[value(alias = "bitlocker")]
    Bitlk,
    /// Plain dm-crypt: there is no header
    Plain,
    /// VeraCrypt or TrueCrypt, by cryptsetup's word
    Tcrypt,
    /// VeraCrypt, or TrueCrypt: the header says nothing before it is opened
    Veracrypt,
    /// TrueCrypt alone, which is much faster to try
    Truecrypt,
}

/// Where a passphrase or key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeySource<'a> {
    /// Somebody types it.
    Typed,
    /// Standard input has it, up to there.
    Stdin(Until),
    /// A key file.
    File(&'a Path),
    /// A file descriptor.
    Descriptor(i32),
}

/// Parameters of the crypt target.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Put into the table, where they change nothing")]
pub(crate) struct Perf {
    /// Put same_cpu_crypt into the table
    #[arg(long = "perf-same_cpu_crypt")]
    same_cpu: bool,
    /// Put submit_from_crypt_cpus into the table
    #[arg(long = "perf-submit_from_crypt_cpus")]
    submit: bool,
    /// Put no_read_workqueue into the table
    #[arg(long = "perf-no_read_workqueue")]
    no_read: bool,
    /// Put no_write_workqueue into the table
    #[arg(long = "perf-no_write_workqueue")]
    no_write: bool,
}

/// What cryptsetup has, and what changes nothing here.
#[derive(Args, Clone, Debug)]
pub(crate) struct Moot {
    /// Turns off what dmsim never does
    #[arg(long, hide = true)]
    disable_keyring: bool,
    /// Turns off what dmsim never does
    #[arg(long, hide = true)]
    disable_locks: bool,
    /// Turns off what dmsim never does
    #[arg(long, hide = true)]
    disable_external_tokens: bool,
    /// Is so without it
    #[arg(long, hide = true)]
    veracrypt: bool,
    /// A prompt waits for ever
    #[arg(long, short = 't', hide = true, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// Nothing waits for other openings
    #[arg(long, hide = true)]
    pub(crate) serialize_memory_hard_pbkdf: bool,
    /// There is nothing more to say
    #[arg(long, hide = true, alias = "debug-json")]
    pub(crate) debug: bool,
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
    #[arg(long, short = 'h', value_name = "NAME")]
    pub(crate) hash: Option<String>,
}

/// How a TrueCrypt or VeraCrypt volume is found.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --type veracrypt and truecrypt")]
pub(crate) struct Tcrypt {
    /// Open the hidden volume
    #[arg(long, alias = "tcrypt-hidden")]
    pub(crate) hidden: bool,
    /// Open an encrypted system disk
    #[arg(long, alias = "tcrypt-system", conflicts_with = "hidden")]
    pub(crate) system: bool,
    /// Use the header at the end of the image
    #[arg(long, alias = "tcrypt-backup")]
    pub(crate) backup: bool,
    /// The personal iterations multiplier
    #[arg(long, alias = "veracrypt-pim", value_name = "N")]
    pub(crate) pim: Option<u32>,
    /// Try TrueCrypt alone, as --type truecrypt
    #[arg(long)]
    pub(crate) disable_veracrypt: bool,
    /// A key file that goes with the passphrase. May be given again
    #[arg(long = "with-key-file", value_name = "FILE")]
    pub(crate) key_files: Vec<PathBuf>,
}

/// What there is no header for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --type plain")]
pub(crate) struct Plain {
    /// The length of the key [default: 256]
    #[arg(long, short = 's', value_name = "BITS")]
    pub(crate) key_size: Option<u32>,
    /// Where the data begin on the image: sectors of 512 bytes, or bytes as 1M, 10G [default: 0]. Also without
    /// --type: where to look
    #[arg(long, short = 'o', value_name = "SECTORS", value_parser = parse_sectors)]
    pub(crate) offset: Option<u64>,
    /// What is added to sector numbers for initialization vectors [default: 0]
    #[arg(long, short = 'p', value_name = "SECTORS")]
    pub(crate) skip: Option<u64>,
    /// The length of the data, likewise [default: up to the end]
    #[arg(long, short = 'b', value_name = "SECTORS", value_parser = parse_sectors)]
    pub(crate) size: Option<u64>,
    /// The length of the data in bytes, or 10M, 1G
    #[arg(long, value_name = "BYTES", value_parser = parse_size, conflicts_with = "size")]
    pub(crate) device_size: Option<u64>,
    /// What is encrypted as one [default: 512]
    #[arg(long, value_name = "BYTES")]
    pub(crate) sector_size: Option<u32>,
    /// Count initialization vectors in these instead of in 512 bytes
    #[arg(long)]
    pub(crate) iv_large_sectors: bool,
}

impl Open {
    pub(super) fn sharing(&self) -> Sharing {
        if self.shared { Sharing::Shared } else { Sharing::Exclusive }
    }

    /// Returns which container is to be opened; key files that go with a passphrase are read.
    pub(crate) fn ask(&self, image: PathBuf, name: String) -> Result<ops::open::Open, Fault> {
        Ok(ops::open::Open {
            image,
            name,
            kind: self.kind()?,
            read_only: self.read_only,
            options: self.options(),
            sharing: self.sharing(),
        })
    }

    /// Returns where the passphrase or key comes from.
    pub(crate) fn key_source(&self) -> KeySource<'_> {
        match (self.key_file.as_deref(), self.key_fd) {
            (Some(path), _) if path != Path::new("-") => KeySource::File(path),
            (_, Some(number)) => KeySource::Descriptor(number),
            (_, None) if passphrase::is_asked() => KeySource::Typed,
            (Some(_), None) => KeySource::Stdin(Until::End),
            (None, None) => KeySource::Stdin(Until::Newline),
        }
    }

    /// Returns which bytes of that count. A key that is not hashed is as long as the cipher's, as
    /// cryptsetup has it: so an endless file does.
    pub(crate) fn key_range(&self) -> Range {
        let size = match self.has_raw_key() {
            true => Some(self.plain.key_bits() / 8),
            false => self.keyfile_size,
        };
        Range { offset: self.keyfile_offset, size: size.filter(|size| *size > 0) }
    }

    /// Returns how a passphrase is asked for.
    pub(crate) fn asking(&self) -> Asking {
        if self.verify_passphrase { Asking::Twice } else { Asking::Once }
    }

    /// Tells whether what is read is the key itself.
    pub(crate) fn has_raw_key(&self) -> bool {
        let unhashed = self.headerless.hash.as_deref() == Some("plain");
        self.kind == Kind::Plain
            && match self.key_source() {
                KeySource::File(_) => true,
                KeySource::Descriptor(_) | KeySource::Stdin(Until::End) => unhashed,
                KeySource::Stdin(Until::Newline) | KeySource::Typed => false,
            }
    }

    /// Returns what is to be opened, without the name.
    pub(crate) fn kind(&self) -> Result<ops::open::Kind, Fault> {
        let container = |expected| ops::open::Kind::Container {
            expected,
            header: self.header.clone(),
            unlock: Unlock { key_slot: self.key_slot, limits: self.limits() },
        };
        Ok(match self.kind {
            Kind::Auto => container(Expected::Any),
            Kind::Luks => container(Expected::Luks),
            Kind::Luks1 => container(Expected::Luks1),
            Kind::Luks2 => container(Expected::Luks2),
            Kind::Bitlk => container(Expected::BitLocker),
            Kind::Plain => ops::open::Kind::Plain {
                plain: self.plain.describe(&self.headerless)?,
                raw_key: self.has_raw_key(),
            },
            Kind::Tcrypt | Kind::Veracrypt | Kind::Truecrypt => ops::open::Kind::VeraCrypt {
                volume: self.veracrypt(),
                key_files: self.tcrypt.read_key_files()?,
                limits: self.limits(),
            },
        })
    }

    /// Lists the crypt target's optional parameters.
    pub(super) fn options(&self) -> Vec<&'static str> {
        let named = [
            (self.allow_discards, "allow_discards"),
            (self.perf.same_cpu, "same_cpu_crypt"),
            (self.perf.submit, "submit_from_crypt_cpus"),
            (self.perf.no_read, "no_read_workqueue"),
            (self.perf.no_write, "no_write_workqueue"),
        ];
        named.into_iter().filter_map(|(given, name)| given.then_some(name)).collect()
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
            truecrypt_only: self.is_truecrypt(),
        }
    }

    /// Tells whether VeraCrypt is left out.
    pub(crate) fn is_truecrypt(&self) -> bool {
        self.kind == Kind::Truecrypt || self.tcrypt.disable_veracrypt
    }

    /// Raises the limits of key derivation as far as was asked for.
    pub(super) fn limits(&self) -> Limits {
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

/// Reads a length in sectors, or in bytes where it has a unit.
fn parse_sectors(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(sectors) => Ok(sectors),
        Err(_) => match parse_size(text)? {
            bytes if bytes.is_multiple_of(512) => Ok(bytes / 512),
            bytes => Err(format!("expected a multiple of 512 bytes, found {bytes}")),
        },
    }
}

impl Plain {
    /// Tells whether it says where the data lie.
    pub(super) fn has_place(&self) -> bool {
        self.offset.is_some() || self.size.is_some() || self.device_size.is_some()
    }

    /// Returns the length of the key. None is asked for with 0, as cryptsetup has it.
    pub(crate) fn key_bits(&self) -> u32 {
        self.key_size.filter(|bits| *bits > 0).unwrap_or(256)
    }

    fn describe(&self, named: &Headerless) -> Result<recognise::containers::Plain, Fault> {
        let bits = self.key_bits();
        if !bits.is_multiple_of(8) {
            let why = format!("expected a multiple of 8 bits, found {bits}");
            return Err(Fault::new("--key-size", why).with_status(USAGE));
        }
        let usual = recognise::containers::Plain::default();
        Ok(recognise::containers::Plain {
            cipher: named.cipher.clone().unwrap_or(usual.cipher),
            key_bytes: bits / 8,
            hash: named.hash.clone().unwrap_or(usual.hash),
            offset: self.offset.unwrap_or(0),
            skip: self.skip.unwrap_or(0),
            size: self.size.or(self.device_size.map(|bytes| bytes / 512)),
            sector_size: self.sector_size.unwrap_or(512),
            iv_large_sectors: self.iv_large_sectors,
        })
    }
}
