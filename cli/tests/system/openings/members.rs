//! Members of arrays of md that do not know of one another, or are not all there.

use std::path::{Path, PathBuf};

use super::MIB;
use crate::harness::{Instance, text, write_at};

/// The role of a member that is missing.
const MISSING: u16 = 0xffff;

/// Makes a member of an array of two, of level 1, with a superblock 1.2 which says which roles there are.
fn member(path: &Path, place: u16, roles: [u16; 2], events: u64) {
    std::fs::File::create(path).and_then(|file| file.set_len(16 * MIB)).expect("room for it");
    let mut sb = [0u8; 260];
    let mut put = |at: usize, bytes: &[u8]| sb[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    put(16, &[7; 16]);
    put(32, b"host:pair");
    put(72, &1_u32.to_le_bytes());
    put(80, &20_000_u64.to_le_bytes());
    put(92, &2_u32.to_le_bytes());
    put(128, &2048_u64.to_le_bytes());
    put(136, &20_000_u64.to_le_bytes());
    put(144, &8_u64.to_le_bytes());
    put(160, &u32::from(place).to_le_bytes());
    put(168, &[place as u8 + 1; 16]);
    put(200, &events.to_le_bytes());
    put(208, &u64::MAX.to_le_bytes());
    put(220, &2_u32.to_le_bytes());
    put(256, &roles[0].to_le_bytes());
    put(258, &roles[1].to_le_bytes());
    let words = sb.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four")));
    let sum: u64 = words.map(u64::from).sum();
    let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
    sb[216..220].copy_from_slice(&sum.to_le_bytes());
    write_at(path, 4096, &sb).expect("room for it");
}

fn pair(instance: &Instance) -> [PathBuf; 2] {
    ["a.img", "b.img"].map(|name| instance.path(name))
}

fn told(instance: &Instance, words: &[&str], status: i32) -> String {
    let output = instance.run(words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {told}");
    told
}

#[test]
fn halves_that_were_each_used_alone_are_not_put_together() {
    let instance = Instance::start();
    let [a, b] = pair(&instance);
    member(&a, 0, [0, MISSING], 9);
    member(&b, 1, [MISSING, 1], 9);
    let said = told(&instance, &["open", text(&a), text(&b)], 10);
    assert!(
        said.contains("was used without member") && said.contains("so that they differ"),
        "{said}"
    );
    // One that was used on has all of the truth that can be told.
    member(&b, 1, [MISSING, 1], 20);
    let said = told(&instance, &["open", text(&a), text(&b)], 0);
    assert!(said.contains("was used without the others") && said.contains("is left out"), "{said}");
    instance.dmsim(&["close", "a"]);
    // Such as know of one another are put together as ever.
    member(&a, 0, [0, 1], 9);
    member(&b, 1, [0, 1], 9);
    assert_eq!(told(&instance, &["open", text(&a), text(&b)], 0), "");
}

#[test]
fn an_array_that_lacks_a_member_is_not_written_by_an_open() {
    let instance = Instance::start();
    let [a, b] = pair(&instance);
    member(&a, 0, [0, 1], 9);
    member(&b, 1, [0, 1], 9);
    let before = std::fs::read(&a).expect("an image");
    let said = told(&instance, &["open", text(&a)], 0);
    assert!(said.contains("the others count on member 1") && said.contains("read-only"), "{said}");
    assert!(said.contains("`dmsim raid assemble"), "{said}");
    std::fs::read(instance.device("pair")).expect("a device");
    instance.dmsim(&["close", "a"]);
    assert!(std::fs::read(&a).expect("an image") == before, "a superblock was written");
    // Nor is a whole one that is opened read-only.
    let said = told(&instance, &["open", "--read-only", text(&a), text(&b)], 0);
    assert_eq!(said, "");
    instance.dmsim(&["close", "a"]);
    assert!(std::fs::read(&a).expect("an image") == before, "a superblock was written");
    let plan = instance.dmsim(&["open", "--plan", text(&a), text(&b)]);
    assert!(plan.contains("pair: 0 20000 md"), "{plan}");
}
