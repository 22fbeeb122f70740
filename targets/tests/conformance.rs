//! Every target under the conformance suite.
//!
//! `DMSIM_SEARCH_SECONDS=600 cargo test -p dmsim-targets --test conformance` searches for ten
//! minutes in each part.

mod linear {
    testkit::conformance!(targets::Linear, "0 64 linear a 10");
}

mod linear_twice {
    testkit::conformance!(targets::Linear, "0 30 linear b 100\n30 34 linear a 7");
}

mod striped {
    testkit::conformance!(targets::Striped, "0 64 striped 2 4 a 100 b 200");
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
        "0 64 crypt aes-xts-plain64 00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100 5 a 10"
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
