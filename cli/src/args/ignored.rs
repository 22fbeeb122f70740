//! Options of `open` that do not go together, and those that change nothing: cryptsetup's rules, and a
//! warning where cryptsetup ignores without one.

use daemon::Fault;
use daemon::fault::USAGE;

use super::open::stack::Form;
use super::open::{KeySource, Kind, Open};
use crate::passphrase::Until;

/// What opens an image, as far as options depend on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// A header says what there is.
    Container,
    Plain,
    Tcrypt,
}

impl Open {
    fn family(&self) -> Family {
        match self.kind {
            Kind::Auto | Kind::Luks | Kind::Luks1 | Kind::Luks2 | Kind::Bitlk => Family::Container,
            Kind::Plain => Family::Plain,
            Kind::Tcrypt | Kind::Veracrypt | Kind::Truecrypt => Family::Tcrypt,
        }
    }

    /// Refuses what makes no sense together, or would open something else than was meant.
    ///
    /// # Errors
    /// Which option, and why.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let (plain, tcrypt, family) = (&self.plain, &self.tcrypt, self.family());
        let only_plain = "is for --type plain alone: the header says it";
        let only_tcrypt = "is for --type tcrypt, veracrypt and truecrypt alone";
        let all = matches!(self.form(), Ok(Form::All { .. }));
        let large = plain.sector_size.is_some_and(|bytes| bytes > 512);
        let refused = [
            (plain.offset.is_some() && family != Family::Plain && !all, "--offset", only_plain),
            (plain.skip.is_some() && family != Family::Plain, "--skip", only_plain),
            (plain.sector_size.is_some() && family != Family::Plain, "--sector-size", only_plain),
            (plain.iv_large_sectors && family != Family::Plain, "--iv-large-sectors", only_plain),
            (
                plain.iv_large_sectors && !large,
                "--iv-large-sectors",
                "needs a --sector-size of more than 512",
            ),
            (
                plain.device_size.is_some_and(|bytes| bytes % 512 != 0),
                "--device-size",
                "expected a multiple of 512 bytes",
            ),
            (tcrypt.hidden && family != Family::Tcrypt, "--hidden", only_tcrypt),
            (tcrypt.system && family != Family::Tcrypt, "--system", only_tcrypt),
            (tcrypt.backup && family != Family::Tcrypt, "--backup", only_tcrypt),
            (tcrypt.pim.is_some() && family != Family::Tcrypt, "--pim", only_tcrypt),
            (
                tcrypt.disable_veracrypt && family != Family::Tcrypt,
                "--disable-veracrypt",
                only_tcrypt,
            ),
            (
                !tcrypt.key_files.is_empty() && family != Family::Tcrypt,
                "--with-key-file",
                only_tcrypt,
            ),
            (
                tcrypt.pim.is_some() && self.is_truecrypt(),
                "--pim",
                "is for VeraCrypt alone: TrueCrypt has none",
            ),
            (
                tcrypt.hidden && self.allow_discards,
                "--allow-discards",
                "with --hidden, would tell where the hidden volume is",
            ),
            (
                self.header.is_some() && family == Family::Tcrypt,
                "--header",
                "is not supported for VeraCrypt and TrueCrypt",
            ),
            (
                self.test_passphrase && family == Family::Plain,
                "--test-passphrase",
                "plain dm-crypt has nothing that a passphrase could be tried on",
            ),
            (
                self.kind == Kind::Tcrypt && matches!(self.key_source(), KeySource::File(_)),
                "--key-file",
                "with --type tcrypt: what goes with the passphrase is --with-key-file here; a file \
                 with the passphrase itself is taken by --type veracrypt",
            ),
            (
                self.keyfile_offset > 0 && self.key_source() == KeySource::Typed,
                "--keyfile-offset",
                "a passphrase is typed, of which nothing can be skipped",
            ),
        ];
        match refused.into_iter().find(|(so, _, _)| *so) {
            Some((_, option, why)) => Err(Fault::new(option, why).with_status(USAGE)),
            None => Ok(()),
        }
    }

    /// Lists the warnings, of options that change nothing and of what another version of cryptsetup
    /// takes otherwise.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.by_default();
        // As in cryptsetup, those of above are not left out.
        if !self.batch_mode {
            let ignored = self.ignored().into_iter().filter(|(so, _, _)| *so);
            warnings.extend(ignored.map(|(_, option, why)| format!("{option} is ignored: {why}")));
        }
        warnings
    }

    /// Which options change nothing: whether that is so, the option, why.
    fn ignored(&self) -> Vec<(bool, &'static str, &'static str)> {
        let (plain, family, source) = (&self.plain, self.family(), self.key_source());
        let typed = source == KeySource::Typed;
        let (is_plain, hash) = (family == Family::Plain, self.headerless.hash.is_some());
        let header = "the header says it";
        let sized = plain.size.is_some() || plain.device_size.is_some();
        let container = family == Family::Container;
        let all = matches!(self.form(), Ok(Form::All { .. }));
        vec![
            (
                is_plain && hash && matches!(source, KeySource::File(_)),
                "--hash",
                "a key file of plain dm-crypt is the key itself",
            ),
            (
                self.has_raw_key() && self.keyfile_size.is_some(),
                "--keyfile-size",
                "the key is as long as --key-size says",
            ),
            (typed && self.keyfile_size.is_some(), "--keyfile-size", "a passphrase is typed"),
            (is_plain && self.key_slot.is_some(), "--key-slot", "plain dm-crypt has none"),
            (is_plain && self.header.is_some(), "--header", "plain dm-crypt has none"),
            (
                family == Family::Tcrypt && self.key_slot.is_some(),
                "--key-slot",
                "VeraCrypt and TrueCrypt have none",
            ),
            (container && self.headerless.cipher.is_some(), "--cipher", header),
            (container && hash, "--hash", header),
            (!is_plain && plain.key_size.is_some(), "--key-size", header),
            (!is_plain && sized && !all, "--size", header),
            (
                self.verify_passphrase && !typed,
                "--verify-passphrase",
                "nobody types the passphrase",
            ),
            (self.moot.timeout.is_some_and(|seconds| seconds > 0), "--timeout", "a prompt waits"),
            (
                self.moot.serialize_memory_hard_pbkdf,
                "--serialize-memory-hard-pbkdf",
                "no opening waits for another",
            ),
            (self.moot.debug, "--debug", "the daemon's log is `log` in the instance's directory"),
        ]
    }

    /// What cryptsetup took otherwise before version 2.7: there is no header that would tell a wrong
    /// key.
    fn by_default(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.family() != Family::Plain {
            return warnings;
        }
        let cipher = self.headerless.cipher.as_deref();
        if cipher.is_none() || self.plain.key_size.is_none() {
            let (cipher, bits) = (cipher.unwrap_or("aes-xts-plain64"), self.plain.key_bits());
            warnings.push(format!(
                "plain dm-crypt with {cipher} and a key of {bits} bits, as no --cipher or --key-size \
                 says: cryptsetup before 2.7 takes aes-cbc-essiv:sha256"
            ));
        }
        let hashed =
            matches!(self.key_source(), KeySource::Typed | KeySource::Stdin(Until::Newline));
        if hashed && self.headerless.hash.is_none() {
            warnings.push(
                "plain dm-crypt with a passphrase hashed by sha256, as no --hash says: cryptsetup \
                 before 2.7 takes ripemd160"
                    .to_owned(),
            );
        }
        warnings
    }
}
