//! Images that are not raw are named, and the commands that are told for them work.

#![allow(clippy::unwrap_used, reason = "it is a test, its helpers too")]

#[cfg(test)]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use recognise::images;
use support::have;

/// What the raw image holds: 1 MiB of text, so that a disk of it cannot be taken for anything else.
fn raw() -> Vec<u8> {
    b"what the disk holds\n".iter().copied().cycle().take(1 << 20).collect()
}

fn shell(folder: &Path, command: &str) {
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-ec", command]).current_dir(folder).stdin(Stdio::null());
    let done = shell.output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Format, the tool that makes it, the command that does, the tool that undoes it.
#[rustfmt::skip]
const MADE: &[(&str, &str, &str, &str)] = &[
    ("qcow2", "qemu-img", "qemu-img convert -f raw -O qcow2 in a,b\\ c", "qemu-img"),
    ("qcow2", "qemu-img", "qemu-img convert -f raw -O qcow2 -o compat=0.10 in a,b\\ c", "qemu-img"),
    ("qcow", "qemu-img", "qemu-img convert -f raw -O qcow in a,b\\ c", "qemu-img"),
    ("QED", "qemu-img", "qemu-img convert -f raw -O qed in a,b\\ c", "qemu-img"),
    ("VMDK", "qemu-img", "qemu-img convert -f raw -O vmdk in a,b\\ c", "qemu-img"),
    ("VMDK", "qemu-img", "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized in a,b\\ c", "qemu-img"),
    ("VMDK descriptor", "qemu-img", "qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat in a,b\\ c", "qemu-img"),
    ("VDI", "qemu-img", "qemu-img convert -f raw -O vdi in a,b\\ c", "qemu-img"),
    ("VHD", "qemu-img", "qemu-img convert -f raw -O vpc -o force_size=on in a,b\\ c", "qemu-img"),
    ("VHD of a fixed size", "qemu-img", "qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on in a,b\\ c", "qemu-img"),
    ("VHDX", "qemu-img", "qemu-img convert -f raw -O vhdx in a,b\\ c", "qemu-img"),
    ("Parallels", "qemu-img", "qemu-img convert -f raw -O parallels in a,b\\ c", "qemu-img"),
    ("gzip", "gzip", "gzip -c in >a,b\\ c", "gzip"),
    ("xz", "xz", "xz -c in >a,b\\ c", "xz"),
    ("bzip2", "bzip2", "bzip2 -c in >a,b\\ c", "bzip2"),
    ("zstd", "zstd", "zstd -qc in >a,b\\ c", "zstd"),
    ("lz4", "lz4", "lz4 -qc in >a,b\\ c", "lz4"),
    ("zip", "zip", "zip -q - in >a,b\\ c", "unzip"),
    ("7z", "7z", "7z a -bd out.7z in >log; mv out.7z a,b\\ c", "7z"),
    ("Android sparse image", "img2simg", "img2simg in a,b\\ c", "simg2img"),
];

#[test]
fn the_command_that_is_told_makes_the_raw_image() {
    for (name, maker, command, reader) in MADE {
        if !have(maker) || !have(reader) {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("in"), raw()).unwrap();
        shell(folder.path(), command);
        let bytes = std::fs::read(folder.path().join("a,b c")).unwrap();
        let format =
            images::format(&bytes).unwrap().unwrap_or_else(|| panic!("{command}: nothing"));
        assert_eq!(format.name, *name, "{command}");
        let format = format.of_file("a,b c");
        shell(folder.path(), &format.raw.unwrap());
        let out = std::fs::read(folder.path().join("disk.raw")).unwrap();
        assert!(out == raw(), "{command}: {} bytes", out.len());
        let Some(shown) = format.shown.filter(|_| have("qemu-storage-daemon")) else { continue };
        if !Path::new("/dev/fuse").exists() {
            continue;
        }
        std::fs::write(folder.path().join("disk.raw"), "").unwrap();
        let wait =
            "for i in $(seq 100); do cmp -s disk.raw in && break; sleep 0.1; done; cmp disk.raw in";
        // Its own process is told to end, and has let go of the file then.
        let command =
            format!("{} & pid=$!; {wait}; kill $pid; wait $pid", shown.replace("&& ", "\n"));
        shell(folder.path(), &command);
    }
}

#[test]
fn what_no_tool_here_makes_is_named() {
    let with = |at: usize, bytes: &[u8]| {
        let mut image = vec![0; 4096];
        image[at..at + bytes.len()].copy_from_slice(bytes);
        images::format(&image).unwrap().map(|format| format.name)
    };
    assert_eq!(with(0, b"EVF\x09\x0d\x0a\xff\0"), Some("E01"));
    assert_eq!(with(0, b"EVF2\x0d\x0a\x81\0"), Some("Ex01"));
    assert_eq!(with(0, b"AFF10\x0d\x0a\0"), Some("AFF"));
    assert_eq!(with(3584, b"koly\0\0\0\x04\0\0\x02\0"), Some("DMG"));
    assert_eq!(with(4096 - 511, b"conectix"), Some("VHD of a fixed size"));
    let mut zip = b"PK\x03\x04".to_vec();
    zip.resize(30, 0);
    assert_eq!(with(0, &zip), Some("zip"));
    assert_eq!(with(0, &[&zip[..], b"container.description"].concat()), Some("AFF4"));
    assert_eq!(with(0, b"anything else"), None);
    assert_eq!(images::format(&Vec::new()).unwrap(), None);
}

#[test]
fn a_name_is_given_as_a_shell_takes_it() {
    let format = |name: &str| {
        images::format(&b"\x1f\x8b\x08".to_vec()).unwrap().unwrap().of_file(name).raw.unwrap()
    };
    assert_eq!(format("a.gz"), "gzip -dc a.gz >disk.raw");
    assert_eq!(format("it's"), r"gzip -dc 'it'\''s' >disk.raw");
    assert_eq!(format("-rf"), "gzip -dc ./-rf >disk.raw");
    assert_eq!(format("FILE $(x)"), "gzip -dc 'FILE $(x)' >disk.raw");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..700), cut in 0usize..700) {
        let _ = images::format(&bytes[..cut.min(bytes.len())].to_vec());
    }
}
