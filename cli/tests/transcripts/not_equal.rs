//! What of a recording need not be equal, and why.

/// What is not equal, and why.
pub(crate) struct NotEqual {
    pub(crate) case: &'static str,
    pub(crate) why: &'static str,
    /// Commands, each with which of its kind in the case; images by their names alone.
    pub(crate) what: &'static [(&'static str, &'static [usize])],
}

const MOVES: &str = "the kernel has other events in superblocks where data moves";

/// All that is not equal.
pub(crate) const NOT_EQUAL: &[NotEqual] = &[
    NotEqual {
        case: "lifecycle-names-and-listing",
        why: "libdm had made nodes of its own under names that it then did not know any more",
        what: &[("ls /dev/mapper", &[1])],
    },
    NotEqual {
        case: "dmstats-verbs",
        why: "dmstats tells of memory that it has lost, and prints each region twice",
        what: &[
            ("dmstats create --bounds x d", &[0]),
            ("dmstats create --bounds 1.5ms d", &[0]),
            ("dmstats print --allregions d", &[0]),
        ],
    },
    NotEqual {
        case: "dmsetup-words",
        why: "the kernel lists the types of the modules that it has loaded",
        what: &[("dmsetup targets --count 1 --interval 1", &[0])],
    },
    NotEqual {
        case: "dmsetup-options",
        why: "dmsetup ends by a signal; the kernel lists the types of the modules that it has loaded; and what a \
              program prints comes first, as dmsetup keeps its own lines back where they go to a file",
        what: &[
            ("dmsetup ls --exec 'echo x' -v", &[0]),
            ("dmsetup table --exec 'echo t' -v one", &[0]),
            ("dmsetup mangle -u LVM-two", &[0]),
            ("dmsetup mangle -j 253 -m 0", &[0]),
            ("dmsetup targets --checks", &[0]),
        ],
    },
    NotEqual {
        case: "dmsetup-acts",
        why: "dmsetup ends by a signal; and the kernel lists the types of the modules that it has loaded",
        what: &[("dmsetup clear -v -S name=q", &[0]), ("dmsetup targets -S name=a2", &[0])],
    },
    NotEqual {
        case: "ebs-sizes",
        why: "a device in memory takes bios that are no whole blocks",
        what: &[("put /dev/mapper/e 8 16 9000", &[11]), ("get /dev/mapper/e 0 64", &[11])],
    },
    NotEqual {
        case: "snapshot-bad",
        why: "the kernel gives the device up twice, and logs the bytes of a name that is gone",
        what: &[("dmsetup create bad --table '0 2048 snapshot /dev/loop0 /dev/loop0 P 8'", &[0])],
    },
    NotEqual {
        case: "raid-bad-counts",
        why: "the kernel finds out that a bitmap has no room when it writes it, and fails the leg",
        what: &[(
            "dmsetup create bad --table '0 2048 raid raid1 1 0 2 /dev/loop9 /dev/loop1 /dev/loop2 \
             /dev/loop3'",
            &[0],
        )],
    },
    NotEqual {
        case: "raid-bad-regions",
        why: "the kernel shows what became of the parameter",
        what: &[(
            "dmsetup create bad --table '0 8192 raid raid1 3 0 delta_disks -1 2 /dev/loop0 \
             /dev/loop1 /dev/loop2 /dev/loop3'",
            &[0],
        )],
    },
    NotEqual {
        case: "raid-10-far",
        why: "the kernel leaves copies different when a leg is back, as its own check counts",
        what: &[("get /dev/loop3 0 4096", &[2, 3])],
    },
    NotEqual {
        case: "raid-1-legs",
        why: "the recording took so long that the kernel had cleared bits meanwhile",
        what: &[("ma", &[0]), ("mb", &[0])],
    },
    NotEqual {
        case: "raid-1-start",
        why: "the kernel synchronizes a set that has grown from the beginning on, and keeps the \
              regions of the bitmap where the line has none",
        what: &[("ma", &[0]), ("mb", &[0]), ("mc", &[0])],
    },
    NotEqual {
        case: "multipath-messages",
        why: "a device's name alone names it here, as in a table",
        what: &[("dmsetup message mp 0 fail_path other", &[0])],
    },
    NotEqual {
        case: "multipath-accepted",
        why: "how long a bio took",
        what: &[("dmsetup status mp", &[20, 23])],
    },
    NotEqual {
        case: "raid-5-start",
        why: "the kernel goes over what lies before the offset of a resync too",
        what: &[
            ("get /dev/loop1 0 512", &[11]),
            ("get /dev/loop3 0 512", &[11]),
            ("get /dev/loop5 0 512", &[11]),
            ("get /dev/loop7 0 512", &[11]),
            ("d0", &[0]),
            ("d1", &[0]),
            ("d2", &[0]),
            ("d3", &[0]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
        ],
    },
    NotEqual {
        case: "raid-6-start",
        why: "the kernel goes over what lies before the offset of a resync too",
        what: &[
            ("get /dev/loop1 0 512", &[11]),
            ("get /dev/loop3 0 512", &[11]),
            ("get /dev/loop5 0 512", &[11]),
            ("get /dev/loop7 0 512", &[11]),
            ("d0", &[0]),
            ("d1", &[0]),
            ("d2", &[0]),
            ("d3", &[0]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
        ],
    },
    NotEqual {
        case: "raid-6-checks",
        why: "the kernel repairs no P where the leg with Q is missing, and says that it did",
        what: &[("get /dev/loop1 0 512", &[6]), ("d0", &[0])],
    },
    NotEqual {
        case: "raid-bad-raid5-others",
        why: "the kernel shows what became of the parameter",
        what: &[(
            "dmsetup create bad --table '0 6144 raid raid5_ls 3 8 delta_disks -1 4 /dev/loop0 \
             /dev/loop1 /dev/loop2 /dev/loop3 /dev/loop4 /dev/loop5 /dev/loop6 /dev/loop7'",
            &[0],
        )],
    },
    NotEqual {
        case: "raid-5-legs",
        why: "a check that loses a leg ends there in the kernel",
        what: &[
            ("dmsetup info -c --noheadings -o events r", &[0]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
        ],
    },
    NotEqual {
        case: "raid-6-legs",
        why: "a check that loses a leg ends there in the kernel, and what has a bit is not synchronized",
        what: &[("m0", &[0]), ("m1", &[0]), ("m2", &[0]), ("m3", &[0]), ("m4", &[0])],
    },
    NotEqual {
        case: "raid-5-journal",
        why: "the kernel writes the legs at other times with `writeback`, and replays a log of long ago \
              where a set is started for the third time; numbers of its logs are random, and what goes \
              on in the background has more or fewer events",
        what: &[
            (
                "dmsetup info -c --noheadings --separator : -o \
                 name,major,minor,attr,open,segments,events,uuid r",
                &[0, 1, 2, 3, 4, 5],
            ),
            ("get /dev/loop1 0 512", &[2, 3]),
            ("get /dev/loop3 0 512", &[2, 3]),
            ("get /dev/loop5 0 512", &[2, 3, 5]),
            ("get /dev/loop7 0 512", &[2, 3, 5]),
            ("j", &[0]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
        ],
    },
    NotEqual {
        case: "raid-bad-journal",
        why: "the kernel shows what became of the parameter; how far each set gets with its resync \
              before it is removed is a matter of time",
        what: &[
            (
                "dmsetup create bad --table '0 1536 raid raid5_ls 5 8 journal_dev /dev/loop8 \
                 delta_disks -1 4 /dev/loop0 /dev/loop1 /dev/loop2 /dev/loop3 /dev/loop4 /dev/loop5 \
                 /dev/loop6 /dev/loop7'",
                &[0],
            ),
            ("d0", &[0]),
            ("d1", &[0]),
            ("d2", &[0]),
            ("d3", &[0]),
            ("i", &[0]),
        ],
    },
    NotEqual {
        case: "raid-5-journal-fails",
        why: "in the kernel a write that failed as the journal did is on the legs; and what goes on in \
              the background has more or fewer events",
        what: &[
            ("dmsetup info -c --noheadings -o events r", &[0]),
            ("get /dev/mapper/r 0 1536", &[0, 1]),
            ("get /dev/loop5 0 512", &[0]),
            ("get /dev/loop7 0 512", &[0]),
            ("d2", &[0]),
            ("d3", &[0]),
            ("j", &[0]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
        ],
    },
    NotEqual {
        case: "raid-5-grow",
        why: "the kernel shows a reshape that waits as idle at its end, or as going on, as it \
              happens; and it has other events in superblocks where data moves",
        what: &[
            ("dmsetup status r", &[8]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
            ("m4", &[0]),
        ],
    },
    NotEqual {
        case: "raid-5-shrink",
        why: "dd reads past the end of the device; and it has other events in superblocks where data \
              moves",
        what: &[
            ("get /dev/mapper/r 0 2048", &[2, 3, 9, 10]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
            ("m4", &[0]),
        ],
    },
    NotEqual {
        case: "raid-5-layout-change",
        why: "the kernel shows a reshape that waits as idle, or as going on, as it happens; and it \
              has other events in superblocks where data moves",
        what: &[
            ("dmsetup status r", &[17]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
        ],
    },
    NotEqual {
        case: "raid-10-grow",
        why: "until the next table the kernel counts no more than the set had before, and leaves \
              copies of the rest as they are; and it has other events in superblocks where data \
              moves",
        what: &[
            ("dmsetup status r", &[1, 4, 7]),
            ("m0", &[0]),
            ("m1", &[0]),
            ("m2", &[0]),
            ("m3", &[0]),
            ("o0", &[0]),
            ("o2", &[0]),
            ("o3", &[0]),
        ],
    },
    NotEqual {
        case: "raid-1-grow",
        why: "a leg that is new is told as being behind from the beginning; and the kernel has other \
              events where legs are new",
        what: &[("dmsetup status --inactive r", &[0]), ("m0", &[0]), ("m1", &[0])],
    },
    NotEqual {
        case: "raid-takeover-q",
        why: MOVES,
        what: &[("m0", &[0]), ("m1", &[0]), ("m2", &[0]), ("m3", &[0])],
    },
    NotEqual {
        case: "raid-takeover-tables-1",
        why: "the kernel writes superblocks when a table is loaded, ours are written when it is resumed",
        what: &[("m0", &[0]), ("m1", &[0])],
    },
    NotEqual {
        case: "raid-takeover-up",
        why: MOVES,
        what: &[("m0", &[0]), ("m1", &[0]), ("m2", &[0]), ("m3", &[0])],
    },
    NotEqual {
        case: "mirror-primary-dead",
        why: "without features the kernel does not read what the second leg alone was written, and \
              copies the old data of the first leg over it",
        what: &[
            ("get /dev/mapper/m 0 8", &[1, 3, 4]),
            ("get /dev/mapper/m 256 8", &[0]),
            ("get /dev/mapper/m 0 2048", &[0, 1]),
            ("get /dev/loop0 0 2048", &[0, 1]),
            ("get /dev/loop1 0 2048", &[0, 1]),
        ],
    },
    NotEqual {
        case: "mirror-primary-write-first",
        why: "without features the kernel does not read what the second leg alone was written",
        what: &[("get /dev/mapper/m 0 8", &[0])],
    },
    NotEqual {
        case: "mirror-sync-read-error",
        why: "the kernel reads a leg that was never written, without features; with keep_log it \
              writes there, and copies it over the first leg",
        what: &[
            ("get /dev/mapper/m 1024 8", &[0, 2]),
            ("get /dev/mapper/m 1536 8", &[2]),
            ("get /dev/loop1 1024 8", &[2]),
            ("dmsetup suspend m", &[0, 2]),
            ("dmsetup resume m", &[2]),
            ("dmsetup info -c --noheadings -o events m", &[9, 10, 11]),
            ("a", &[0]),
            ("b", &[0]),
        ],
    },
    NotEqual {
        case: "mirror-out-of-sync",
        why: "one region cannot be copied; the kernel has one at a time, ours goes on with others",
        what: &[("dmsetup status m", &[0, 1, 2]), ("get /dev/loop1 3840 256", &[0])],
    },
];
