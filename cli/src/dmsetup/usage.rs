//! What `help` says.

use super::dm::Called;

const TEXT: &str = include_str!("usage.txt");

/// What each verb does, in dmsetup's order.
const DOES: &[(&str, &str)] = &[
    (
        "create",
        "Make a device, with a table from --table, a file or standard input, and let it run",
    ),
    ("remove", "Remove devices; one that is open stays, or goes with its last user (--deferred)"),
    ("remove_all", "Remove every device that is not open"),
    ("suspend", "Let I/O end, and hold what comes then, until the device is resumed"),
    ("resume", "Swap in the table that was loaded, if there is one, and let I/O through"),
    ("load", "Load a table, which the next resume swaps in"),
    ("reload", "Load a table, which the next resume swaps in"),
    ("clear", "Drop the table that was loaded and waits for a resume"),
    ("wipe_table", "Replace the table by one that fails all I/O"),
    ("rename", "Give a device another name, or its first uuid (--setuuid)"),
    ("measure", "Print what an integrity measurement would take down of the targets"),
    ("message", "Send a message to the target at a sector"),
    ("ls", "List devices, or show them as a tree (--tree)"),
    ("deps", "List the devices that a table has open"),
    ("stats", "Count what devices are sent, by regions and areas, and report it"),
    ("status", "Print the state of each target"),
    ("table", "Print the table; keys are zeros without --showkeys"),
    ("wait", "Wait for the next event of a device, or for one after EVENT_NR"),
    ("mknodes", "Do nothing: a device's file is there as long as the device"),
    ("mangle", "Rename devices so that udev could show their names"),
    (
        "udevcreatecookie",
        "Print a new cookie, which changes can be made part of; nothing without a udev",
    ),
    ("udevreleasecookie", "Wait for all that is part of a cookie, and take it away"),
    ("udevflags", "Print what a cookie's upper half says to udev's rules"),
    ("udevcomplete", "Say that one change of a cookie is done with, as udev's rules do"),
    ("udevcomplete_all", "Take away all cookies, or those untouched for so many minutes"),
    ("udevcookies", "List the cookies of the machine"),
    ("target-version", "Print the versions of target types"),
    ("targets", "List the target types and their versions"),
    ("version", "Print the versions of the library and of the driver"),
    ("setgeometry", "Set the geometry that a device reports"),
    ("splitname", "Split a name as LVM makes it into group, volume and layer"),
];

/// The usage text, with the name that the program was called by.
pub(super) fn text(called: Called) -> String {
    match called {
        Called::Dmsetup | Called::Dmstats => TEXT.to_owned(),
        Called::Dmsim => TEXT.replacen("\ndmsetup\n", "\ndmsim\n", 1),
    }
}

/// What `dmsim help VERB` says of one verb; nothing where that is no verb that is helped with so.
pub(super) fn of(verb: &str) -> Option<String> {
    let (_, does) = DOES.iter().find(|(name, _)| *name == verb)?;
    let mut usage = String::new();
    let mut within = false;
    for line in TEXT.lines() {
        let Some(line) = line.strip_prefix('\t') else {
            within = false;
            continue;
        };
        if !line.starts_with(' ') {
            within = line.split(' ').next() == Some(verb);
        }
        if within {
            usage += &match line.strip_prefix(' ') {
                Some(rest) => format!("         {}\n", rest.trim_start()),
                None => format!("  dmsim {}\n", line.trim_end()),
            };
        }
    }
    let more = "<device> is a name, a path under the mount, -u UUID, or -j MAJOR -m MINOR.\n\
                `dmsim help dmsetup` prints all verbs, and the options that they share.\n";
    Some(format!("{does}\n\nUsage:\n{usage}\n{more}"))
}

#[cfg(test)]
mod tests {
    use super::super::verbs::VERBS;
    use super::*;

    #[test]
    fn every_verb_has_its_help() {
        for verb in VERBS.iter().filter(|verb| verb.name != "help" && verb.name != "info") {
            let help = of(verb.name).unwrap_or_else(|| panic!("no help on {}", verb.name));
            assert!(help.contains(&format!("\n  dmsim {}", verb.name)), "{help}");
        }
    }

    #[test]
    fn the_lines_of_a_verb_are_its_own() {
        let help = of("create").expect("a verb");
        assert!(help.contains("--concise") && help.contains("--readahead"), "{help}");
        assert!(!help.contains("remove"), "{help}");
        assert_eq!(of("help"), None);
    }
}
