//! Every target under the conformance suite.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test -p dmsim-targets --test conformance` searches for ten
//! minutes in each part.

mod linear {
    testkit::conformance!(targets::Linear, "0 64 linear a 10");
}

mod linear_twice {
    testkit::conformance!(targets::Linear, "0 24 linear b 104\n24 40 linear a 8");
}

mod striped {
    testkit::conformance!(targets::Striped, "0 64 striped 2 8 a 96 b 200");
}

mod striped_in_odd_chunks {
    testkit::conformance!(targets::Striped, "0 60 striped 3 5 a 0 b 10 c 20");
}

mod zero {
    testkit::conformance!(
        targets::Zero,
        "0 64 zero",
        except { model: "reads as zeros whatever is written" }
    );
}

mod error {
    testkit::conformance!(targets::Error, "0 64 error", except { model: "fails every bio" });
}

mod error_with_a_device {
    testkit::conformance!(
        targets::Error,
        "0 64 error a 10",
        except {
            model: "fails every bio",
            garble: "takes a line with one word, as the kernel does, and ignores the word",
            reload: "shows no arguments, as the kernel does",
        }
    );
}

mod crypt {
    testkit::conformance!(
        targets::Crypt,
        "0 64 crypt aes-xts-plain64 00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100 5 a 16"
    );
}

mod crypt_with_large_sectors {
    testkit::conformance!(
        targets::Crypt,
        "0 64 crypt aes-cbc-essiv:sha256 00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100 8 a 16 3 allow_discards sector_size:4096 iv_large_sectors"
    );
}

mod snapshot_origin {
    testkit::conformance!(targets::SnapshotOrigin, "0 64 snapshot-origin a");
}

mod snapshot {
    testkit::conformance!(
        targets::Snapshot,
        "0 61 snapshot a b P 4",
        except {
            faults: "an I/O error of the store invalidates the snapshot, as the kernel has it",
            reload: "a table that waits for its store has the chunk size 0, as the kernel has it",
        }
    );
}

mod snapshot_in_large_chunks {
    testkit::conformance!(
        targets::Snapshot,
        "0 64 snapshot a b PO 32 2 discard_zeroes_cow discard_passdown_origin",
        except {
            faults: "an I/O error of the store invalidates the snapshot, as the kernel has it",
            reload: "a table that waits for its store has the chunk size 0, as the kernel has it",
        }
    );
}

mod snapshot_transient {
    testkit::conformance!(
        targets::Snapshot,
        "0 64 snapshot a b N 2",
        except {
            faults: "an I/O error of the store invalidates the snapshot, as the kernel has it",
            reload: "a table that waits for its store has the chunk size 0, as the kernel has it",
            crash: "the store does not outlive the device",
            operations: "the store does not outlive the device",
        }
    );
}

mod mirror {
    testkit::conformance!(
        targets::Mirror,
        "0 64 mirror core 1 16 2 a 16 b 24",
        except {
            faults: "a leg that failed and comes back is taken for good after a restart, as in the kernel"
        }
    );
}

mod mirror_in_sync {
    testkit::conformance!(
        targets::Mirror,
        "0 60 mirror core 2 8 nosync 2 a 10 b 20",
        except {
            faults: "a leg that failed and comes back is taken for good after a restart, as in the kernel"
        }
    );
}

mod mirror_of_three {
    testkit::conformance!(
        targets::Mirror,
        "0 64 mirror core 1 16 3 a 10 b 20 c 30",
        except {
            faults: "a leg that failed and comes back is taken for good after a restart, as in the kernel"
        }
    );
}

mod mirror_with_a_log {
    testkit::conformance!(
        targets::Mirror,
        "0 64 mirror disk 2 c 16 2 a 16 b 24",
        except {
            faults: "a leg that failed and comes back is taken for good after a restart, as in the kernel"
        }
    );
}

mod mirror_in_sync_with_a_log {
    testkit::conformance!(
        targets::Mirror,
        "0 60 mirror disk 3 c 4 nosync 2 a 10 b 20",
        except {
            faults: "a leg that failed and comes back is taken for good after a restart, as in the kernel"
        }
    );
}

mod mirror_that_keeps_its_log {
    testkit::conformance!(
        targets::Mirror,
        "0 64 mirror disk 3 c 8 sync 2 a 10 b 20 2 handle_errors keep_log",
        except {
            faults: "a leg that failed and comes back is taken for good after a restart, as in the kernel"
        }
    );
}

mod mirror_that_holds_writes {
    testkit::conformance!(
        targets::Mirror,
        "0 50 mirror disk 2 c 2 2 a 10 b 20 1 handle_errors",
        except { faults: "a write that a leg lacks is held until somebody changes the table" }
    );
}

mod raid0 {
    testkit::conformance!(targets::Raid, "0 48 raid raid0 1 8 3 - a - b - c");
}

mod raid1 {
    testkit::conformance!(
        targets::Raid,
        "0 64 raid raid1 1 0 2 - a - b",
        except {
            faults: "without metadata a leg that failed is taken for good after a restart",
            failing: "without metadata a leg that failed is taken for good after a restart",
        }
    );
}

mod raid1_of_three {
    testkit::conformance!(
        targets::Raid,
        "0 60 raid raid1 4 0 nosync region_size 8 3 - a - b - c",
        blank {
            a: "nosync says that the legs are the same",
            b: "nosync says that the legs are the same",
            c: "nosync says that the legs are the same",
        },
        except {
            faults: "without metadata a leg that failed is taken for good after a restart",
            failing: "without metadata a leg that failed is taken for good after a restart",
        }
    );
}

mod multipath {
    testkit::conformance!(
        targets::Multipath,
        "0 1024 multipath 0 0 2 1 round-robin 0 1 0 a queue-length 0 1 0 a",
        except {
            early: "a table for requests lies over no device for bios",
            moving: "a table for requests lies over no device for bios",
            failing: "a table for requests lies over no device for bios",
        }
    );
}

mod multipath_for_bios {
    testkit::conformance!(
        targets::Multipath,
        "0 1024 multipath 2 queue_mode bio 0 1 1 service-time 0 3 2 b 1 1 b 1 9 b 1 0"
    );
}

mod multipath_that_waits {
    testkit::conformance!(
        targets::Multipath,
        "0 1024 multipath 3 queue_if_no_path queue_mode bio 0 2 2 historical-service-time 0 1 0 a io-affinity 0 1 1 a 3",
        except {
            faults: "bios wait until somebody reinstates a path",
            failing: "bios wait until somebody reinstates a path",
        }
    );
}

mod unstriped {
    testkit::conformance!(
        targets::Unstriped,
        "0 68 unstriped 3 4 1 a 10",
        // The kernel reckons with less room than the stripes take.
        disks { a: 1024 },
        except {
            faults: "passes no flush on, as the kernel has it",
            crash: "passes no flush on, as the kernel has it",
            operations: "passes no flush on, as the kernel has it",
        }
    );
}

mod unstriped_in_odd_chunks {
    testkit::conformance!(
        targets::Unstriped,
        "0 30 unstriped 2 5 0 b 7\n30 33 unstriped 4 3 3 a 0",
        disks { a: 1024, b: 1024 },
        except {
            faults: "passes no flush on, as the kernel has it",
            crash: "passes no flush on, as the kernel has it",
            operations: "passes no flush on, as the kernel has it",
        }
    );
}

mod switch {
    testkit::conformance!(
        targets::Switch,
        "0 64 switch 3 8 0 a 16 b 24 c 32",
        except {
            faults: "passes no flush on, as the kernel has it",
            crash: "passes no flush on, as the kernel has it",
            operations: "passes no flush on, as the kernel has it",
            model: "a discard goes whole by one of the paths, which lead to the same place elsewhere",
        }
    );
}

mod switch_of_two_ways_to_one_place {
    testkit::conformance!(
        targets::Switch,
        "0 61 switch 2 5 0 a 10 a 10",
        except {
            faults: "passes no flush on, as the kernel has it",
            crash: "passes no flush on, as the kernel has it",
            operations: "passes no flush on, as the kernel has it",
        }
    );
}

mod delay {
    testkit::conformance!(targets::Delay, "0 64 delay a 16 5");
}

mod delay_of_all_kinds {
    testkit::conformance!(targets::Delay, "0 64 delay a 10 0 a 10 20 a 0 300");
}

mod flakey_that_is_well {
    testkit::conformance!(targets::Flakey, "0 64 flakey a 16 3600 0");
}

mod flakey_that_drops_writes {
    testkit::conformance!(
        targets::Flakey,
        "0 64 flakey a 10 0 3600 1 drop_writes",
        except { model: "loses what is written" }
    );
}

mod flakey_that_corrupts {
    testkit::conformance!(
        targets::Flakey,
        "0 64 flakey a 10 0 3600 9 corrupt_bio_byte 3 r 7 0 random_write_corrupt 500000000 random_read_corrupt 0",
        except {
            model: "changes what is written",
            flatten: "what is random need not be the same twice",
            split: "the same byte of each piece is another",
        }
    );
}

mod dust {
    // Bios are cut to blocks of 2048 bytes, which a disk of longer ones does not take, in the kernel
    // as here.
    testkit::conformance!(targets::Dust, "0 64 dust a 16 2048", block: [512]);
}

mod log_writes {
    testkit::conformance!(
        targets::LogWrites,
        "0 64 log-writes a b",
        except { garble: "takes words after the second, as the kernel does" }
    );
}

mod log_writes_that_begins_later {
    testkit::conformance!(
        targets::LogWrites,
        "0 30 through c 5\n30 34 log-writes a b",
        // The kernel reckons with the length alone, and not with where the line begins.
        disks { a: 1024 },
        except { garble: "takes words after the second, as the kernel does" }
    );
}

mod ebs {
    testkit::conformance!(targets::Ebs, "0 64 ebs a 16 1 8");
}

mod ebs_of_two_sectors {
    testkit::conformance!(
        targets::Ebs,
        "0 62 ebs b 12 2 4",
        // The line says that blocks of the device have four sectors, and its last one reaches past
        // the target's end.
        disks { b: 1024 },
        block: [512]
    );
}

mod ebs_of_large_blocks {
    testkit::conformance!(targets::Ebs, "0 64 ebs a 8 8 1");
}
