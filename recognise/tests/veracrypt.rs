//! VeraCrypt and TrueCrypt headers made by hand.

use crypto::hash::Hash;
use crypto::{IvUnit, Secret, SectorCipher, Spec};
use proptest::prelude::*;
use recognise::Error;
use recognise::containers::veracrypt::Volume;
use recognise::containers::{Limits, LineTarget, Unlocked, VeraCrypt};

const IMAGE: usize = 1 << 20;
const SALT: [u8; 64] = [7; 64];

/// What is in a header.
#[derive(Clone, Debug)]
struct Header {
    at: usize,
    hash: &'static str,
    iterations: u32,
    passphrase: Vec<u8>,
    chain: Vec<&'static str>,
    version: u16,
    hidden_size: u64,
    size: u64,
    offset: u64,
    sector_size: u32,
}

impl Default for Header {
    fn default() -> Header {
        Header {
            at: 0,
            hash: "sha512",
            iterations: 1000,
            passphrase: b"by hand".to_vec(),
            chain: vec!["aes"],
            version: 5,
            hidden_size: 0,
            size: 524_288,
            offset: 131_072,
            sector_size: 512,
        }
    }
}

/// The volume's keys: bytes that count upwards.
fn keys() -> Vec<u8> {
    (0..=255).collect()
}

impl Header {
    fn image(&self) -> Vec<u8> {
        let mut plain = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| plain[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"VERA");
        put(4, &self.version.to_be_bytes());
        put(8, &crc32fast::hash(&keys()).to_be_bytes());
        put(28, &self.hidden_size.to_be_bytes());
        put(36, &self.size.to_be_bytes());
        put(44, &self.offset.to_be_bytes());
        put(64, &self.sector_size.to_be_bytes());
        put(192, &keys());
        let crc = crc32fast::hash(&plain[..188]).to_be_bytes();
        plain[188..192].copy_from_slice(&crc);
        let mut key = [0; 192];
        let hash = Hash::by_name(self.hash).expect("a hash");
        hash.pbkdf2(&self.passphrase, &SALT, self.iterations, &mut key);
        for (place, cipher) in self.chain.iter().enumerate() {
            let second = 32 * (self.chain.len() + place);
            let own = [&key[32 * place..][..32], &key[second..][..32]].concat();
            let spec = Spec::parse(&format!("{cipher}-xts-plain64")).expect("a cipher");
            let cipher = SectorCipher::new(&spec, &own, 512, IvUnit::Sector512);
            cipher.expect("a key").encrypt(0, &mut plain);
        }
        let mut image = vec![0; IMAGE];
        image[self.at..][..64].copy_from_slice(&SALT);
        image[self.at + 64..][..448].copy_from_slice(&plain[..448]);
        image
    }

    fn unlock(&self, how: &VeraCrypt) -> Result<Unlocked, Error> {
        how.unlock(&self.image(), &secret(&self.passphrase), &[], &Limits::default())
    }
}

fn secret(bytes: &[u8]) -> Secret {
    Secret::new(bytes.to_vec())
}

/// TrueCrypt's derivations with SHA-512, which are quick.
fn quick() -> VeraCrypt {
    VeraCrypt { hash: Some("sha512".into()), truecrypt_only: true, ..VeraCrypt::default() }
}

/// Returns the table's lines from the bottom up, keys as the bytes where their halves begin.
fn layers(unlocked: &Unlocked) -> Vec<String> {
    let line = |lines: &Vec<recognise::containers::Line>| {
        let LineTarget::Crypt(crypt) = &lines[0].target else { panic!("{lines:?}") };
        let key = crypt.key.expose();
        assert_eq!((key.len(), key[31] - key[0], key[63] - key[32]), (64, 31, 31));
        let (len, cipher, iv) = (lines[0].len, &crypt.cipher, crypt.iv_offset);
        format!("{len} {cipher} {}+{} {iv} {}", key[0], key[32], crypt.offset)
    };
    unlocked.layers.iter().map(line).collect()
}

#[test]
fn a_cascade_is_a_stack_of_devices() {
    let header = Header { chain: vec!["serpent", "twofish", "aes"], ..Header::default() };
    let expected = [
        "1024 aes-xts-plain64 64+160 256 256",
        "1024 twofish-xts-plain64 32+128 256 0",
        "1024 serpent-xts-plain64 0+96 256 0",
    ];
    assert_eq!(layers(&header.unlock(&quick()).unwrap()), expected);
    for chain in [vec!["serpent"], vec!["twofish"], vec!["camellia"], vec!["aes", "serpent"]] {
        let unlocked = Header { chain: chain.clone(), ..Header::default() }.unlock(&quick());
        assert_eq!(unlocked.expect("it opens").layers.len(), chain.len());
    }
    let only = VeraCrypt { cipher: Some("aes".into()), ..quick() };
    let error = header.unlock(&only);
    assert!(matches!(error, Err(Error::WrongPassphrase { .. })), "{error:?}");
}

#[test]
fn each_place_of_a_header_is_looked_at() {
    let hidden = Header { hidden_size: 65536, ..Header::default() };
    let of = |volume, backup| VeraCrypt { volume, backup, ..quick() };
    let usual = "1024 aes-xts-plain64 0+32 256 256";
    let small = "128 aes-xts-plain64 0+32 256 256";
    for (header, how, expected) in [
        (Header::default(), of(Volume::Outer, false), usual),
        (Header { at: IMAGE - 131_072, ..Header::default() }, of(Volume::Outer, true), usual),
        (Header { at: 65536, ..hidden.clone() }, of(Volume::Hidden, false), small),
        (Header { at: IMAGE - 65536, ..hidden.clone() }, of(Volume::Hidden, true), small),
        (Header { at: 31744, ..Header::default() }, of(Volume::System, false), usual),
        // The hidden volumes of old lie at the end, before their headers.
        (
            Header { at: IMAGE - 1536, version: 3, ..hidden },
            of(Volume::Hidden, false),
            "128 aes-xts-plain64 0+32 1917 1917",
        ),
        (Header { version: 2, ..Header::default() }, quick(), "1024 aes-xts-plain64 0+32 1 1"),
    ] {
        assert_eq!(layers(&header.unlock(&how).unwrap()), [expected], "{header:?}");
    }
}

#[test]
fn key_files_are_mixed_with_the_passphrase() {
    // What is added after each byte is the register of CRC-32, before its final inversion.
    let (one, two) = (crc32fast::hash(b"a"), crc32fast::hash(b"ab"));
    let mut pool = vec![0u8; 64];
    let parts = [(!one).to_be_bytes(), (!two).to_be_bytes()].concat();
    for (place, byte) in pool.iter_mut().zip(parts) {
        *place = place.wrapping_add(byte);
    }
    for (place, byte) in pool.iter_mut().zip(b"secret") {
        *place = place.wrapping_add(*byte);
    }
    let image = Header { passphrase: pool, ..Header::default() }.image();
    let (file, limits) = ([secret(b"ab")], Limits::default());
    assert!(quick().unlock(&image, &secret(b"secret"), &file, &limits).is_ok());
    assert!(quick().unlock(&image, &secret(b"secret"), &[], &limits).is_err());
    let long = quick().unlock(&image, &secret(&[b'x'; 65]), &[], &limits);
    assert!(matches!(long, Err(Error::BadArgument(_))), "{long:?}");
}

#[test]
fn a_pim_changes_the_iterations() {
    let header = Header { iterations: 15_000 + 3 * 1000, ..Header::default() };
    let pim = |pim| VeraCrypt { pim: Some(pim), truecrypt_only: false, ..quick() };
    assert!(header.unlock(&pim(3)).is_ok());
    assert!(matches!(header.unlock(&pim(2)), Err(Error::WrongPassphrase { .. })));
    let error = header.unlock(&pim(u32::MAX));
    assert!(matches!(error, Err(Error::TooCostly { figure: 4_294_967_310_000, .. })), "{error:?}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let error = Header { size: 1 << 20, ..Header::default() }.unlock(&quick());
    assert!(matches!(error, Err(Error::TooSmall { needed: 1_179_648, .. })), "{error:?}");
    let error = Header { sector_size: 500, ..Header::default() }.unlock(&quick());
    assert!(matches!(error, Err(Error::Unsupported(_))), "{error:?}");
    let error = quick().unlock(&vec![0; 100], &secret(b""), &[], &Limits::default());
    assert!(matches!(error, Err(Error::WrongPassphrase { .. })), "{error:?}");
    let none = VeraCrypt { hash: Some("nohash".into()), ..quick() };
    assert!(matches!(Header::default().unlock(&none), Err(Error::UnknownHash { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sizes_make_lines_within_the_image_or_none(
        version in 0u16..8,
        numbers in prop::array::uniform3(prop_oneof![any::<u64>(), 0u64..2_000_000]),
        hidden in any::<bool>(),
    ) {
        let [hidden_size, size, offset] = numbers;
        let at = if hidden { 65536 } else { 0 };
        let header = Header { at, version, hidden_size, size, offset, ..Header::default() };
        let volume = if hidden { Volume::Hidden } else { Volume::Outer };
        let cipher = Some("aes".into());
        if let Ok(unlocked) = header.unlock(&VeraCrypt { volume, cipher, ..quick() }) {
            let LineTarget::Crypt(crypt) = &unlocked.lines()[0].target else { panic!("crypt") };
            let len = unlocked.lines()[0].len;
            prop_assert!(len > 0 && crypt.offset + len <= IMAGE as u64 / 512);
        }
    }
}
