//! `crypt` where the conformance suite does not look: large bios, the caller's buffer, and what
//! lies on the disk below.

use crypto::{IvUnit, SectorCipher, Spec};
use sim_core::control::{Command, Slot};
use sim_core::{Bio, BlkError, BlockDevice, Held, Sector, Sectors, StatusKind};
use testkit::{Fault, World, id, send};

const KEY: &str = "00112233445566778899aabbccddeeffffeeddccbbaa99887766554433221100";
const OFFSET: u64 = 16;
const IV_OFFSET: u64 = 8;

fn world(seed: u64, sectors: u64, options: &str) -> World {
    let world = World::new(seed, targets::registry());
    world.add_disk(Sectors(sectors + OFFSET));
    let params = format!("aes-xts-plain64 {KEY} {IV_OFFSET} a {OFFSET}{options}");
    world.set_up(0, &format!("0 {sectors} crypt {params}"));
    world
}

/// Bytes that differ from sector to sector.
fn content(sectors: u64) -> Vec<u8> {
    (0..sectors * 64).flat_map(|word| (word ^ 0x5a5a << 32).to_le_bytes()).collect()
}

/// What has to lie below: each unit encrypted by itself.
fn encrypted(plain: &[u8], first: u64, unit: u32, iv: IvUnit) -> Vec<u8> {
    let spec = Spec::parse("aes-xts-plain64").expect("a cipher of the kernel's");
    let key: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&KEY[2 * at..2 * at + 2], 16).expect("hex")).collect();
    let cipher = SectorCipher::new(&spec, &key, unit, iv).expect("a key of its length");
    let mut below = plain.to_vec();
    let sectors_of_unit = u64::from(unit) / 512;
    for (at, unit) in (0..).zip(below.chunks_exact_mut(unit as usize)) {
        cipher.encrypt(IV_OFFSET + first + at * sectors_of_unit, unit);
    }
    below
}

#[test]
fn large_bios_are_encrypted_unit_by_unit_whatever_they_are_cut_into() {
    // 256 KiB is the first that is shared between processors, 1 MiB the last in one piece.
    for sectors in [504, 512, 520, 2040, 2048, 2056, 7000] {
        for (options, unit, iv) in [
            ("", 512, IvUnit::Sector512),
            (" 1 sector_size:4096", 4096, IvUnit::Sector512),
            (" 2 sector_size:4096 iv_large_sectors", 4096, IvUnit::Large),
        ] {
            let world = world(sectors, 8 + sectors, options);
            let (device, disk) = (world.device(0), world.disk(0));
            let plain = content(sectors);
            let given = plain.clone();
            let write = Bio::write(Sector(8), &given);
            assert_eq!(world.sim.block_on(send(device.clone(), write)), Ok(()));
            assert_eq!(disk.counts().writes, sectors.div_ceil(2048), "{sectors} sectors,{options}");
            assert_eq!(given, plain, "the caller's buffer is not touched");
            let below = &disk.content()[(OFFSET as usize + 8) * 512..];
            assert!(*below == encrypted(&plain, 8, unit, iv), "{sectors} sectors,{options}");
            let mut read = vec![0; plain.len()];
            let bio = Bio::read(Sector(8), &mut read);
            assert_eq!(world.sim.block_on(send(device, bio)), Ok(()));
            assert!(read == plain, "{sectors} sectors,{options}");
        }
    }
}

#[test]
fn a_large_write_fails_with_the_piece_that_fails() {
    let world = world(1, 8000, "");
    world.disk(0).inject(Fault::Range(Sector(OFFSET + 5000), Sectors(1)));
    let data = content(8000);
    let write = Bio::write(Sector(0), &data);
    assert_eq!(world.sim.block_on(send(world.device(0), write)), Err(BlkError::Io));
}

#[test]
fn what_is_no_whole_unit_is_refused() {
    let world = world(1, 64, " 1 sector_size:4096");
    let device = world.device(0);
    assert_eq!(device.limits().logical_block_size, 4096);
    for (sector, len) in [(0, 1), (1, 8), (8, 12)] {
        let data = vec![1; len as usize * 512];
        let write = Bio::write(Sector(sector), &data);
        let result = world.sim.block_on(send(device.clone(), write));
        assert_eq!(result, Err(BlkError::Io), "{sector}+{len}");
    }
    assert!(world.disk(0).content().iter().all(|byte| *byte == 0), "nothing was written");
}

#[test]
fn a_torn_sector_is_junk_and_its_neighbours_are_not() {
    let world = world(3, 64, "");
    let (device, disk) = (world.device(0), world.disk(0));
    let plain = content(64);
    assert_eq!(world.sim.block_on(send(device.clone(), Bio::write(Sector(0), &plain))), Ok(()));
    let torn = OFFSET + 20;
    let mut sector = disk.sector(Sector(torn));
    sector[..100].fill(0xff);
    disk.fill(Sector(torn), &sector);
    let mut read = vec![0; plain.len()];
    assert_eq!(world.sim.block_on(send(device, Bio::read(Sector(0), &mut read))), Ok(()));
    let differs = |at: &usize| read[at * 512..][..512] != plain[at * 512..][..512];
    assert_eq!((0..64).filter(differs).collect::<Vec<_>>(), [20]);
}

#[test]
fn no_key_shows_in_errors_or_in_debug_output() {
    let world = World::new(1, targets::registry());
    world.add_disk(Sectors(64));
    let bad = [
        format!("0 64 crypt aes-xts-plain64 {KEY}zz 0 a 0"),
        format!("0 64 crypt aes-xts-plain64 {KEY}{KEY}{KEY} 0 a 0"),
        format!("0 64 crypt aes-xts-plain64 {KEY} x a 0"),
        format!("0 64 crypt nosuch {KEY} 0 a 0"),
    ];
    for (minor, line) in (0..).zip(&bad) {
        let error = world.try_set_up(minor, line).map(|_| ()).unwrap_err();
        assert!(!error.contains(&KEY[..16]), "{error}");
    }
    let parsed = sim_core::parse_table(&bad[2]).expect("lines");
    let shown = format!("{parsed:?}");
    assert!(shown.contains("crypt") && !shown.contains(&KEY[..16]), "{shown}");
}

#[test]
fn a_key_in_the_key_ring_is_taken_at_load_and_by_a_message_and_shown_by_its_name() {
    let world = World::new(1, targets::registry());
    world.add_disk(Sectors(64));
    let bytes: Vec<u8> = (0..32).collect();
    let by_name = "aes-xts-plain64 :32:user:a:b 0 a 0";
    let missing = world.try_set_up(0, &format!("0 64 crypt {by_name}")).map(|_| ()).unwrap_err();
    assert!(missing.contains("Error decoding and setting key"), "{missing}");
    world.handle().add_key("user", "a:b", &bytes);
    world.handle().add_key("user", "short", &bytes[..31]);
    world.handle().add_key("logon", "a:b", &bytes);
    for (minor, word) in [(1, ":32:user:short"), (2, ":31:user:short"), (3, ":32:logon:a:b")] {
        let line = format!("0 64 crypt aes-xts-plain64 {word} 0 a 0");
        assert!(world.try_set_up(minor, &line).is_err(), "{word}");
    }

    let device = world.set_up(4, &format!("0 64 crypt {by_name}"));
    let plain = content(64);
    let write = |device| world.sim.block_on(send(device, Bio::write(Sector(0), &plain)));
    assert_eq!(write(device.clone()), Ok(()));
    let encrypted = world.disk(0).content();
    let text =
        device.live().expect("a table").status(StatusKind::Table, Default::default()).unwrap().0;
    assert_eq!(&*text[0].params, "aes-xts-plain64 :32:user:a:b 0 7:0 0");

    let message = |text: &str| {
        let (sector, message) = (Sector(0), text.into());
        world
            .execute(Command::TargetMsg { id: id(4), sector, message, slot: Slot::Live })
            .map(|_| ())
    };
    world.suspend(4, Held::Flush).expect("it suspends");
    for other in ["key", "key wip", "kee wipe", "wipe key", "key wipe it", "key set", "set key x"] {
        assert!(message(other).is_err(), "{other}");
    }
    world.resume(4).expect("it has its key");
    assert_eq!(write(device.clone()), Ok(()));
    assert!(world.disk(0).content() == encrypted, "it is the key of before");
    world.suspend(4, Held::Flush).expect("it suspends");
    message("key wipe").expect("wiped");
    assert!(world.resume(4).is_err(), "resumed without a key");
    assert!(message("key set :31:user:short").is_err(), "a key of another size was taken");
    message("key set :32:user:a:b").expect("set");
    world.resume(4).expect("it resumes");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let other = world.set_up(5, &format!("0 64 crypt aes-xts-plain64 {hex} 0 a 0"));
    world.disk(0).fill(Sector(0), &vec![0; 64 * 512]);
    assert_eq!(write(other), Ok(()));
    assert!(world.disk(0).content() == encrypted, "one key, two ciphertexts");
}
