//! Block ciphers by the kernel's names, behind one trait that takes many blocks a call.

mod twofish;

use cipher::array::Array;
use cipher::{
    Block as CipherBlock, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit,
};
use zeroize::Zeroizing;

/// The largest block of any cipher, bytes.
pub(crate) const MAX_BLOCK: usize = 16;

/// A block cipher with its key. `data` is whole blocks; the more of them, the faster.
pub(crate) trait Block: Send + Sync {
    fn encrypt(&self, data: &mut [u8]);
    fn decrypt(&self, data: &mut [u8]);
}

/// A cipher's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes,
    Aria,
    Blowfish,
    Camellia,
    Cast5,
    Cast6,
    Des,
    Des3,
    Null,
    Serpent,
    Sm4,
    Twofish,
}

use Cipher::*;

impl Cipher {
    /// Every cipher, with the kernel's name for it.
    pub(crate) const ALL: [(&'static str, Cipher); 12] = [
        ("aes", Aes),
        ("aria", Aria),
        ("blowfish", Blowfish),
        ("camellia", Camellia),
        ("cast5", Cast5),
        ("cast6", Cast6),
        ("des", Des),
        ("des3_ede", Des3),
        ("cipher_null", Null),
        ("serpent", Serpent),
        ("sm4", Sm4),
        ("twofish", Twofish),
    ];

    pub(crate) fn by_name(name: &str) -> Option<Cipher> {
        Cipher::ALL.iter().find(|known| known.0 == name).map(|known| known.1)
    }

    pub(crate) fn name(self) -> &'static str {
        let found = Cipher::ALL.iter().find(|known| known.1 == self);
        found.expect("every cipher is in the list").0
    }

    /// Bytes of a block.
    pub(crate) fn block_size(self) -> usize {
        match self {
            Aes | Aria | Camellia | Cast6 | Serpent | Sm4 | Twofish => 16,
            Blowfish | Cast5 | Des | Des3 => 8,
            Null => 1,
        }
    }

    /// The kernel's shortest and longest key in bytes; not every length between is one.
    pub(crate) fn key_sizes(self) -> (usize, usize) {
        match self {
            Aes | Aria | Camellia | Cast6 | Twofish => (16, 32),
            Blowfish => (4, 56),
            Cast5 => (5, 16),
            Des => (8, 8),
            Des3 => (24, 24),
            Null => (0, 0),
            Serpent => (0, 32),
            Sm4 => (16, 16),
        }
    }

    /// The key lengths in words, for messages.
    pub(crate) fn key_sizes_in_words(self) -> String {
        match self {
            Aes | Aria | Camellia | Twofish => "16, 24 or 32 bytes".to_owned(),
            Cast6 => "16, 20, 24, 28 or 32 bytes".to_owned(),
            Null => "no key at all (`-`)".to_owned(),
            _ => match self.key_sizes() {
                (min, max) if min == max => format!("{min} bytes"),
                (min, max) => format!("{min} to {max} bytes"),
            },
        }
    }

    /// Sets the key up; `None` where the cipher takes no key of this length.
    pub(crate) fn with_key(self, key: &[u8]) -> Option<Box<dyn Block>> {
        match (self, key.len()) {
            (Aes, 16) => ready::<aes::Aes128>(key),
            (Aes, 24) => ready::<aes::Aes192>(key),
            (Aes, 32) => ready::<aes::Aes256>(key),
            (Aria, 16) => ready::<aria::Aria128>(key),
            (Aria, 24) => ready::<aria::Aria192>(key),
            (Aria, 32) => ready::<aria::Aria256>(key),
            (Blowfish, 4..=56) => ready::<blowfish::Blowfish>(key),
            (Camellia, 16) => ready::<camellia::Camellia128>(key),
            (Camellia, 24) => ready::<camellia::Camellia192>(key),
            (Camellia, 32) => ready::<camellia::Camellia256>(key),
            (Cast5, 5..=16) => ready::<cast5::Cast5>(key),
            (Cast6, 16 | 20 | 24 | 28 | 32) => ready::<cast6::Cast6>(key),
            (Des, 8) => ready::<des::Des>(key),
            (Des3, 24) => ready::<des::TdesEde3>(key),
            (Null, 0) => Some(Box::new(Nothing)),
            (Serpent, 0..=32) => ready::<serpent::Serpent>(&*whole_serpent_key(key)),
            (Sm4, 16) => ready::<sm4::Sm4>(key),
            (Twofish, _) => Some(Box::new(twofish::Twofish::new(key)?)),
            _ => None,
        }
    }
}

/// Fills a short key of Serpent up to 32 bytes as the cipher's paper has it: a one bit, then zeros.
fn whole_serpent_key(key: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut whole = Zeroizing::new([0; 32]);
    whole[..key.len()].copy_from_slice(key);
    if let Some(next) = whole.get_mut(key.len()) {
        *next = 1;
    }
    whole
}

struct Ready<C>(C);

fn ready<C>(key: &[u8]) -> Option<Box<dyn Block>>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + KeyInit + Send + Sync + 'static,
{
    let cipher = C::new_from_slice(key).ok()?;
    Some(Box::new(Ready(cipher)))
}

impl<C> Block for Ready<C>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync,
{
    fn encrypt(&self, data: &mut [u8]) {
        match blocks::<C>(data) {
            [one] => self.0.encrypt_block(one),
            many => self.0.encrypt_blocks(many),
        }
    }

    fn decrypt(&self, data: &mut [u8]) {
        self.0.decrypt_blocks(blocks::<C>(data));
    }
}

fn blocks<C: BlockSizeUser>(data: &mut [u8]) -> &mut [CipherBlock<C>] {
    let (blocks, rest) = Array::slice_as_chunks_mut(data);
    assert!(rest.is_empty(), "data is whole blocks");
    blocks
}

/// `cipher_null`: data is what it was.
struct Nothing;

impl Block for Nothing {
    fn encrypt(&self, _: &mut [u8]) {}

    fn decrypt(&self, _: &mut [u8]) {}
}
