//! AES-256-XTS by us and by others, over whole disk sectors with the IV `plain64`.

use aes::Aes256;
use aes::cipher::KeyInit;
use xts::{AesXts, Backend};
use xts_mode::{Xts128, get_tweak_default};

/// Works on one buffer: from, to, bytes of a unit.
type Work = Box<dyn FnMut(&[u8], &mut [u8], usize)>;

/// An implementation, ready with a key.
pub struct Cipher {
    /// Says which one.
    pub name: String,
    /// Enciphers `from` into `to`, or the reverse.
    pub work: Work,
}

/// Which way the data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the disk.
    Encrypt,
    /// From the disk.
    Decrypt,
}

impl Cipher {
    fn new(name: &str, work: impl FnMut(&[u8], &mut [u8], usize) + 'static) -> Cipher {
        Cipher { name: name.to_owned(), work: Box::new(work) }
    }

    /// Lists all of them: a bare copy, `xts-mode`, libcrypto (where the feature `openssl` is on),
    /// and each backend of ours, the fastest last.
    pub fn all(way: Way) -> Vec<Cipher> {
        let key: [u8; 64] = std::array::from_fn(|index| index as u8 * 7);
        let mut all = vec![copy(), xts_mode(way, &key)];
        #[cfg(feature = "openssl")]
        all.push(libcrypto(way, &key));
        all.extend(Backend::available().into_iter().map(|backend| ours(way, backend, &key)));
        all
    }
}

fn copy() -> Cipher {
    Cipher::new("memcpy", |from, to, _| to.copy_from_slice(from))
}

fn ours(way: Way, backend: Backend, key: &[u8]) -> Cipher {
    let xts = AesXts::with_backend(backend, key).expect("a key of 64 bytes");
    let iv = |unit: u64| u128::from(unit).to_le_bytes();
    match way {
        Way::Encrypt => Cipher::new(backend.name(), move |from, to, unit| {
            xts.encrypt_to(from, to, unit, iv);
        }),
        Way::Decrypt => Cipher::new(backend.name(), move |from, to, unit| {
            xts.decrypt_to(from, to, unit, iv);
        }),
    }
}

/// The crate as it comes. It works in place only, and is spared the copy.
fn xts_mode(way: Way, key: &[u8]) -> Cipher {
    let (data, tweak) = key.split_at(32);
    let [data, tweak] =
        [data, tweak].map(|key| Aes256::new_from_slice(key).expect("a key of 32 bytes"));
    let xts = Xts128::new(data, tweak);
    Cipher::new("xts-mode", move |_, to, unit| match way {
        Way::Encrypt => xts.encrypt_area(to, unit, 0, get_tweak_default),
        Way::Decrypt => xts.decrypt_area(to, unit, 0, get_tweak_default),
    })
}

/// One context for all units, which takes the IV of each.
#[cfg(feature = "openssl")]
fn libcrypto(way: Way, key: &[u8]) -> Cipher {
    let (cipher, mut ctx) = (
        openssl::cipher::Cipher::aes_256_xts(),
        openssl::cipher_ctx::CipherCtx::new().expect("a context"),
    );
    match way {
        Way::Encrypt => ctx.encrypt_init(Some(cipher), Some(key), None).expect("it takes the key"),
        Way::Decrypt => ctx.decrypt_init(Some(cipher), Some(key), None).expect("it takes the key"),
    }
    Cipher::new("openssl", move |from, to, unit| {
        let units = from.chunks_exact(unit).zip(to.chunks_exact_mut(unit));
        for (index, (from, to)) in units.enumerate() {
            let iv = (index as u128).to_le_bytes();
            match way {
                Way::Encrypt => ctx.encrypt_init(None, None, Some(&iv)),
                Way::Decrypt => ctx.decrypt_init(None, None, Some(&iv)),
            }
            .expect("it takes an IV");
            ctx.cipher_update(from, Some(to)).expect("it takes a whole unit");
        }
    })
}
