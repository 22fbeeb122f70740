//! Where devices that are not mapped come from.

use std::sync::Arc;

use crate::{BlockDevice, BoxFuture, DevNumber, Errno, Refusal};

/// Where devices that are not mapped come from: attached images.
pub trait Backing: Send + Sync {
    /// Finds a device by its number; [`Errno::NXIO`] where there is none.
    fn by_number(&self, number: DevNumber) -> Result<Arc<dyn BlockDevice>, Errno>;

    /// Finds a device by the name or the path that a table line has. A relative path starts from
    /// `base`. [`Errno::NOENT`] where there is none, [`Errno::NOTBLK`] for what is no device.
    ///
    /// Waits as long as opening takes; nothing but the load of the table waits with it. One that
    /// is given up leaves nothing behind.
    fn by_word<'a>(
        &'a self,
        word: &'a str,
        base: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn BlockDevice>, Errno>>;

    /// Finds what a word leads to, which may be a mapped device after all. As [`by_word`], but
    /// that a refusal may say more.
    ///
    /// [`by_word`]: Self::by_word
    fn look_up<'a>(
        &'a self,
        word: &'a str,
        base: &'a str,
    ) -> BoxFuture<'a, Result<Found, Refusal>> {
        Box::pin(async move { Ok(Found::Device(self.by_word(word, base).await?)) })
    }
}

/// What the word of a table line leads to.
pub enum Found {
    /// A device that is not mapped.
    Device(Arc<dyn BlockDevice>),
    /// The mapped device of this name: the word is a path of the file that shows it.
    Mapped(String),
}
