//! What cryptsetup has, and dmsim has not: said by name, with what to do instead.

/// Options that are refused: the verb, the option as it is typed, why.
const OPTIONS: &[(&str, &[&str], &str)] = &[
    (
        "open",
        &["--volume-key-file", "--master-key-file", "--volume-key-keyring"],
        "a container is opened by the passphrase or key file of a key slot, not by its volume key",
    ),
    (
        "open",
        &["--token-id", "--token-only", "--token-type", "--external-tokens-path"],
        "tokens are not read: give the passphrase or key file of a key slot",
    ),
    ("open", &["--persistent"], "no header is written: say the options at each open"),
    ("open", &["--refresh"], "`dmsim close` it, and open it again with the other options"),
    ("open", &["--unbound"], "key slots without data are not opened"),
    ("open", &["--veracrypt-query-pim"], "say it by --veracrypt-pim N"),
    ("open", &["--link-vk-to-keyring"], "keys are in no keyring"),
    (
        "close",
        &["--cancel-deferred"],
        "`dmsim message NAME 0 @cancel_deferred_remove` keeps a device that `close --deferred` removes",
    ),
    (
        "dump",
        &["--dump-volume-key", "--dump-master-key", "--unbound"],
        "no key is derived: `dmsim table --showkeys NAME` prints an open device's",
    ),
    ("dump", &["--dump-json-metadata"], "--json prints what is known of the header"),
    (
        "dump",
        &[
            "--key-file",
            "--keyfile-offset",
            "--keyfile-size",
            "--key-slot",
            "--volume-key-file",
            "--master-key-file",
            "--timeout",
            "-d",
            "-l",
            "-S",
            "-t",
        ],
        "no key is needed, and none derived",
    ),
];

/// Verbs of cryptsetup: the verb, what does the same here.
const VERBS: &[(&str, &str)] = &[
    ("luksOpen", "`dmsim open --type luks IMAGE NAME`"),
    ("plainOpen", "`dmsim open --type plain IMAGE NAME`"),
    ("tcryptOpen", "`dmsim open --type tcrypt IMAGE NAME`"),
    ("bitlkOpen", "`dmsim open --type bitlk IMAGE NAME`"),
    ("luksClose", "`dmsim close NAME`"),
    ("plainClose", "`dmsim close NAME`"),
    ("tcryptClose", "`dmsim close NAME`"),
    ("bitlkClose", "`dmsim close NAME`"),
    ("luksDump", "`dmsim dump IMAGE`"),
    ("bitlkDump", "`dmsim dump IMAGE`"),
    ("isLuks", "`dmsim dump --quiet --type luks IMAGE`"),
    ("luksUUID", "`dmsim dump --uuid IMAGE`"),
    ("luksSuspend", "`dmsim suspend NAME` and `dmsim message NAME 0 key wipe`"),
];

/// Says why an option of cryptsetup is refused, if it is one.
pub(crate) fn why_not(verb: &str, option: &str) -> Option<&'static str> {
    let option = option.split('=').next().unwrap_or(option);
    let known = OPTIONS.iter().find(|(of, names, _)| *of == verb && names.contains(&option));
    known.map(|(_, _, why)| *why)
}

/// Says what does what a verb of cryptsetup does, if it is one.
pub(crate) fn instead_of(verb: &str) -> Option<&'static str> {
    VERBS.iter().find(|(name, _)| *name == verb).map(|(_, instead)| *instead)
}
