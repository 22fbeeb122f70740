//! The options that there are.

/// What may follow an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Argument,
}

/// One option: its name, its letter if it has one, and what follows it.
pub(super) type Known = (&'static str, Option<char>, Takes);

/// Every long option, in the order in which getopt lists those that a prefix may mean.
pub(super) const KNOWN: &[Known] = {
    use Takes::{Argument as A, Nothing as N};
    &[
        ("readonly", Some('r'), N),
        ("alias", None, A),
        ("alldevices", None, N),
        ("allprograms", None, N),
        ("allregions", None, N),
        ("area", None, N),
        ("areas", None, A),
        ("areasize", None, A),
        ("bounds", None, A),
        ("checks", None, N),
        ("clear", None, N),
        ("columns", Some('c'), N),
        ("concise", None, N),
        ("count", None, A),
        ("deferred", None, N),
        ("select", Some('S'), A),
        ("exec", None, A),
        ("filemap", None, N),
        ("follow", None, A),
        ("force", Some('f'), N),
        ("foreground", None, N),
        ("gid", Some('G'), A),
        ("group", None, N),
        ("groupid", None, A),
        ("help", Some('h'), N),
        ("histogram", None, N),
        ("inactive", None, N),
        ("interval", None, A),
        ("length", None, A),
        ("manglename", None, A),
        ("major", Some('j'), A),
        ("minor", Some('m'), A),
        ("mode", Some('M'), A),
        ("nameprefixes", None, N),
        ("nogroup", None, N),
        ("noflush", None, N),
        ("noheadings", None, N),
        ("nolockfs", None, N),
        ("noopencount", None, N),
        ("nosuffix", None, N),
        ("notable", Some('n'), N),
        ("notimesuffix", None, N),
        ("nomonitor", None, N),
        ("udevcookie", None, A),
        ("noudevrules", None, N),
        ("noudevsync", None, N),
        ("options", Some('o'), A),
        ("precise", None, N),
        ("programid", None, A),
        ("raw", None, N),
        ("readahead", None, A),
        ("region", None, N),
        ("regions", None, A),
        ("regionid", None, A),
        ("relative", None, N),
        ("retry", None, N),
        ("rows", None, N),
        ("segments", None, N),
        ("separator", None, A),
        ("setuuid", None, N),
        ("showkeys", None, N),
        ("sort", Some('O'), A),
        ("start", None, A),
        ("table", None, A),
        ("target", None, A),
        ("tree", None, N),
        ("uid", Some('U'), A),
        ("units", None, A),
        ("uuid", Some('u'), A),
        ("unbuffered", None, N),
        ("unquoted", None, N),
        ("userdata", None, A),
        ("verbose", Some('v'), N),
        ("verifyudev", None, N),
        ("version", None, N),
        ("yes", Some('y'), N),
        ("addnodeonresume", None, N),
        ("addnodeoncreate", None, N),
    ]
};

/// The options that dmsim adds.
pub(super) const ADDED: &[Known] = &[
    ("json", None, Takes::Nothing),
    ("device-names", None, Takes::Nothing),
    ("quiet", None, Takes::Nothing),
];
