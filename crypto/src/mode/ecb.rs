use super::{Iv, Mode};
use crate::block::Block;

/// Each block by itself; there is no iv.
pub(crate) struct Ecb(pub(crate) Box<dyn Block>);

impl Mode for Ecb {
    fn encrypt(&self, _: &[Iv], data: &mut [u8]) {
        self.0.encrypt(data);
    }

    fn decrypt(&self, _: &[Iv], data: &mut [u8]) {
        self.0.decrypt(data);
    }
}
