//! `open`, `close` and `dump`: what encrypted images hold.
//!
//! The client reads the header and derives the keys; the daemon is given the finished table, as
//! `cryptsetup` gives it to the kernel. So a header that was made to do harm costs the client
//! alone, and the daemon never knows a passphrase.

pub(crate) mod image;
mod keys;
mod passphrase;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use containers::veracrypt::Volume;
use containers::{
    Container, Data, Error, Limits, Line, LineTarget, Plain, PlainKey, Unlock, Unlocked, VeraCrypt,
    probe,
};
use crypto::Secret;
use sim_core::control::{Answer, Command, Failure, Id, Slot, WhenOpen};
use sim_core::{Access, Errno, Held, Sector, Sectors, TargetSpec};
use zeroize::Zeroizing;

use crate::args::{Kind, Open};
use crate::client::{Client, unexpected};
use crate::fault::{About, Fault, causes};
use crate::instance::Instance;
use crate::output::print;
use crate::protocol::{Outcome, Request};
use image::{Image, ImageFile};
pub(crate) use keys::Keys;
use passphrase::{Range, TRIES};

/// What the uuids of opened devices begin with, there as in cryptsetup.
const UUID: &str = "CRYPT-";

/// `dmsim open`.
pub(crate) fn open(instance: &Instance, options: &Open) -> Result<ExitCode, Fault> {
    keep_out_of_core_dumps();
    let name = &options.name;
    check_name("open", name)?;
    let mut client = Client::connect_or_start(instance)?;
    if status(&mut client, name)?.is_some() {
        return Err(Fault::new("open", format!("a device `{name}` is there already")));
    }
    let image = Image::find(&mut client, &options.image)?;
    let opened = match options.kind {
        Kind::Auto => open_container(&image, options)?,
        Kind::Plain => open_plain(&image, options)?,
        Kind::Veracrypt | Kind::Truecrypt => open_veracrypt(&image, options)?,
    };
    opened.unlocked.warnings.iter().for_each(|warning| eprintln!("dmsim: warning: {warning}"));
    activate(&mut client, options, &image, opened)?;
    print(&format!("{}\n", client.welcome.mount.join(name).display()))
}

/// `dmsim dump`.
pub(crate) fn dump(path: &Path, json: bool) -> Result<ExitCode, Fault> {
    let container = read_header(&ImageFile::open(path)?, path)?;
    for warning in container.warnings() {
        eprintln!("dmsim: warning: {warning}");
    }
    if json {
        let text = serde_json::to_string_pretty(&container.dump()).about("dump")?;
        return print(&format!("{text}\n"));
    }
    print(&container.dump().to_string())
}

/// `dmsim close`: removes a device that [`open`] made, and what it made below it.
pub(crate) fn close(instance: &Instance, name: &str) -> Result<ExitCode, Fault> {
    let mut client = Client::connect(instance)?;
    let uuid = status(&mut client, name)?.ok_or_else(|| Fault::new(name, "no such device"))?;
    if !uuid.starts_with(UUID) {
        let why = "not made by `open`: `dmsim remove` removes any device";
        return Err(Fault::new(name, why));
    }
    let layers = layers(&mut client, name, &uuid)?;
    for layer in layers {
        let open = WhenOpen::Refuse;
        let removed = client.control(Command::DevRemove { id: Id::Name(layer.clone()), open })?;
        removed.map_err(|failure| in_use(&mut client, &layer, &failure))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists a device and those below it that the same `open` made, from the top down.
fn layers(client: &mut Client, name: &str, uuid: &str) -> Result<Vec<String>, Fault> {
    let mut layers = vec![name.to_owned()];
    loop {
        let below = layer_name(name, layers.len());
        match status(client, &below)? {
            Some(other) if other.strip_suffix(&below) == uuid.strip_suffix(name) => {
                layers.push(below);
            }
            Some(_) | None => return Ok(layers),
        }
    }
}

/// Names the device so many layers below the one that was asked for, as cryptsetup does.
fn layer_name(name: &str, below: usize) -> String {
    if below == 0 { name.to_owned() } else { format!("{name}_{below}") }
}

fn in_use(client: &mut Client, name: &str, failure: &Failure) -> Fault {
    let users = match client.ask(&Request::Users) {
        Ok(Outcome::Users(users)) => users,
        Ok(_) | Err(_) => Vec::new(),
    };
    let own = users.iter().filter(|user| user.device == name);
    let who: Vec<String> = own.map(|user| format!("{} (pid {})", user.program, user.pid)).collect();
    match failure.errno {
        Errno::BUSY if !who.is_empty() => Fault::new(name, format!("in use by {}", who.join(", "))),
        _ => Fault::new(name, failure),
    }
}

/// Keys come into memory from here on.
pub(crate) fn keep_out_of_core_dumps() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // It cannot fail: the kernel knows the value.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// A container that is open, but for the devices.
struct Opened {
    /// What the uuid has between its prefix and the name.
    kind: String,
    unlocked: Unlocked,
}

fn open_container(image: &Image, options: &Open) -> Result<Opened, Fault> {
    let data = ImageFile::open(&image.path)?;
    let (header, data, place) = match &options.header {
        None => {
            let len = containers::Source::len(&data);
            (data, Data::with_header(len), image.path.clone())
        }
        Some(path) => {
            (ImageFile::open(path)?, Data::apart(containers::Source::len(&data)), path.clone())
        }
    };
    let container = read_header(&header, &place)?;
    let how = Unlock { key_slot: options.key_slot, limits: limits(options) };
    let unlock = |passphrase: &Secret| container.unlock(&header, data, passphrase, &how);
    let unlocked = with_passphrase(options, &place, unlock)?;
    let uuid = container.uuid().unwrap_or_default().replace('-', "");
    Ok(Opened { kind: format!("{}-{uuid}", container.kind().to_uppercase()), unlocked })
}

fn open_plain(image: &Image, options: &Open) -> Result<Opened, Fault> {
    let given = &options.plain;
    if !given.key_size.is_multiple_of(8) {
        let why = format!("expected a multiple of 8 bits, found {}", given.key_size);
        return Err(Fault::new("--key-size", why).with_status(crate::USAGE));
    }
    let (usual, named) = (Plain::default(), &options.headerless);
    let plain = Plain {
        cipher: named.cipher.clone().unwrap_or(usual.cipher),
        key_bytes: given.key_size / 8,
        hash: named.hash.clone().unwrap_or(usual.hash),
        offset: given.offset,
        skip: given.skip,
        size: given.size,
        sector_size: given.sector_size,
        iv_large_sectors: given.iv_large_sectors,
    };
    let data = ImageFile::open(&image.path)?;
    let len = containers::Source::len(&data);
    let unlock = |secret: &Secret| {
        let is_file = options.key_file.as_deref().is_some_and(|file| file != Path::new("-"));
        let key = if is_file { PlainKey::KeyFile(secret) } else { PlainKey::Passphrase(secret) };
        plain.unlock(len, key)
    };
    let unlocked = with_passphrase(options, &image.path, unlock)?;
    Ok(Opened { kind: "PLAIN".to_owned(), unlocked })
}

fn open_veracrypt(image: &Image, options: &Open) -> Result<Opened, Fault> {
    let given = &options.tcrypt;
    let volume = match (given.hidden, given.system) {
        (true, _) => Volume::Hidden,
        (false, true) => Volume::System,
        (false, false) => Volume::Outer,
    };
    let veracrypt = VeraCrypt {
        volume,
        backup: given.backup,
        pim: given.pim,
        hash: options.headerless.hash.clone(),
        cipher: options.headerless.cipher.clone(),
        truecrypt_only: options.kind == Kind::Truecrypt,
    };
    let data = ImageFile::open(&image.path)?;
    let key_files =
        given.key_files.iter().map(|path| passphrase::from_file(path, Range::default()));
    let key_files: Vec<Secret> = key_files.collect::<Result<_, _>>()?;
    let limits = limits(options);
    let unlock = |secret: &Secret| veracrypt.unlock(&data, secret, &key_files, &limits);
    let unlocked = with_passphrase(options, &image.path, unlock)?;
    Ok(Opened { kind: "TCRYPT".to_owned(), unlocked })
}

/// Raises the limits of key derivation as far as was asked for.
fn limits(options: &Open) -> Limits {
    let usual = Limits::default();
    let memory = options.kdf_memory.map_or(usual.argon2_memory_kib, |bytes| bytes / 1024);
    Limits {
        pbkdf2_iterations: options.kdf_iterations.unwrap_or(usual.pbkdf2_iterations),
        argon2_memory_kib: memory,
        argon2_work_kib: options
            .kdf_iterations
            .map_or(usual.argon2_work_kib, |passes| passes.saturating_mul(memory))
            .max(usual.argon2_work_kib),
        ..usual
    }
}

/// Unlocks with the passphrase that was given, or asked for: several times, on a terminal.
fn with_passphrase(
    options: &Open,
    place: &Path,
    unlock: impl Fn(&Secret) -> Result<Unlocked, Error>,
) -> Result<Unlocked, Fault> {
    let range = Range { offset: options.keyfile_offset, size: options.keyfile_size };
    let given = match (&options.key_file, options.key_fd) {
        (Some(path), _) => Some(passphrase::from_file(path, range)?),
        (None, Some(number)) => Some(passphrase::from_descriptor(number, range)?),
        (None, None) => None,
    };
    if let Some(passphrase) = given {
        return unlock(&passphrase).map_err(|error| told(place, &error));
    }
    let prompt = format!("Passphrase for {}: ", place.display());
    let tries = if passphrase::is_asked() { TRIES } else { 1 };
    for left in (0..tries).rev() {
        match unlock(&passphrase::ask(&prompt)?) {
            Err(Error::WrongPassphrase { .. }) if left > 0 => {
                eprintln!("dmsim: {}: no key available with this passphrase", place.display());
            }
            other => return other.map_err(|error| told(place, &error)),
        }
    }
    unreachable!("the last try returns")
}

fn read_header(header: &ImageFile, path: &Path) -> Result<Container, Fault> {
    probe(header).map_err(|error| told(path, &error))
}

/// Tells of an error with the exit status of its kind.
fn told(path: &Path, error: &Error) -> Fault {
    let status = match error {
        Error::WrongPassphrase { .. } | Error::NoSuchKeySlot { .. } | Error::UnboundSlot(_) => 3,
        Error::NotAContainer(_) => 4,
        Error::DamagedHeader { .. } | Error::TooSmall { .. } => 5,
        Error::UnknownCipher { .. } | Error::UnknownHash { .. } => 6,
        Error::ReencryptionInProgress(_) => 7,
        Error::IntegritySegment { .. } => 8,
        Error::TooCostly { .. } | Error::NoMemory { .. } => 9,
        Error::UnknownRequirement(_) | Error::Unsupported(_) => 10,
        _ => 1,
    };
    let hint = match error {
        Error::TooCostly { .. } => "; --kdf-memory and --kdf-iterations raise the limits",
        Error::DetachedHeader => "; name the header with --header and the data as the image",
        _ => "",
    };
    Fault::new(path.display(), format!("{}{hint}", causes(error))).with_status(status)
}

/// Makes the devices, from the bottom up; none is left where one fails.
fn activate(
    client: &mut Client,
    options: &Open,
    image: &Image,
    opened: Opened,
) -> Result<(), Fault> {
    let access = if options.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let mut below = image.word.clone();
    let mut made = Vec::new();
    let mut layers = opened.unlocked.layers;
    if options.allow_discards {
        layers.iter_mut().flatten().for_each(allow_discards);
    }
    for (at, lines) in layers.iter().enumerate() {
        let name = layer_name(&options.name, layers.len() - 1 - at);
        let targets = lines.iter().map(|line| spec(line, &below)).collect();
        let uuid = format!("{UUID}{}-{name}", opened.kind);
        let result = make(client, &name, uuid, access, targets);
        made.push(name.clone());
        if let Err(fault) = result {
            for name in made.iter().rev() {
                let open = WhenOpen::Refuse;
                // Where it was not made there is nothing to remove.
                let _ = client.control(Command::DevRemove { id: Id::Name(name.clone()), open });
            }
            return Err(fault);
        }
        below = format!("{MAPPER}{name}");
    }
    Ok(())
}

fn make(
    client: &mut Client,
    name: &str,
    uuid: String,
    access: Access,
    targets: Vec<TargetSpec>,
) -> Result<(), Fault> {
    let id = || Id::Name(name.to_owned());
    let base = "/".to_owned();
    for command in [
        Command::DevCreate { name: name.to_owned(), uuid: Some(uuid), minor: None },
        Command::TableLoad { id: id(), access, targets, base },
        Command::DevResume { id: id(), held: Held::Flush },
    ] {
        client.control(command)?.about(name)?;
    }
    Ok(())
}

/// Makes a table line for the control plane.
fn spec(line: &Line, below: &str) -> TargetSpec {
    let text: Zeroizing<String> = line.table_line(below);
    let (start, len) = (Sector(line.start), Sectors(line.len));
    let target_type = line.target_type().to_owned();
    let params = text.splitn(4, ' ').nth(3).unwrap_or_default().into();
    TargetSpec { start, len, target_type, params }
}

fn allow_discards(line: &mut Line) {
    const OPTION: &str = "allow_discards";
    match &mut line.target {
        LineTarget::Crypt(crypt) if !crypt.options.contains(&OPTION) => crypt.options.push(OPTION),
        LineTarget::Crypt(_) | LineTarget::Linear(_) | LineTarget::Zero => {}
    }
}

/// Returns the uuid of a device; nothing where there is no such device.
fn status(client: &mut Client, name: &str) -> Result<Option<String>, Fault> {
    let (id, slot) = (Id::Name(name.to_owned()), Slot::Live);
    match client.control(Command::DevStatus { id, slot })? {
        Ok(Answer::Status(status)) => Ok(Some(status.uuid.unwrap_or_default())),
        Err(failure) if failure.errno == Errno::NXIO => Ok(None),
        Err(failure) => Err(Fault::new(name, failure)),
        Ok(other) => Err(unexpected(Outcome::Control(Ok(other)))),
    }
}

/// Refuses names that the kernel would know in another form.
pub(crate) fn check_name(verb: &str, name: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) && name != "." && name != ".." {
        return Ok(());
    }
    let why = format!("expected a name of letters, digits and #+-.:=@_, found `{name}`");
    Err(Fault::new(verb, why).with_status(crate::USAGE))
}

/// What the name of a mapped device follows in a table line.
pub(crate) const MAPPER: &str = "/dev/mapper/";

/// Returns what a table line calls the mapped device that a path shows, if it shows one.
pub(crate) fn mapped_word(mount: &Path, path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let parent = path.parent()?;
    let name = path.file_name()?.to_str()?;
    let real = |path: &Path| path.canonicalize().ok();
    // Two folders that are not there are not the same.
    let same = |one: &Path| one == mount || real(one).is_some_and(|it| Some(it) == real(mount));
    (parent == Path::new(MAPPER) || same(parent)).then(|| format!("{MAPPER}{name}"))
}

/// The path behind a mapped device's word.
pub(crate) fn mapped_path(mount: &Path, word: &str) -> PathBuf {
    mount.join(word.strip_prefix(MAPPER).unwrap_or(word))
}
