//! The command line of `open` without a NAME: all that images hold.

use std::path::{Path, PathBuf};

use clap::Args;
use daemon::Fault;
use daemon::fault::USAGE;
use recognise::containers::Unlock;

use super::{Kind, Open};

/// Which of what is there, and how it is shown.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "For all that there is, without NAME")]
pub(crate) struct Stack {
    /// Call the devices after this [default: the image's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Open this partition alone, and what is in it
    #[arg(long, value_name = "N", conflicts_with_all = ["offset", "size", "device_size"])]
    pub(crate) partition: Option<u32>,
    /// Leave containers closed that no key opens, and open the rest
    #[arg(long)]
    pub(crate) leave_locked: bool,
    /// Print the tables, and make no device
    #[arg(long)]
    pub(crate) plan: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Stack {
    fn is_asked(&self) -> bool {
        self.partition.is_some() || self.leave_locked || self.plan || self.json
    }
}

/// What the words of a command line ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The container that an image is.
    One {
        /// The image.
        image: PathBuf,
        /// What its device is to be called.
        name: String,
    },
    /// All that is on images.
    All {
        /// The images.
        images: Vec<PathBuf>,
        /// What it is to be called.
        name: Option<String>,
    },
}

impl Open {
    /// Tells what the words ask for.
    pub(crate) fn form(&self) -> Result<Form, Fault> {
        let is_one = self.kind != Kind::Auto || self.header.is_some() || self.test_passphrase;
        let (image, rest) = self.words.split_first().expect("one word is required");
        // With --name all words are images.
        let name = match rest {
            [] if self.test_passphrase => Some(String::new()),
            [second] if self.stack.name.is_none() => name_in(second)?,
            _ => None,
        };
        match name {
            Some(name) if is_one || !self.stack.is_asked() => {
                Ok(Form::One { image: image.clone(), name })
            }
            name @ Some(_) => Ok(Form::All { images: vec![image.clone()], name }),
            None if is_one => {
                let why = "expected IMAGE NAME: --type, --header and --test-passphrase are of one container";
                Err(Fault::new("open", why).with_status(USAGE))
            }
            None => Ok(Form::All { images: self.words.clone(), name: self.stack.name.clone() }),
        }
    }

    /// Returns which stack is to be opened.
    pub(crate) fn ask_all(
        &self,
        images: Vec<PathBuf>,
        name: Option<String>,
    ) -> ops::open::stack::Ask {
        let bytes = |sectors: u64| sectors.saturating_mul(512);
        let (offset, size) = (self.plain.offset, self.plain.size);
        let size = size.map(bytes).or(self.plain.device_size);
        ops::open::stack::Ask {
            images,
            name,
            partition: self.stack.partition,
            slice: self.plain.has_place().then(|| (offset.map_or(0, bytes), size)),
            read_only: self.read_only,
            leave_locked: self.stack.leave_locked,
            options: self.options(),
            sharing: self.sharing(),
            unlock: Unlock { key_slot: self.key_slot, limits: self.limits() },
        }
    }
}

/// Tells whether the second of two words is a name, or another image: a path that leads nowhere is no name.
fn name_in(word: &Path) -> Result<Option<String>, Fault> {
    let Some(text) = word.to_str() else { return Ok(None) };
    let looks_like_an_image = ops::open::stack::is_image_name(text);
    let is_there = word.metadata().is_ok_and(|file| !file.is_dir());
    match (text.contains('/'), is_there, looks_like_an_image) {
        (true, ..) if word.symlink_metadata().is_err() => {
            let why = "no such file; and a name has no `/`";
            Err(Fault::new(text, why).with_status(USAGE))
        }
        (true, ..) | (false, true, true) => Ok(None),
        (false, true, false) => {
            let why = format!(
                "is a file here, and could be a name: ./{text} is the image, --name {text} the name"
            );
            Err(Fault::new(text, why).with_status(USAGE))
        }
        (false, false, true) => {
            let why = format!("no such file; where a name is meant, --name {text}");
            Err(Fault::new(text, why))
        }
        (false, false, false) => Ok(Some(text.to_owned())),
    }
}
