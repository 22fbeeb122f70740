//! The rows of the options of `open`.

/// What becomes of an option.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    /// What cryptsetup does.
    Same,
    /// The same, by another name or with more to it.
    Own(&'static str),
    /// Nothing, as there is nothing to do or to turn off.
    Nothing,
    /// Nothing, and says so: a warning with these words.
    Warns(&'static str),
    /// Fails, with these words.
    Refused(&'static str),
}

use Does::{Nothing, Own, Refused, Same, Warns};

/// An option of a verb of cryptsetup, the command that tries it, and what becomes of it. In the command,
/// `$D` is dmsim, `$LUKS` an image with LUKS2 and `$APART` one whose header is `$HEADER`, `$KEY` the file
/// of their passphrase, `$PLAIN` an image without a header, `$RAW` a file of 64 bytes; a device is made
/// as `d`.
pub(super) type Row = (&'static str, &'static str, &'static str, Does);

pub(super) const OPEN: &[Row] = &[
    (
        "open",
        "--type, -M",
        "$D open --type luks2 -d $KEY $LUKS d",
        Own("also `auto` (the default), `veracrypt`, `truecrypt`"),
    ),
    (
        "open",
        "--type loopaes",
        "$D open --type loopaes $PLAIN d",
        Refused("invalid value 'loopaes'"),
    ),
    (
        "open",
        "--type fvault2",
        "$D open --type fvault2 $PLAIN d",
        Refused("invalid value 'fvault2'"),
    ),
    ("open", "--key-file, -d", "$D open --key-file $KEY $LUKS d", Same),
    (
        "open",
        "--key-file with tcrypt",
        "$D open --type tcrypt -d $KEY $PLAIN d",
        Refused("--with-key-file"),
    ),
    (
        "open",
        "--keyfile-offset",
        "$D open -q --type plain -d $RAW --keyfile-offset 32 $PLAIN d",
        Same,
    ),
    ("open", "--keyfile-size, -l", "$D open -d $KEY -l 6 $LUKS d", Same),
    (
        "open",
        "--keyfile-size with a plain key file",
        "$D open --type plain -d $RAW -l 6 $PLAIN d",
        Warns("--keyfile-size is ignored"),
    ),
    (
        "open",
        "--volume-key-file, --master-key-file",
        "$D open --volume-key-file $RAW $LUKS d",
        Refused("not by its volume key"),
    ),
    ("open", "--key-slot, -S", "$D open -d $KEY -S 0 $LUKS d", Same),
    (
        "open",
        "--key-slot in plain mode",
        "$D open --type plain -d $RAW -S 0 $PLAIN d",
        Warns("--key-slot is ignored"),
    ),
    ("open", "--key-size, -s", "$D open -q --type plain -s 512 -d $RAW $PLAIN d", Same),
    (
        "open",
        "--key-size with a header",
        "$D open -d $KEY -s 512 $LUKS d",
        Warns("--key-size is ignored"),
    ),
    ("open", "--hash, -h", "$D open --type plain -h sha512 $PLAIN d < $KEY", Same),
    (
        "open",
        "--hash with a plain key file",
        "$D open --type plain -h sha512 -d $RAW $PLAIN d",
        Warns("--hash is ignored"),
    ),
    (
        "open",
        "--hash with a header",
        "$D open -d $KEY -h sha512 $LUKS d",
        Warns("--hash is ignored"),
    ),
    ("open", "--cipher, -c", "$D open --type plain -c aes-cbc-essiv:sha256 -d $RAW $PLAIN d", Same),
    (
        "open",
        "--cipher with a header",
        "$D open -d $KEY -c aes-cbc-plain $LUKS d",
        Warns("--cipher is ignored"),
    ),
    (
        "open",
        "no --cipher, --key-size, --hash in plain mode",
        "$D open --type plain $PLAIN d < $KEY",
        Own("the defaults of cryptsetup since 2.7, with a warning as there"),
    ),
    (
        "open",
        "--type plain of an image with LUKS",
        "$D open --type plain -d $RAW $LUKS d",
        Warns("holds luks2"),
    ),
    ("open", "--offset, -o", "$D open --type plain -o 8 -d $RAW $PLAIN d", Same),
    (
        "open",
        "--offset with a header",
        "$D open -o 8 -d $KEY $LUKS d",
        Refused("--offset: is for --type plain alone"),
    ),
    ("open", "--skip, -p", "$D open --type plain -p 8 -d $RAW $PLAIN d", Same),
    (
        "open",
        "--skip with a header",
        "$D open -p 8 -d $KEY $LUKS d",
        Refused("--skip: is for --type plain alone"),
    ),
    ("open", "--size, -b", "$D open --type plain -b 8 -d $RAW $PLAIN d", Same),
    ("open", "--size with a header", "$D open -b 8 -d $KEY $LUKS d", Warns("--size is ignored")),
    ("open", "--device-size", "$D open --type plain --device-size 8k -d $RAW $PLAIN d", Same),
    ("open", "--sector-size", "$D open --type plain --sector-size 4096 -d $RAW $PLAIN d", Same),
    (
        "open",
        "--sector-size with a header",
        "$D open --sector-size 4096 -d $KEY $LUKS d",
        Refused("--sector-size: is for --type plain alone"),
    ),
    (
        "open",
        "--iv-large-sectors",
        "$D open --type plain --sector-size 4096 --iv-large-sectors -d $RAW $PLAIN d",
        Same,
    ),
    (
        "open",
        "--iv-large-sectors alone",
        "$D open --type plain --iv-large-sectors -d $RAW $PLAIN d",
        Refused("--sector-size of more than 512"),
    ),
    ("open", "--header", "$D open --header $HEADER -d $KEY $APART d", Same),
    (
        "open",
        "--header in plain mode",
        "$D open --type plain --header $HEADER -d $RAW $PLAIN d",
        Warns("--header is ignored"),
    ),
    (
        "open",
        "--header with tcrypt",
        "$D open --type tcrypt --header $HEADER $PLAIN d < $KEY",
        Refused("--header: is not supported"),
    ),
    ("open", "--readonly, -r", "$D open --readonly -d $KEY $LUKS d", Own("also `--read-only`")),
    ("open", "--allow-discards", "$D open --allow-discards -d $KEY $LUKS d", Same),
    (
        "open",
        "--shared",
        "$D open --shared -d $KEY $LUKS d",
        Own("for every type; the areas may overlap"),
    ),
    ("open", "--test-passphrase", "$D open --test-passphrase -d $KEY $LUKS", Same),
    (
        "open",
        "--test-passphrase in plain mode",
        "$D open --type plain --test-passphrase -d $RAW $PLAIN",
        Refused("--test-passphrase: plain dm-crypt"),
    ),
    ("open", "--tries, -T", "$D open --tries 1 -d $KEY $LUKS d", Same),
    ("open", "--timeout, -t", "$D open -t 5 -d $KEY $LUKS d", Warns("--timeout is ignored")),
    (
        "open",
        "--verify-passphrase, -y",
        "$D open -y -d $KEY $LUKS d",
        Own("on a terminal; a warning where nobody types"),
    ),
    (
        "open",
        "--token-id",
        "$D open --token-id 1 $LUKS d",
        Refused("--token-id: tokens are not read"),
    ),
    (
        "open",
        "--token-only",
        "$D open --token-only $LUKS d",
        Refused("--token-only: tokens are not read"),
    ),
    (
        "open",
        "--token-type",
        "$D open --token-type t $LUKS d",
        Refused("--token-type: tokens are not read"),
    ),
    (
        "open",
        "--disable-external-tokens",
        "$D open --disable-external-tokens -d $KEY $LUKS d",
        Nothing,
    ),
    ("open", "--disable-keyring", "$D open --disable-keyring -d $KEY $LUKS d", Nothing),
    ("open", "--disable-locks", "$D open --disable-locks -d $KEY $LUKS d", Nothing),
    (
        "open",
        "--serialize-memory-hard-pbkdf",
        "$D open --serialize-memory-hard-pbkdf -d $KEY $LUKS d",
        Warns("--serialize-memory-hard-pbkdf is ignored"),
    ),
    (
        "open",
        "--persistent",
        "$D open --persistent -d $KEY $LUKS d",
        Refused("--persistent: no header is written"),
    ),
    (
        "open",
        "--refresh",
        "$D open --refresh -d $KEY $LUKS d",
        Refused("--refresh: `dmsim close` it"),
    ),
    (
        "open",
        "--unbound",
        "$D open --unbound --test-passphrase -d $KEY $LUKS",
        Refused("--unbound: key slots without data"),
    ),
    (
        "open",
        "--perf-same_cpu_crypt",
        "$D open --perf-same_cpu_crypt -d $KEY $LUKS d; $D table d | grep -q same_cpu_crypt",
        Same,
    ),
    (
        "open",
        "--perf-submit_from_crypt_cpus",
        "$D open --perf-submit_from_crypt_cpus -d $KEY $LUKS d; $D table d | grep -q submit_from_crypt_cpus",
        Same,
    ),
    (
        "open",
        "--perf-no_read_workqueue",
        "$D open --perf-no_read_workqueue -d $KEY $LUKS d; $D table d | grep -q no_read_workqueue",
        Same,
    ),
    (
        "open",
        "--perf-no_write_workqueue",
        "$D open --perf-no_write_workqueue -d $KEY $LUKS d; $D table d | grep -q no_write_workqueue",
        Same,
    ),
    (
        "open",
        "--tcrypt-hidden",
        "$D open --type tcrypt --disable-veracrypt --tcrypt-hidden $PLAIN d < $KEY",
        Own("also `--hidden`"),
    ),
    (
        "open",
        "--tcrypt-system",
        "$D open --type tcrypt --disable-veracrypt --tcrypt-system $PLAIN d < $KEY",
        Own("also `--system`"),
    ),
    (
        "open",
        "--tcrypt-backup",
        "$D open --type tcrypt --disable-veracrypt --tcrypt-backup $PLAIN d < $KEY",
        Own("also `--backup`"),
    ),
    (
        "open",
        "--tcrypt-hidden with LUKS",
        "$D open --tcrypt-hidden -d $KEY $LUKS d",
        Refused("--hidden: is for --type tcrypt"),
    ),
    (
        "open",
        "--tcrypt-hidden with --allow-discards",
        "$D open --type tcrypt --tcrypt-hidden --allow-discards $PLAIN d < $KEY",
        Refused("--allow-discards: with --hidden"),
    ),
    (
        "open",
        "--veracrypt",
        "$D open --type tcrypt --veracrypt --veracrypt-pim 1 -h sha512 $PLAIN d < $KEY",
        Nothing,
    ),
    (
        "open",
        "--disable-veracrypt",
        "$D open --type tcrypt --disable-veracrypt $PLAIN d < $KEY",
        Own("also `--type truecrypt`"),
    ),
    (
        "open",
        "--veracrypt-pim",
        "$D open --type tcrypt --veracrypt-pim 1 -h sha512 $PLAIN d < $KEY",
        Own("also `--pim`"),
    ),
    (
        "open",
        "--veracrypt-pim with --disable-veracrypt",
        "$D open --type tcrypt --veracrypt-pim 1 --disable-veracrypt $PLAIN d < $KEY",
        Refused("--pim: is for VeraCrypt alone"),
    ),
    (
        "open",
        "--veracrypt-query-pim",
        "$D open --type tcrypt --veracrypt-query-pim $PLAIN d < $KEY",
        Refused("--veracrypt-query-pim: say it by --veracrypt-pim"),
    ),
    (
        "open",
        "--batch-mode, -q",
        "$D open --batch-mode --timeout 5 -d $KEY $LUKS d",
        Own("leaves out warnings of what is ignored; nothing is asked but passphrases"),
    ),
    (
        "open",
        "--verbose, -v",
        "$D open -v -d $KEY --test-passphrase $LUKS",
        Own("says with `--test-passphrase` which key slot opens"),
    ),
    (
        "open",
        "--debug, --debug-json",
        "$D open --debug -d $KEY $LUKS d",
        Warns("--debug is ignored"),
    ),
];
