//! Every backend against other implementations of XTS: the crate `xts-mode`, and libcrypto where
//! the feature `openssl` is on.

use std::num::NonZeroUsize;

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use proptest::collection::vec;
use proptest::prelude::*;
use xts::{AesXts, Backend};
use xts_mode::Xts128;

#[derive(Clone, Debug)]
struct Case {
    key: Vec<u8>,
    unit: usize,
    iv: u128,
    /// Between the IVs of neighbours, so that a carry may run through all of it.
    stride: u128,
    data: Vec<u8>,
    /// Where in their buffers the data lie.
    from_at: usize,
    to_at: usize,
}

impl Case {
    fn iv(&self, index: u64) -> [u8; 16] {
        self.iv.wrapping_add(self.stride.wrapping_mul(index.into())).to_le_bytes()
    }
}

fn cases() -> impl Strategy<Value = Case> {
    // Units around the groups of every kernel, and those of disks; up to three batches of them.
    let blocks = prop_oneof![
        4 => 1usize..=70,
        2 => Just(32usize),
        1 => prop_oneof![Just(64usize), Just(128), Just(256)],
    ];
    let shape = (blocks, prop_oneof![3 => 0usize..=5, 1 => 6usize..=40]);
    let key = prop_oneof![vec(any::<u8>(), 32), vec(any::<u8>(), 48), vec(any::<u8>(), 64)];
    let places = (0usize..64, 0usize..64);
    (key, shape, any::<u128>(), any::<u128>(), places, any::<u64>()).prop_map(
        |(key, (blocks, units), iv, stride, (from_at, to_at), seed)| {
            let data = noise(seed, blocks * units * 16);
            Case { key, unit: blocks * 16, iv, stride, data, from_at, to_at }
        },
    )
}

/// Pseudo-random bytes: proptest would take longer to draw them than the ciphers take.
fn noise(mut state: u64, len: usize) -> Vec<u8> {
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn by_xts_mode(case: &Case, decrypt: bool) -> Vec<u8> {
    fn run<C>(case: &Case, decrypt: bool) -> Vec<u8>
    where
        C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt,
        C: BlockSizeUser<BlockSize = aes::cipher::consts::U16>,
    {
        let (data, tweak) = case.key.split_at(case.key.len() / 2);
        let [data, tweak] =
            [data, tweak].map(|key| C::new_from_slice(key).expect("a length that AES has"));
        let xts = Xts128::new(data, tweak);
        let mut out = case.data.clone();
        for (index, unit) in out.chunks_exact_mut(case.unit).enumerate() {
            let iv = case.iv(index as u64).into();
            if decrypt { xts.decrypt_sector(unit, iv) } else { xts.encrypt_sector(unit, iv) }
        }
        out
    }
    match case.key.len() {
        32 => run::<Aes128>(case, decrypt),
        48 => run::<Aes192>(case, decrypt),
        _ => run::<Aes256>(case, decrypt),
    }
}

/// None for AES-192, which libcrypto does not have in this mode.
#[cfg(feature = "openssl")]
fn by_libcrypto(case: &Case, decrypt: bool) -> Option<Vec<u8>> {
    use openssl::cipher::Cipher;
    use openssl::cipher_ctx::CipherCtx;

    let cipher = match case.key.len() {
        32 => Cipher::aes_128_xts(),
        48 => return None,
        _ => Cipher::aes_256_xts(),
    };
    let mut out = vec![0; case.data.len()];
    let mut ctx = CipherCtx::new().expect("a context");
    let units = case.data.chunks_exact(case.unit).zip(out.chunks_exact_mut(case.unit));
    for (index, (from, to)) in units.enumerate() {
        let (cipher, key, iv) = (Some(cipher), Some(&case.key[..]), case.iv(index as u64));
        match decrypt {
            true => ctx.decrypt_init(cipher, key, Some(&iv)).expect("libcrypto takes key and IV"),
            false => ctx.encrypt_init(cipher, key, Some(&iv)).expect("libcrypto takes key and IV"),
        }
        let done = ctx.cipher_update(from, Some(to)).expect("libcrypto takes a whole unit");
        assert_eq!(done, case.unit);
    }
    Some(out)
}

/// What `work` makes of `case` from one buffer to another, both at odd places; it must touch
/// nothing else.
fn apart(case: &Case, work: impl Fn(&[u8], &mut [u8])) -> Vec<u8> {
    const EDGE: u8 = 0xa5;
    let len = case.data.len();
    let mut from = vec![EDGE; case.from_at + len + 64];
    from[case.from_at..][..len].copy_from_slice(&case.data);
    let before = from.clone();
    let mut to = vec![EDGE; case.to_at + len + 64];
    work(&from[case.from_at..][..len], &mut to[case.to_at..][..len]);
    assert_eq!(from, before, "the source was written to");
    let out = to[case.to_at..][..len].to_vec();
    to[case.to_at..][..len].fill(EDGE);
    assert!(to.iter().all(|byte| *byte == EDGE), "the buffer was left");
    out
}

fn in_place(case: &Case, work: impl Fn(&mut [u8])) -> Vec<u8> {
    apart(case, |from, to| {
        to.copy_from_slice(from);
        work(to);
    })
}

/// Short of the whole buffers, which nobody can read: the first block that differs.
fn same(found: &[u8], expected: &[u8], what: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    let blocks = found.chunks(16).zip(expected.chunks(16));
    let differs = blocks.enumerate().find(|(_, (found, expected))| found != expected);
    prop_assert!(differs.is_none(), "{what}: block, (found, expected): {differs:02x?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_backend_agrees_with_other_implementations(case in cases()) {
        let encrypted = by_xts_mode(&case, false);
        let decrypted = by_xts_mode(&case, true);
        #[cfg(feature = "openssl")]
        for (decrypt, expected) in [(false, &encrypted), (true, &decrypted)] {
            if let Some(found) = by_libcrypto(&case, decrypt) {
                same(&found, expected, "libcrypto against xts-mode")?;
            }
        }
        for backend in Backend::available() {
            let xts = AesXts::with_backend(backend, &case.key).unwrap();
            prop_assert_eq!(xts.backend(), backend.name());
            let (unit, iv) = (case.unit, |index| case.iv(index));
            let found = apart(&case, |from, to| xts.encrypt_to(from, to, unit, iv));
            same(&found, &encrypted, &format!("{backend} encrypt_to"))?;
            let found = in_place(&case, |data| xts.encrypt(data, unit, iv));
            same(&found, &encrypted, &format!("{backend} encrypt"))?;
            let found = apart(&case, |from, to| xts.decrypt_to(from, to, unit, iv));
            same(&found, &decrypted, &format!("{backend} decrypt_to"))?;
            let found = in_place(&case, |data| xts.decrypt(data, unit, iv));
            same(&found, &decrypted, &format!("{backend} decrypt"))?;
        }
    }
}

#[test]
fn the_iv_of_each_unit_is_asked_for_once_and_in_order() {
    let xts = AesXts::new(&[7; 64]).unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    xts.encrypt(&mut vec![0; 37 * 512], 512, |index| {
        asked.borrow_mut().push(index);
        [0; 16]
    });
    assert_eq!(asked.into_inner(), Vec::from_iter(0..37));
}

#[test]
fn nothing_to_do_is_no_fault() {
    for backend in Backend::available() {
        let xts = AesXts::with_backend(backend, &[7; 32]).unwrap();
        xts.encrypt(&mut [], 4096, |_| panic!("there is no unit"));
        xts.decrypt_to(&[], &mut [], 512, |_| panic!("there is no unit"));
    }
}

#[test]
fn a_key_of_another_length_is_refused() {
    for len in (0..=80).filter(|len| ![32, 48, 64].contains(len)) {
        let fault = AesXts::new(&vec![1; len]).unwrap_err();
        let text = format!("AES-XTS key: expected 32, 48 or 64 bytes, found {len}");
        assert_eq!(fault.to_string(), text);
    }
}

#[test]
fn debug_shows_the_backend_and_no_key() {
    let text = format!("{:?}", AesXts::with_backend(Backend::Portable, &[0xab; 64]).unwrap());
    assert_eq!(text, r#"AesXts { backend: "portable", .. }"#);
}

#[test]
#[should_panic(expected = "a unit of 24 bytes is not of blocks")]
fn a_unit_of_half_blocks_is_the_callers_fault() {
    AesXts::new(&[1; 32]).unwrap().encrypt(&mut [0; 48], 24, |_| [0; 16]);
}

#[test]
#[should_panic(expected = "1536 bytes are not units of 1024")]
fn half_a_unit_is_the_callers_fault() {
    AesXts::new(&[1; 32]).unwrap().encrypt(&mut [0; 1536], 1024, |_| [0; 16]);
}

#[test]
#[should_panic(expected = "the buffers differ in length")]
fn buffers_of_two_lengths_are_the_callers_fault() {
    AesXts::new(&[1; 32]).unwrap().encrypt_to(&[0; 512], &mut [0; 1024], 512, |_| [0; 16]);
}

#[test]
fn threads_share_one_key() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let xts = shared(AesXts::new(&[9; 64]).unwrap());
    let iv = |index: u64| u128::from(index).to_le_bytes();
    let mut expected = noise(1, 64 * 512);
    let mut data = expected.clone();
    xts.encrypt(&mut expected, 512, iv);
    let workers = std::thread::available_parallelism().map_or(2, NonZeroUsize::get).max(2);
    let piece = 64_usize.div_ceil(workers) * 512;
    std::thread::scope(|scope| {
        for (index, part) in data.chunks_mut(piece).enumerate() {
            let (xts, first) = (&xts, (index * piece / 512) as u64);
            scope.spawn(move || xts.encrypt(part, 512, |unit| iv(first + unit)));
        }
    });
    assert_eq!(data, expected);
}
