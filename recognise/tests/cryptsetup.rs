//! Containers that the real cryptsetup made open, and what it refuses is refused.

#[cfg(test)]
mod support;

use recognise::Error;
use recognise::containers::{Container, Data, Unlock};
use support::{Image, PASSPHRASE, QUICK, SIZE, have_cryptsetup, key, slot};

/// Formats, unlocks, and compares the volume key with the one that cryptsetup finds.
fn opens(arguments: &[&str], table: &str) {
    let image = Image::format(&[&QUICK[..], arguments].concat());
    opens_image(&image, arguments, table);
}

fn opens_image(image: &Image, arguments: &[&str], table: &str) {
    let unlocked = image.unlock(PASSPHRASE, &Unlock::default());
    let unlocked = unlocked.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    let key = image.volume_key();
    let line = unlocked.lines()[0].table_line("7:0").replace(&key, "KEY");
    assert_eq!(line, table, "{arguments:?}");
    let wrong = image.unlock("correct horst", &Unlock::default());
    assert!(matches!(wrong, Err(Error::WrongPassphrase { key_slot: None })), "{wrong:?}");
}

#[test]
fn luks1_opens_with_each_cipher_and_hash() {
    if !have_cryptsetup() {
        return;
    }
    // The data begin behind eight areas, at the next MiB.
    for (cipher, bits, offset) in [
        ("aes-xts-plain64", "512", 4096),
        ("aes-xts-plain64", "256", 4096),
        ("aes-cbc-essiv:sha256", "256", 4096),
        ("aes-cbc-plain", "128", 2048),
        ("aes-cbc-plain64be", "192", 2048),
        ("aes-ecb", "256", 4096),
    ] {
        let arguments = ["--type", "luks1", "--cipher", cipher, "--key-size", bits];
        let sectors = SIZE / 512 - offset;
        opens(&arguments, &format!("0 {sectors} crypt {cipher} KEY 0 7:0 {offset}"));
    }
    for hash in ["sha1", "sha224", "sha256", "sha384", "sha512", "whirlpool", "ripemd160"] {
        let arguments = ["--type", "luks1", "--hash", hash, "--key-size", "512"];
        opens(&arguments, "0 36864 crypt aes-xts-plain64 KEY 0 7:0 4096");
    }
}

#[test]
fn luks2_opens_with_each_derivation_and_sector_size() {
    if !have_cryptsetup() {
        return;
    }
    let argon2 = ["--pbkdf-force-iterations", "4", "--pbkdf-memory", "64"];
    let argon2i = [&argon2[..], &["--pbkdf", "argon2i", "--pbkdf-parallel", "1"]].concat();
    let argon2id = [&argon2[..], &["--pbkdf", "argon2id", "--pbkdf-parallel", "4"]].concat();
    for kdf in [&QUICK[..], &argon2i, &argon2id] {
        for (size, option) in [("512", ""), ("4096", " 1 sector_size:4096")] {
            let arguments = [kdf, &["--type", "luks2", "--sector-size", size]].concat();
            let table = format!("0 8192 crypt aes-xts-plain64 KEY 0 7:0 32768{option}");
            opens_image(&Image::format(&arguments), &arguments, &table);
        }
    }
    for hash in ["sha1", "sha512", "whirlpool", "sha3-256", "blake2b-512", "blake2s-256"] {
        let arguments = ["--type", "luks2", "--hash", hash, "--sector-size", "512"];
        opens(&arguments, "0 8192 crypt aes-xts-plain64 KEY 0 7:0 32768");
    }
    let offset = ["--type", "luks2", "--sector-size", "512", "--offset", "34816"];
    opens(&offset, "0 6144 crypt aes-xts-plain64 KEY 0 7:0 34816");
}

#[test]
fn a_metadata_area_of_any_size_is_read() {
    if !have_cryptsetup() {
        return;
    }
    for size in ["16k", "32k", "64k", "128k", "256k", "512k", "1M", "2M", "4M"] {
        let areas = ["--luks2-metadata-size", size, "--luks2-keyslots-size", "1M"];
        let arguments =
            [&["--type", "luks2", "--sector-size", "512", "--offset", "32768"], &areas[..]]
                .concat();
        opens(&arguments, "0 8192 crypt aes-xts-plain64 KEY 0 7:0 32768");
    }
}

#[test]
fn a_detached_header_opens_a_device_of_its_own() {
    if !have_cryptsetup() {
        return;
    }
    for kind in ["luks1", "luks2"] {
        let (image, data) = (Image::empty(SIZE), Image::empty(1 << 20));
        let data = data.path();
        let words = ["luksFormat", "--batch-mode", "--key-file", "-", "--type", kind];
        let header = ["--header", "IMAGE", data.to_str().unwrap()];
        image.cryptsetup(&[&words[..], &QUICK, &header].concat(), PASSPHRASE);

        let apart =
            image.unlock_with(Data::apart(1 << 20), PASSPHRASE, &Unlock::default()).unwrap();
        let line = apart.lines()[0].table_line("7:0");
        assert!(line.starts_with("0 2048 crypt aes-xts-plain64 "), "{}", *line);
        assert!(line.contains(" 0 7:0 0"), "{}", *line);
        assert_eq!(key(&apart), image.volume_key());

        let with = image.unlock(PASSPHRASE, &Unlock::default());
        assert!(matches!(with, Err(Error::DetachedHeader)), "{with:?}");
    }
}

#[test]
fn every_key_slot_opens_until_it_is_removed() {
    if !have_cryptsetup() {
        return;
    }
    for (kind, slots) in [("luks1", 8), ("luks2", 32)] {
        let image = Image::format(&[&QUICK[..], &["--type", kind, "--key-size", "256"]].concat());
        let passphrase = |number: u32| match number {
            0 => PASSPHRASE.to_owned(),
            number => format!("passphrase {number}"),
        };
        for number in 1..slots {
            image.add_key(number, &passphrase(number), &[]);
        }
        for number in (0..slots).step_by(5) {
            let opened = image.unlock(&passphrase(number), &Unlock::default()).unwrap();
            assert_eq!(opened.key_slot, Some(number));
            assert_eq!(key(&opened), image.volume_key());
            let other = image.unlock(&passphrase(number), &slot((number + 1) % slots));
            assert!(
                matches!(other, Err(Error::WrongPassphrase { key_slot: Some(_) })),
                "{other:?}"
            );
        }
        let words = ["luksKillSlot", "--batch-mode", "--key-file", "-", "IMAGE", "5"];
        image.cryptsetup(&words, PASSPHRASE);
        let gone = image.unlock(&passphrase(5), &Unlock::default());
        assert!(matches!(gone, Err(Error::WrongPassphrase { key_slot: None })), "{gone:?}");
        let gone = image.unlock(&passphrase(5), &slot(5));
        assert!(matches!(gone, Err(Error::NoSuchKeySlot { key_slot: 5, .. })), "{gone:?}");
        let beyond = image.unlock(PASSPHRASE, &slot(slots));
        assert!(matches!(beyond, Err(Error::NoSuchKeySlot { .. })), "{beyond:?}");
        assert_dump_is_cryptsetups(&image);
    }
}

#[test]
fn a_key_slot_to_be_ignored_opens_only_when_asked_for() {
    if !have_cryptsetup() {
        return;
    }
    let image = Image::format(&[&QUICK[..], &["--type", "luks2"]].concat());
    image.add_key(1, "other", &[]);
    image.cryptsetup(&["config", "--priority", "ignore", "--key-slot", "1"], "");
    let ignored = image.unlock("other", &Unlock::default());
    assert!(matches!(ignored, Err(Error::WrongPassphrase { key_slot: None })), "{ignored:?}");
    assert_eq!(image.unlock("other", &slot(1)).unwrap().key_slot, Some(1));

    // Of two slots with one passphrase the preferred one opens.
    image.add_key(2, PASSPHRASE, &[]);
    image.cryptsetup(&["config", "--priority", "prefer", "--key-slot", "2"], "");
    assert_eq!(image.unlock(PASSPHRASE, &Unlock::default()).unwrap().key_slot, Some(2));
    assert_dump_is_cryptsetups(&image);
}

#[test]
fn an_unbound_key_slot_opens_nothing() {
    if !have_cryptsetup() {
        return;
    }
    let image = Image::format(&[&QUICK[..], &["--type", "luks2"]].concat());
    let volume_key = image.beside("key", &[7; 32]);
    let unbound = ["--unbound", "--key-size", "256", "--volume-key-file", &volume_key];
    image.add_key(9, "unbound", &unbound);
    let opened = image.unlock("unbound", &Unlock::default());
    assert!(matches!(opened, Err(Error::WrongPassphrase { key_slot: None })), "{opened:?}");
    let opened = image.unlock("unbound", &slot(9));
    assert!(matches!(opened, Err(Error::UnboundSlot(9))), "{opened:?}");
    assert_dump_is_cryptsetups(&image);
}

#[test]
fn a_reencryption_in_progress_is_refused() {
    if !have_cryptsetup() {
        return;
    }
    let image = Image::format(&[&QUICK[..], &["--type", "luks2"]].concat());
    let words = ["reencrypt", "--init-only", "--batch-mode", "--key-file", "-"];
    image.cryptsetup(&[&words[..], &QUICK].concat(), PASSPHRASE);
    let refused = image.unlock(PASSPHRASE, &Unlock::default());
    assert!(matches!(refused, Err(Error::ReencryptionInProgress(_))), "{refused:?}");
    assert_dump_is_cryptsetups(&image);
}

#[test]
fn labels_and_tokens_are_dumped() {
    if !have_cryptsetup() {
        return;
    }
    let image = Image::format(&[&QUICK[..], &["--type", "luks2"]].concat());
    image.cryptsetup(&["config", "--label", "backups", "--subsystem", "tests"], "");
    // A program's own token may use the field of the known kind for something else.
    let token =
        r#"{"type":"mine","keyslots":["0"],"key_description":{"a":[1,"b",null,true,-2.5]}}"#;
    image.cryptsetup(&["token", "import"], token);
    image.cryptsetup(&["token", "add", "--key-description", "my:key", "--key-slot", "0"], "");
    assert_dump_is_cryptsetups(&image);

    let Container::Luks2(header) = image.probe() else { panic!("not LUKS2") };
    assert_eq!((&*header.label, &*header.subsystem), ("backups", "tests"));
    assert_eq!(header.metadata.tokens.get(1).unwrap().key_description.as_deref(), Some("my:key"));
}

#[test]
fn luks1_is_dumped() {
    if have_cryptsetup() {
        let image = Image::format(&[&QUICK[..], &["--type", "luks1"]].concat());
        image.add_key(3, "other", &[]);
        assert_dump_is_cryptsetups(&image);
    }
}

fn assert_dump_is_cryptsetups(image: &Image) {
    let of_path = format!(" for {}", image.path().display());
    let expected = image.cryptsetup(&["luksDump"], "").replace(&of_path, "");
    let dump = image.probe().dump().to_string();
    for (ours, theirs) in dump.lines().zip(expected.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(dump.len(), expected.len(), "{dump}");
    let json = serde_json::to_value(image.probe().dump()).expect("a dump is JSON");
    let kind = image.probe().kind();
    assert_eq!(json["type"], kind);
    if kind == "luks2" {
        let expected = image.cryptsetup(&["luksDump", "--dump-json-metadata"], "");
        let expected = serde_json::from_str(&expected);
        let mut expected: serde_json::Value = expected.expect("cryptsetup writes JSON");
        // Of tokens the fields that are known are kept.
        for token in objects(&mut expected["tokens"]).values_mut() {
            objects(token).retain(|field, value| {
                ["type", "keyslots"].contains(&&**field) || value.is_string()
            });
        }
        assert_eq!(json["metadata"], expected);
    }
}

fn objects(value: &mut serde_json::Value) -> &mut serde_json::Map<String, serde_json::Value> {
    value.as_object_mut().expect("an object")
}
