//! Where the keys of containers come from: what the command line names, else who sits at the terminal.

use std::path::{Path, PathBuf};

use crypto::Secret;
use daemon::Fault;
use daemon::mangle;
use daemon::protocol::{Filled, Keyless, KeylessStack};
use ops::Watch;
use ops::open::{KeyForm, KeyHolder};

use recognise::shown_line;

use crate::args::open::{KeySource, Open};
use crate::output::complain;
use crate::passphrase::{self, Asking, Range};

/// The exit status where no key opens.
const WRONG_KEY: u8 = 3;

/// The keys for an `open`.
pub(crate) struct TypedKeys<'a> {
    options: &'a Open,
    watch: &'a dyn Watch,
    /// What was asked for last, and how often.
    last: String,
    tries: u32,
}

impl<'a> TypedKeys<'a> {
    pub(crate) fn new(options: &'a Open, watch: &'a dyn Watch) -> TypedKeys<'a> {
        TypedKeys { options, watch, last: String::new(), tries: 0 }
    }

    fn is_typed(&self) -> bool {
        matches!(self.options.key_source(), KeySource::Typed) && passphrase::is_asked()
    }
}

impl KeyHolder for TypedKeys<'_> {
    fn key(&mut self, prompt: &str) -> Result<Secret, Fault> {
        if self.last != prompt {
            (self.last, self.tries) = (prompt.to_owned(), 0);
        }
        self.tries += 1;
        let range = self.options.key_range();
        let read: Box<dyn FnOnce() -> Result<Secret, Fault> + Send> =
            match self.options.key_source() {
                KeySource::File(path) => {
                    let path = path.to_owned();
                    Box::new(move || passphrase::from_file(&path, range))
                }
                KeySource::Descriptor(number) => {
                    Box::new(move || passphrase::from_descriptor(number, range))
                }
                KeySource::Stdin(until) => Box::new(move || passphrase::from_stdin(range, until)),
                KeySource::Typed => {
                    let (prompt, asking) = (prompt.to_owned(), self.options.asking());
                    Box::new(move || passphrase::ask(&prompt, asking))
                }
            };
        let key = passphrase::interruptibly(self.watch, read);
        key.map_err(|fault| match self.options.stack.leave_locked {
            // No key is none that opens.
            true if fault.status != ops::INTERRUPTED => fault.with_status(WRONG_KEY),
            true | false => fault,
        })
    }

    fn is_wrong(&mut self, place: &Path) -> bool {
        let again = self.is_typed() && self.tries < self.options.tries;
        if again {
            complain!("dmsim: {}: no key available with this passphrase", place.display());
        }
        again
    }

    fn warn(&mut self, what: &str) {
        complain!("dmsim: warning: {}", shown_line(what));
    }
}

/// Where the keys of devices come from that are restored: files by the names of the devices.
pub(crate) struct RestoreKeys {
    /// For whom: what is wrong with a key is told so.
    pub(crate) verb: &'static str,
    /// Passphrases and keys.
    pub(crate) files: Vec<(String, PathBuf)>,
    /// Headers that lie apart.
    pub(crate) headers: Vec<(String, PathBuf)>,
}

impl RestoreKeys {
    /// Gives tables their keys again. Those of a device for which no file is named and nobody can
    /// be asked stay as they are, and those for which that leads to no key: why, is told.
    pub(crate) fn fill(&self, keyless: &KeylessStack) -> Vec<Filled> {
        let mut filled = Vec::new();
        for device in &keyless.devices {
            let file = named(&self.files, &device.name);
            if file.is_none() && !passphrase::is_asked() {
                continue;
            }
            let header = named(&self.headers, &device.name);
            let mut key = |prompt: &str, form| key(device, file, prompt, form);
            match ops::open::fill(device, &keyless.images, header, &mut key) {
                Ok(tables) => filled.extend(tables),
                Err(fault) => {
                    complain!("dmsim: {}: {}: {fault}", self.verb, mangle::decode(&device.name))
                }
            }
        }
        filled
    }
}

fn named<'a>(files: &'a [(String, PathBuf)], name: &str) -> Option<&'a Path> {
    // A name may be typed as it was typed for `open`, or as lists print it.
    let typed = mangle::decode(name);
    let found = files.iter().find(|(of, _)| of == name || *of == typed);
    found.map(|(_, path)| path.as_path())
}

/// Takes what a file holds as it is; a key that no container keeps is typed in hexadecimal digits.
fn key(
    device: &Keyless,
    file: Option<&Path>,
    prompt: &str,
    form: KeyForm,
) -> Result<Secret, Fault> {
    if let Some(file) = file {
        return passphrase::from_file(file, Range::default());
    }
    let typed = passphrase::ask(prompt, Asking::Once)?;
    match form {
        KeyForm::Passphrase => Ok(typed),
        KeyForm::Raw => {
            let digits = std::str::from_utf8(typed.expose()).unwrap_or_default();
            Secret::from_hex(digits.trim()).map_err(|fault| Fault::new(&device.name, fault.detail))
        }
    }
}
