//! Containers made by the cryptsetup that is installed, with parameters that are quick.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crypto::Secret;
use recognise::containers::{Container, Data, LineTarget, Unlock, Unlocked};
use recognise::{Error, Source};

/// The size of an image in bytes: the header's 16 MiB and some data.
pub(crate) const SIZE: u64 = 20 << 20;

pub(crate) const PASSPHRASE: &str = "correct horse";

/// Quick parameters of PBKDF2.
pub(crate) const QUICK: [&str; 4] = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];

/// Whether there is a cryptsetup. Without one a test is skipped; not so where CI is to run it.
pub(crate) fn have_cryptsetup() -> bool {
    have("cryptsetup")
}

/// Whether there is a tool. Without it a test is skipped; not so where CI is to run it.
pub(crate) fn have(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{tool} is not installed");
        println!("skipped: {tool} is not installed");
    }
    found
}

/// An image file and the folder that goes with it.
pub(crate) struct Image {
    folder: tempfile::TempDir,
    pub(crate) file: File,
}

impl Image {
    pub(crate) fn empty(size: u64) -> Image {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(size).unwrap();
        Image { folder, file }
    }

    pub(crate) fn format(arguments: &[&str]) -> Image {
        let image = Image::empty(SIZE);
        let format = ["luksFormat", "--batch-mode", "--key-file", "-"];
        image.cryptsetup(&[&format[..], arguments].concat(), PASSPHRASE);
        image
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Puts bytes into a file beside the image.
    pub(crate) fn beside(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs `cryptsetup ARGUMENTS IMAGE`; `IMAGE` among the arguments stands for the image.
    pub(crate) fn try_cryptsetup(&self, arguments: &[&str], stdin: &str) -> Output {
        let path = self.path();
        let path = path.to_str().unwrap();
        let mut words: Vec<&str> =
            arguments.iter().map(|word| if *word == "IMAGE" { path } else { *word }).collect();
        if !arguments.contains(&"IMAGE") {
            words.push(path);
        }
        let mut child = Command::new("cryptsetup")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    pub(crate) fn cryptsetup(&self, arguments: &[&str], stdin: &str) -> String {
        let output = self.try_cryptsetup(arguments, stdin);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cryptsetup {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Adds a passphrase to a key slot.
    pub(crate) fn add_key(&self, slot: u32, passphrase: &str, more: &[&str]) {
        let new = self.beside("new", passphrase.as_bytes());
        let slot = slot.to_string();
        let words = ["luksAddKey", "--batch-mode", "--key-file", "-", "--key-slot", &slot];
        self.cryptsetup(&[&words[..], &QUICK, more, &["IMAGE", &new]].concat(), PASSPHRASE);
    }

    /// Returns the volume key as cryptsetup finds it, in hex.
    pub(crate) fn volume_key(&self) -> String {
        let words = ["luksDump", "--dump-volume-key", "--batch-mode", "--key-file", "-"];
        let text = self.cryptsetup(&words, PASSPHRASE);
        let (_, dump) = text.split_once("MK dump:").expect("a dumped key");
        dump.chars().filter(|c| !c.is_whitespace()).collect()
    }

    pub(crate) fn probe(&self) -> Container {
        recognise::containers::probe(self).unwrap()
    }

    pub(crate) fn unlock(&self, passphrase: &str, how: &Unlock) -> Result<Unlocked, Error> {
        self.unlock_with(Data::with_header(self.len()), passphrase, how)
    }

    pub(crate) fn unlock_with(
        &self,
        data: Data,
        passphrase: &str,
        how: &Unlock,
    ) -> Result<Unlocked, Error> {
        self.probe().unlock(self, data, &secret(passphrase), how)
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).unwrap();
    }
}

impl Source for Image {
    fn len(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

/// Asks for one key slot.
pub(crate) fn slot(number: u32) -> Unlock {
    Unlock { key_slot: Some(number), ..Unlock::default() }
}

/// Returns the key of an unlocked device's first line, in hex.
pub(crate) fn key(unlocked: &Unlocked) -> String {
    match &unlocked.lines()[0].target {
        LineTarget::Crypt(crypt) => crypt.key.to_hex().to_string(),
        other => panic!("{other:?}"),
    }
}
