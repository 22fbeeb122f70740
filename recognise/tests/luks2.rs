//! LUKS2 headers made by hand: what they may say, and what is refused in which words.

#[cfg(test)]
#[path = "support/luks2.rs"]
mod by_hand;

use std::cell::RefCell;

use by_hand::{COPY, DATA, IMAGE, PASSPHRASE, VOLUME_KEY};
use crypto::Secret;
use proptest::prelude::*;
use recognise::containers::{Container, Data, Limits, Unlock, Unlocked};
use recognise::{Error, Source};
use serde_json::{Value, json};

/// Reads and unlocks an image.
fn unlock(image: &[u8]) -> Result<Unlocked, Error> {
    let data = Data::with_header(image.len() as u64);
    recognise::containers::probe(&image)?.unlock(&image, data, &passphrase(), &Unlock::default())
}

fn passphrase() -> Secret {
    Secret::new(PASSPHRASE.to_vec())
}

/// Returns the table's lines, the key replaced by `KEY`.
fn table(unlocked: &Unlocked) -> Vec<String> {
    let key = Secret::new(VOLUME_KEY.to_vec()).to_hex();
    unlocked.lines().iter().map(|line| line.table_line("dev").replace(&*key, "KEY")).collect()
}

/// Changes the header's JSON at a place, as `/segments/0/size`; without a value it is taken away.
fn changed(changes: &[(&str, Option<Value>)]) -> Vec<u8> {
    let mut header = by_hand::json();
    for (place, value) in changes {
        let (parent, name) = place.rsplit_once('/').expect("a JSON pointer");
        let parent = header.pointer_mut(parent).and_then(Value::as_object_mut);
        let parent = parent.expect("an object of the header");
        match value {
            Some(value) => parent.insert(name.to_owned(), value.clone()),
            None => parent.remove(name),
        };
    }
    by_hand::image(&header)
}

/// Checks that a header with these changes gives this error.
fn refused(changes: &[(&str, Option<Value>)], error: &str) {
    match unlock(&changed(changes)) {
        Ok(unlocked) => panic!("{changes:?} opens: {:?}", table(&unlocked)),
        Err(found) => assert!(found.to_string().contains(error), "{changes:?}: {found}"),
    }
}

fn refused_with(place: &str, value: Value, error: &str) {
    refused(&[(place, Some(value))], error);
}

#[test]
fn a_header_made_by_hand_opens() {
    let unlocked = unlock(&by_hand::image(&by_hand::json())).unwrap();
    let offset = DATA / 512;
    assert_eq!(table(&unlocked), [format!("0 128 crypt aes-xts-plain64 KEY 0 dev {offset}")]);
    assert_eq!((unlocked.key_slot, unlocked.sectors()), (Some(0), 128));
    assert_eq!(unlocked.warnings, [""; 0]);
}

#[test]
fn segments_become_lines_and_flags_become_options() {
    let crypt = |offset: usize, size: &str, tweak: &str| {
        let offset = offset.to_string();
        json!({"type": "crypt", "offset": offset, "size": size, "iv_tweak": tweak,
               "encryption": "aes-xts-plain64", "sector_size": 4096})
    };
    let linear = json!({"type": "linear", "offset": (DATA + 8192).to_string(), "size": "1024"});
    let flags = json!(["no-write-workqueue", "allow-discards", "no-journal", "of-the-future"]);
    let image = changed(&[
        ("/segments/0", Some(crypt(DATA, "8192", "0"))),
        ("/segments/1", Some(linear)),
        ("/segments/2", Some(crypt(DATA + 12288, "dynamic", "24"))),
        ("/digests/0/segments", Some(json!(["0", "2"]))),
        ("/config/flags", Some(flags)),
    ]);
    let (first, options) = (DATA / 512, "3 allow_discards no_write_workqueue sector_size:4096");
    let expected = [
        format!("0 16 crypt aes-xts-plain64 KEY 0 dev {first} {options}"),
        format!("16 2 linear dev {}", first + 16),
        format!("18 104 crypt aes-xts-plain64 KEY 24 dev {} {options}", first + 24),
    ];
    assert_eq!(table(&unlock(&image).unwrap()), expected);
}

#[test]
fn a_null_cipher_gives_no_key_and_takes_no_passphrase() {
    let data = ("/segments/0/encryption", Some(json!("cipher_null-ecb")));
    let opened = table(&unlock(&changed(std::slice::from_ref(&data))).unwrap());
    assert_eq!(opened, [format!("0 128 crypt cipher_null-ecb - 0 dev {}", DATA / 512)]);

    let area = ("/keyslots/0/area/encryption", Some(json!("cipher_null-ecb")));
    refused(&[data, area], "no key available with this passphrase");
}

#[test]
fn of_two_copies_the_newer_valid_one_counts() {
    let valid = by_hand::image(&by_hand::json());
    let mut newer = by_hand::json();
    newer["segments"]["0"]["iv_tweak"] = json!("8");
    let newer = newer.to_string();
    let damage = |image: &mut Vec<u8>, at: usize| image[at + 5000] ^= 1;
    let tweak = |image: &[u8]| {
        let unlocked = unlock(image).unwrap();
        let word = table(&unlocked)[0].split(' ').nth(5).map(str::to_owned);
        (word.unwrap(), unlocked.warnings.join("; "))
    };

    let mut image = valid.clone();
    by_hand::put(&mut image, COPY, 4, newer.as_bytes());
    let (word, warning) = tweak(&image);
    assert_eq!((&*word, warning.contains("epochs 3 and 4")), ("8", true), "{warning}");
    damage(&mut image, COPY);
    let (word, warning) = tweak(&image);
    assert_eq!((&*word, warning.contains("the first was used")), ("0", true), "{warning}");
    damage(&mut image, 0);
    let error = unlock(&image).unwrap_err().to_string();
    assert_eq!(error, "damaged header: copy at 0x0: sha256 checksum does not match");

    let mut image = valid.clone();
    by_hand::put(&mut image, 0, 4, newer.as_bytes());
    assert_eq!(tweak(&image).0, "8");
    // Even with nothing left of the first copy.
    image[..COPY].fill(0xff);
    let (word, warning) = tweak(&image);
    assert_eq!((&*word, warning.contains("the second was used")), ("0", true), "{warning}");

    // One that is elsewhere than it says is another header's: a copy of a copy.
    let mut image = valid;
    image[COPY + 256..COPY + 264].copy_from_slice(&32768u64.to_be_bytes());
    by_hand::seal(&mut image, COPY);
    let (_, warning) = tweak(&image);
    assert!(warning.contains("it says that it is at 0x8000"), "{warning}");
}

#[test]
fn damaged_headers_are_refused_with_the_place() {
    for (place, value, error) in [
        ("/config/json_size", json!("12287"), "json_size: expected 12288, found 12287"),
        ("/config/json_size", json!(12288), "expected a number as text"),
        ("/config/json_size", json!("+12288"), "expected a number as text"),
        ("/config/keyslots_size", json!("131073"), "keyslots_size: expected a multiple of 4096"),
        ("/config/keyslots_size", json!("134221824"), "keyslots_size: expected"),
        ("/config/keyslots_size", json!("126976"), "expected it within 32768 to 159744"),
        ("/config/keyslots_size", json!("135168"), "data at 163840: expected them behind"),
        ("/config/keyslots_size", json!("99999999999999999999"), "expected a number as text"),
        ("/keyslots/0/area/offset", json!("32767"), "expected it within 32768 to 163840"),
        ("/keyslots/0/area/offset", json!("18446744073709551615"), "key slot 0: area"),
        ("/keyslots/0/area/size", json!("0"), "key slot 0: area of 0 bytes"),
        ("/keyslots/0/area/size", json!("4096"), "expected 128000 bytes at least, found 4096"),
        ("/keyslots/0/key_size", json!(0), "found 0 bytes"),
        ("/keyslots/0/key_size", json!(4294967295u32), "found 4096 bytes"),
        ("/keyslots/0/area/key_size", json!(0), "key size: expected 1 to 512, found 0"),
        ("/keyslots/0/key_size", json!(-1), "invalid value"),
        ("/keyslots/0/area/key_size", json!(1 << 20), "key size: expected 1 to 512"),
        ("/keyslots/0/af/stripes", json!(1), "expected `luks1`, 4000 stripes"),
        ("/keyslots/0/kdf/salt", json!("AAAA"), "salt: expected 32 bytes, found 3"),
        ("/keyslots/0/kdf/salt", json!("!"), "expected bytes in base64"),
        ("/keyslots/0/kdf/iterations", json!(0), "0 iterations"),
        ("/keyslots/0/kdf/type", json!("scrypt"), "kdf `scrypt`"),
        ("/keyslots/0/kdf/hash", json!("nohash"), "unknown hash `nohash`"),
        ("/keyslots/0/af/hash", json!("nohash"), "unknown hash `nohash`"),
        ("/keyslots/0/area/encryption", json!("nocipher-xts-plain64"), "key slot 0: cipher"),
        ("/keyslots/1", json!({"type": "luks2"}), "missing field"),
        ("/keyslots/00", json!({"type": "luks2"}), "expected a number as text"),
        ("/segments/0/encryption", json!("nocipher-xts-plain64"), "segment 0: cipher"),
        ("/segments/0/encryption", json!("aes\u{1b}[2J"), "without control characters"),
        ("/segments/0/offset", json!("163841"), "expected multiples of 512"),
        ("/segments/0/offset", json!("32768"), "data at 32768: expected them behind"),
        ("/segments/0/size", json!("0"), "size of 0"),
        ("/segments/0/size", json!("511"), "expected multiples of 512"),
        ("/segments/0/size", json!("18446744073709551104"), "overflow"),
        ("/segments/0/size", json!("131072"), "the data device: 229376 bytes"),
        ("/segments/0/sector_size", json!(8192), "sector_size: expected 512"),
        ("/segments/0/sector_size", json!(1536), "sector_size: expected 512"),
        ("/segments/0/iv_tweak", json!("-1"), "expected a number as text"),
        ("/segments/2", json!({"type": "x", "offset": "0", "size": "512"}), "no number 1"),
        ("/segments/0/type", json!("of-the-future"), "segment 0 of type `of-the-future`"),
        ("/digests/0/segments", json!([]), "segment 0: no digest"),
        ("/digests/0/segments", json!(["0", "1"]), "digest 0: there is no segment 1"),
        ("/digests/0/keyslots", json!(["7"]), "digest 0: there is no key slot 7"),
        ("/digests/0/digest", json!("AAAA"), "digest: expected 20 to 64 bytes, found 3"),
        ("/digests/0/type", json!("sum"), "digest of type `sum`"),
        ("/tokens/0", json!({"type": "t", "keyslots": ["1"]}), "token 0: there is no key slot 1"),
        ("/tokens/0", json!({"keyslots": ["0"]}), "missing field `type`"),
    ] {
        refused_with(place, value, error);
    }
    let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
    refused_with("/digests/0/keyslots", json!(many), "a list of at most 32");
}

#[test]
fn what_overlaps_is_refused() {
    let mut slot = by_hand::json()["keyslots"]["0"].clone();
    slot["area"]["offset"] = json!((32768 + 65536).to_string());
    slot["area"]["size"] = json!("65536");
    refused_with("/keyslots/4", slot, "areas of key slots 0 and 4 overlap");

    let segment = |offset: usize, size: &str| {
        let offset = offset.to_string();
        Some(json!({"type": "linear", "offset": offset, "size": size}))
    };
    let fixed = ("/segments/0/size", Some(json!("4096")));
    let overlapping = ("/segments/1", segment(DATA + 2048, "4096"));
    refused(&[fixed.clone(), overlapping], "segments 0 and 1 overlap");
    refused(
        &[
            fixed,
            ("/segments/1", segment(DATA + 4096, "dynamic")),
            ("/segments/2", segment(DATA + 8192, "4096")),
        ],
        "segment 1 is dynamic, and not the last",
    );
    let twice = by_hand::json().to_string().replace(
        r#""tokens":{}"#,
        r#""tokens":{"1":{"type":"a","keyslots":[]},"1":{"type":"b","keyslots":[]}}"#,
    );
    let mut image = by_hand::image(&by_hand::json());
    for at in [0, COPY] {
        by_hand::put(&mut image, at, 3, twice.as_bytes());
    }
    let error = unlock(&image).unwrap_err().to_string();
    assert!(error.contains("object 1 is there twice"), "{error}");
}

#[test]
fn what_needs_more_than_dm_crypt_is_refused_in_words() {
    let integrity =
        json!({"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"});
    let refusal = "segment 0: data integrity (hmac(sha256)) is not supported";
    refused_with("/segments/0/integrity", integrity, refusal);
    let opal = json!({"type": "hw-opal", "offset": DATA.to_string(), "size": "4096"});
    refused_with("/segments/0", opal, "encryption by the drive itself (OPAL)");
    for (words, refusal) in [
        (json!(["offline-reencrypt"]), "a reencryption is in progress (offline-reencrypt)"),
        (json!(["online-reencrypt-v3"]), "a reencryption is in progress (online-reencrypt-v3)"),
        (json!(["of-the-future"]), "the header requires `of-the-future`"),
        (json!(["inline-hw-tags"]), "the header requires `inline-hw-tags`"),
    ] {
        refused_with("/config/requirements", json!({"mandatory": words}), refusal);
    }
    refused_with("/segments/0/flags", json!(["in-reencryption"]), "a reencryption is in progress");
    refused_with("/segments/0/offset", json!("0"), "the header is a detached one");
}

#[test]
fn a_derivation_beyond_the_limits_is_refused_with_the_figure() {
    let argon2 = |time: u64, memory: u64, cpus: u64| {
        let salt = by_hand::json()["keyslots"]["0"]["kdf"]["salt"].clone();
        json!({"type": "argon2id", "time": time, "memory": memory, "cpus": cpus, "salt": salt})
    };
    let pbkdf2 = "/keyslots/0/kdf/iterations";
    for (place, value, error) in [
        (
            pbkdf2,
            json!(100_000_001),
            "key slot 0: PBKDF2 iterations of 100000001 is above the limit of 100000000",
        ),
        (pbkdf2, json!(u64::MAX), "PBKDF2 iterations of 18446744073709551615 is above"),
        (
            "/digests/0/iterations",
            json!(4_000_000_000u64),
            "digest: PBKDF2 iterations of 4000000000",
        ),
        (
            "/keyslots/0/kdf",
            argon2(4, 4 << 30, 1),
            "Argon2 memory in KiB of 4294967296 is above the limit of 4194304",
        ),
        (
            "/keyslots/0/kdf",
            argon2(1 << 32, 1 << 20, 1),
            "Argon2 memory times passes in KiB of 4503599627370496",
        ),
        ("/keyslots/0/kdf", argon2(4, 1024, 17), "Argon2 lanes of 17 is above the limit of 16"),
        ("/keyslots/0/kdf", argon2(0, 1024, 1), "key slot 0: argon2"),
        ("/keyslots/0/kdf", argon2(4, 1, 1), "key slot 0: argon2"),
    ] {
        refused_with(place, value, error);
    }
    // Who raises the limit gets to try.
    let image = changed(&[("/keyslots/0/kdf", Some(argon2(1, 64, 17)))]);
    let limits = Limits { argon2_lanes: 17, ..Limits::default() };
    let how = Unlock { limits, ..Unlock::default() };
    let container = recognise::containers::probe(&image).unwrap();
    let wrong = container.unlock(&image, Data::with_header(IMAGE as u64), &passphrase(), &how);
    assert!(matches!(wrong, Err(Error::DamagedHeader { .. })), "64 KiB are too few: {wrong:?}");
}

#[test]
fn a_slot_that_cannot_be_tried_does_not_keep_others_from_opening() {
    let mut costly = by_hand::json();
    costly["keyslots"]["1"] = costly["keyslots"]["0"].clone();
    costly["keyslots"]["0"]["kdf"]["iterations"] = json!(4_000_000_000u64);
    costly["keyslots"]["0"]["area"]["offset"] = json!("163840");
    costly["digests"]["0"]["keyslots"] = json!(["0", "1"]);
    costly["config"]["keyslots_size"] = json!("262144");
    costly["segments"]["0"]["offset"] = json!("294912");
    let mut image = by_hand::image(&costly);
    image.resize(400_000, 0);
    assert_eq!(unlock(&image).unwrap().key_slot, Some(1));
}

#[test]
fn the_json_area_holds_one_text_and_zeros() {
    let text = by_hand::json().to_string();
    let put = |text: &[u8]| {
        let mut image = by_hand::image(&by_hand::json());
        for at in [0, COPY] {
            by_hand::put(&mut image, at, 3, text);
        }
        unlock(&image).unwrap_err().to_string()
    };
    assert!(put(format!(" {text}").as_bytes()).contains("expected `{` at its start"));
    assert!(put(format!("{text}\0 ").as_bytes()).contains("expected nothing after the text"));
    assert!(put(format!("{text}}}").as_bytes()).contains("trailing characters"));
    assert!(put(&text.as_bytes()[..text.len() - 1]).contains("EOF while parsing"));
    let full = format!("{text:<12288}");
    assert!(put(full.as_bytes()).contains("expected a NUL after the text"));
    // Depth costs nothing where a value is passed over.
    let (open, close) = ("[".repeat(5000), "]".repeat(5000));
    let unknown = text.replacen('{', &format!("{{\"x\":{open}{close},"), 1);
    let token = format!(r#"{{"type":"t","keyslots":[],"key_description":{open}{close}}}"#);
    let known = text.replace(r#""tokens":{}"#, &format!(r#""tokens":{{"0":{token}}}"#));
    for text in [unknown, known] {
        let mut image = by_hand::image(&by_hand::json());
        by_hand::put(&mut image, 0, 3, text.as_bytes());
        assert_eq!(unlock(&image).unwrap().warnings, [""; 0]);
    }
}

#[test]
fn a_short_image_is_told_from_a_damaged_one() {
    let image = by_hand::image(&by_hand::json());
    let error = unlock(&image[..DATA - 1]).unwrap_err();
    let expected = (DATA as u64 - 1, DATA as u64);
    assert!(matches!(error, Error::TooSmall { len, needed, .. } if (len, needed) == expected));
    let error = unlock(&image[..DATA]).unwrap_err();
    assert!(matches!(error, Error::TooSmall { what: "the data device", .. }), "{error}");
    for len in [0, 1, 7, 100] {
        let found = recognise::containers::probe(&&image[..len]);
        assert!(found.is_err(), "{len} bytes of a header");
    }
    let found = recognise::containers::probe(&vec![0; 1 << 20]);
    assert!(matches!(found, Err(Error::NotAContainer(_))), "{found:?}");
}

/// Counts what is read, and fails past the end as a file does.
struct Counted<'a>(&'a [u8], RefCell<u64>);

impl Source for Counted<'_> {
    fn len(&self) -> u64 {
        // A device that is said to be large: reads beyond what is there fail.
        1 << 40
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        *self.1.borrow_mut() += into.len() as u64;
        Source::read_at(self.0, offset, into)
    }
}

/// Cheap enough for thousands of derivations.
const CHEAP: Unlock = Unlock {
    key_slot: None,
    limits: Limits {
        pbkdf2_iterations: 10,
        argon2_memory_kib: 64,
        argon2_work_kib: 64,
        argon2_lanes: 1,
    },
};

/// Reads, dumps and unlocks; whatever comes of it, little is read.
fn use_it(image: &[u8]) {
    let source = Counted(image, RefCell::new(0));
    if let Ok(container) = recognise::containers::probe(&source) {
        let _ = container.dump().to_string();
        let _ = serde_json::to_string(&container.dump()).expect("a dump is JSON");
        let _ = container.unlock(&source, Data::with_header(1 << 40), &passphrase(), &CHEAP);
    }
    let read = source.1.into_inner();
    assert!(read < 20 << 20, "{read} bytes read");
}

/// A value that a field could have.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(|number| json!(number.to_string())),
        any::<u64>().prop_map(|number| json!(number)),
        any::<i16>().prop_map(|number| json!(number)),
        prop::sample::select(vec![
            "",
            "dynamic",
            "luks2",
            "crypt",
            "linear",
            "raw",
            "argon2i",
            "argon2id",
            "pbkdf2",
            "0",
            "4096",
            "32768",
            "163840",
            "18446744073709551615",
            "aes-cbc-essiv:sha256",
            "cipher_null-ecb",
            "capi:xts(aes)-plain64",
            "aes:64-cbc-lmk",
            "sha512",
        ])
        .prop_map(|text| json!(text)),
        Just(json!(null)),
        Just(json!([])),
        Just(json!(["0", "1"])),
        Just(json!({})),
    ]
}

/// Goes to the `choice`th value of a JSON text and changes it.
fn change(value: &mut Value, choice: &mut usize, new: &Value) {
    if *choice == 0 {
        *value = new.clone();
    }
    *choice = choice.wrapping_sub(1);
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| change(field, choice, new)),
        Value::Array(list) => list.iter_mut().for_each(|entry| change(entry, choice, new)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn any_values_in_a_header_are_read_or_refused(
        changes in prop::collection::vec((0usize..50, any_value()), 1..4),
    ) {
        let mut header = by_hand::json();
        for (mut choice, new) in changes {
            change(&mut header, &mut choice, &new);
        }
        use_it(&by_hand::image(&header));
    }

    #[test]
    fn any_bytes_in_a_header_are_read_or_refused(
        changes in prop::collection::vec((0usize..600, any::<u8>()), 1..4),
        json in prop::collection::vec((0usize..1200, any::<u8>()), 0..3),
        kept in any::<bool>(),
    ) {
        let mut image = by_hand::image(&by_hand::json());
        for (at, byte) in changes {
            image[at] = byte;
        }
        for (at, byte) in json {
            image[4096 + at] = byte;
        }
        if kept {
            by_hand::seal(&mut image, 0);
        }
        use_it(&image);
    }
}

#[test]
fn a_dump_of_a_header_made_by_hand_has_its_parts() {
    let image = by_hand::image(&by_hand::json());
    let Container::Luks2(header) = recognise::containers::probe(&image).unwrap() else {
        panic!("LUKS2")
    };
    assert_eq!(header.metadata.keyslots.get(0).unwrap().key_size, 32);
    let dump = header.to_string();
    for part in ["UUID:          \tuuid\n", "\tKey:        256 bits\n", "\tDigest ID:  0\n"] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
}
