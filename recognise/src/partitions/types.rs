//! What kinds of partitions there are: the numbers of the MBR, and the GUIDs of GPT.

use std::fmt;

use crate::bytes::{le16, le32};

/// A GUID as GPT stores it: the first three fields little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = &self.0;
        let (first, second, third) = (le32(bytes, 0), le16(bytes, 4), le16(bytes, 6));
        write!(f, "{first:08x}-{second:04x}-{third:04x}-")?;
        bytes[8..10].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        bytes[10..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a partition is said to hold. Printed as `lsblk -o PARTTYPE` does: `0x83`, or a GUID in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeId {
    /// A number of the MBR's.
    Mbr(u8),
    /// A GUID of GPT's.
    Gpt(Guid),
}

impl TypeId {
    /// Returns what people call it, where it is known.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            TypeId::Mbr(id) => known(MBR, id),
            TypeId::Gpt(guid) => known(GPT, &&*guid.to_string()),
        }
    }
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeId::Mbr(id) => write!(f, "{id:#x}"),
            TypeId::Gpt(guid) => guid.fmt(f),
        }
    }
}

fn known<K: Ord>(names: &[(K, &'static str)], key: &K) -> Option<&'static str> {
    let found = names.binary_search_by(|(known, _)| known.cmp(key));
    found.ok().map(|at| names[at].1)
}

/// The MBR's, in order.
const MBR: &[(u8, &str)] = &[
    (0x00, "Empty"),
    (0x01, "FAT12"),
    (0x04, "FAT16, below 32 MiB"),
    (0x05, "Extended"),
    (0x06, "FAT16"),
    (0x07, "NTFS, exFAT or HPFS"),
    (0x08, "AIX"),
    (0x09, "AIX bootable"),
    (0x0a, "OS/2 Boot Manager"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32 (LBA)"),
    (0x0e, "FAT16 (LBA)"),
    (0x0f, "Extended (LBA)"),
    (0x11, "Hidden FAT12"),
    (0x12, "Diagnostics or recovery"),
    (0x14, "Hidden FAT16, below 32 MiB"),
    (0x16, "Hidden FAT16"),
    (0x17, "Hidden NTFS, exFAT or HPFS"),
    (0x1b, "Hidden FAT32"),
    (0x1c, "Hidden FAT32 (LBA)"),
    (0x1e, "Hidden FAT16 (LBA)"),
    (0x27, "Windows recovery"),
    (0x35, "OS/2 or EVMS JFS"),
    (0x39, "Plan 9"),
    (0x41, "PowerPC PReP boot"),
    (0x42, "Windows dynamic disk"),
    (0x4d, "QNX4"),
    (0x63, "GNU Hurd or System V"),
    (0x80, "Minix, old"),
    (0x81, "Minix"),
    (0x82, "Linux swap or Solaris"),
    (0x83, "Linux"),
    (0x84, "Hibernation"),
    (0x85, "Linux extended"),
    (0x86, "NTFS volume set"),
    (0x87, "NTFS volume set"),
    (0x88, "Linux plaintext table"),
    (0x8e, "Linux LVM"),
    (0x9f, "BSD/OS"),
    (0xa0, "Hibernation"),
    (0xa5, "FreeBSD"),
    (0xa6, "OpenBSD"),
    (0xa8, "Apple UFS"),
    (0xa9, "NetBSD"),
    (0xab, "Apple boot"),
    (0xaf, "Apple HFS+"),
    (0xb7, "BSDI"),
    (0xb8, "BSDI swap"),
    (0xbe, "Solaris boot"),
    (0xbf, "Solaris"),
    (0xda, "Data without a file system"),
    (0xde, "Dell utility"),
    (0xea, "Linux extended boot"),
    (0xeb, "BeOS BFS"),
    (0xee, "GPT protective"),
    (0xef, "EFI System"),
    (0xf8, "EBBR protective"),
    (0xfb, "VMware VMFS"),
    (0xfc, "VMware swap"),
    (0xfd, "Linux RAID"),
    (0xfe, "LANstep"),
];

/// GPT's, in order: those of the UEFI and Discoverable Partitions specifications, and of the systems that
/// have some of their own.
const GPT: &[(&str, &str)] = &[
    ("024dee41-33e7-11d3-9d69-0008c781f39f", "MBR within"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux file system"),
    ("15bb03af-77e7-4d4a-b12b-c0d084f7491c", "Linux /usr (PPC64LE)"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "Linux root verity (x86-64)"),
    ("2db519c4-b10f-11dc-b99b-0019d1879648", "NetBSD concatenated"),
    ("2db519ec-b10f-11dc-b99b-0019d1879648", "NetBSD encrypted"),
    ("2e0a753d-9e48-43b0-8337-b15192cb1b5e", "ChromeOS reserved"),
    ("31741cc4-1a2a-4111-a581-e00b447d2d06", "Linux /usr verity (S390X)"),
    ("37affc90-ef7d-4e96-91c3-2d7ae055b174", "IBM GPFS"),
    ("3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "Linux /srv"),
    ("3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec", "ChromeOS root"),
    ("42465331-3ba3-10f1-802a-4861696b7521", "Haiku BFS"),
    ("426f6f74-0000-11aa-aa11-00306543ecac", "Apple boot"),
    ("44479540-f297-41b2-9af7-d131d5f0458a", "Linux root (x86)"),
    ("45b0969e-9b03-4f30-b4c6-b4b80ceff106", "Ceph journal"),
    ("48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+"),
    ("49f48d32-b10e-11dc-b99b-0019d1879648", "NetBSD swap"),
    ("49f48d5a-b10e-11dc-b99b-0019d1879648", "NetBSD FFS"),
    ("49f48d82-b10e-11dc-b99b-0019d1879648", "NetBSD LFS"),
    ("49f48daa-b10e-11dc-b99b-0019d1879648", "NetBSD RAID"),
    ("4c616265-6c00-11aa-aa11-00306543ecac", "Apple label"),
    ("4d21b016-b534-45c2-a9fb-5c16e091fd2d", "Linux /var"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)"),
    ("4fbd7e29-9d25-41b8-afd0-062c0ceff05d", "Ceph OSD"),
    ("516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD data"),
    ("516e7cb5-6ecf-11d6-8ff8-00022d09712b", "FreeBSD swap"),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS"),
    ("516e7cb8-6ecf-11d6-8ff8-00022d09712b", "FreeBSD Vinum"),
    ("516e7cba-6ecf-11d6-8ff8-00022d09712b", "FreeBSD ZFS"),
    ("52414944-0000-11aa-aa11-00306543ecac", "Apple RAID"),
    ("52414944-5f4f-11aa-aa11-00306543ecac", "Apple RAID offline"),
    ("53746f72-6167-11aa-aa11-00306543ecac", "Apple Core Storage"),
    ("55465300-0000-11aa-aa11-00306543ecac", "Apple UFS"),
    ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "Microsoft LDM metadata"),
    ("5eead9a9-fe09-4a1e-a1d7-520d00531306", "Linux root (S390X)"),
    ("69dad710-2ce4-4e3c-b16c-21a1d49abed3", "Linux root (ARM)"),
    ("6a82cb45-1dd2-11b2-99a6-080020736631", "Solaris boot"),
    ("6a85cf4d-1dd2-11b2-99a6-080020736631", "Solaris root"),
    ("6a87c46f-1dd2-11b2-99a6-080020736631", "Solaris swap"),
    ("6a898cc3-1dd2-11b2-99a6-080020736631", "Solaris /usr or ZFS"),
    ("6a8ef2e9-1dd2-11b2-99a6-080020736631", "Solaris /var"),
    ("6a90ba39-1dd2-11b2-99a6-080020736631", "Solaris /home"),
    ("6e11a4e7-fbca-4ded-b9e9-e1a512bb664e", "Linux /usr verity (ARM-64)"),
    ("72ec70a6-cf74-40e6-bd49-4bda08e8f224", "Linux root (RISC-V-64)"),
    ("7386cdf2-203c-47a9-a498-f2ecce45a2d6", "Linux root verity (ARM)"),
    ("7412f7d5-a156-4b13-81dc-867174929325", "ONIE boot"),
    ("75250d76-8cc6-458e-bd66-bd47cc81a812", "Linux /usr (x86)"),
    ("75894c1e-3aeb-11d3-b7c1-7b03a0000000", "HP-UX data"),
    ("77055800-792c-4f94-b39a-98c91b762bb6", "Linux root (LoongArch-64)"),
    ("773f91ef-66d4-49b5-bd83-d683bf40ad16", "Linux home of a user"),
    ("77ff5f63-e7b6-4633-acf4-1565b864c0e6", "Linux /usr verity (x86-64)"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS"),
    ("7d0359a3-02b3-4f0a-865c-654403e70625", "Linux /usr (ARM)"),
    ("7ec6f557-3bc5-4aca-b293-16ef5df639d1", "Linux /var/tmp"),
    ("7ffec5c9-2d00-49b7-8941-3ea10a5586b7", "Linux dm-crypt"),
    ("824cc7a0-36a8-11e3-890a-952519ad3f61", "OpenBSD data"),
    ("83bd6b9d-7f41-11dc-be0b-001560b84f0f", "FreeBSD boot"),
    ("8484680c-9521-48c6-9c11-b0720656f69e", "Linux /usr (x86-64)"),
    ("8a4f5770-50aa-4ed3-874a-99b710db6fea", "Linux /usr (S390X)"),
    ("8da63339-0007-60c0-c436-083ac8230908", "Linux reserved"),
    ("8f1056be-9b05-47c4-81d6-be53128e5b54", "Linux /usr verity (RISC-V-64)"),
    ("8f461b0d-14ee-4e81-9aa9-049b6fb97abd", "Linux /usr verity (x86)"),
    ("906bd944-4589-4aae-a4e4-dd983917446a", "Linux root verity (PPC64LE)"),
    ("9198effc-31c0-11db-8f78-000c2911d1b8", "VMware reserved"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux /home"),
    ("9d275380-40ad-11db-bf97-000c2911d1b8", "VMware diagnostic"),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PowerPC PReP boot"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("aa31e02a-400f-11db-9590-000c2911d1b8", "VMware VMFS"),
    ("af9b60a0-1431-4f62-bc68-3311714a69ad", "Microsoft LDM data"),
    ("b0e01050-ee5f-4390-949a-9101b17104e9", "Linux /usr (ARM-64)"),
    ("b325bfbe-c7be-4ab8-8357-139e652d2f6b", "Linux root verity (S390X)"),
    ("b6ed5582-440b-4209-b8da-5ff7c419ea3d", "Linux root verity (RISC-V-64)"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (ARM-64)"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot"),
    ("beaec34b-8442-439b-a40b-984381ed097d", "Linux /usr (RISC-V-64)"),
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI System"),
    ("c215d751-7bcd-4649-be90-6627490a4c05", "Linux /usr verity (ARM)"),
    ("c31c45e6-3f39-412e-80fb-4809c4980599", "Linux root (PPC64LE)"),
    ("c91818f9-8025-47af-89d2-f030d7000c2c", "Plan 9"),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "Linux LUKS"),
    ("cef5a9ad-73bc-4601-89f3-cdeeeee321a1", "QNX6"),
    ("d13c5d3b-b5d1-422a-b29f-9454fdc89d76", "Linux root verity (x86)"),
    ("d4e6e2cd-4469-46f3-b5cb-1bff57afc149", "ONIE config"),
    ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery"),
    ("df3300ce-d69f-4c92-978c-9bfb0f38d820", "Linux root verity (ARM-64)"),
    ("e2a1e728-32e3-11d6-a682-7b03a0000000", "HP-UX service"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
    ("e611c702-575c-4cbe-9a46-434fa0bf7e3f", "Linux /usr (LoongArch-64)"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "Microsoft Storage Spaces"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("ee2b9983-21e8-4153-86d9-b6901a54d1ce", "Linux /usr verity (PPC64LE)"),
    ("f3393b22-e9af-4613-a948-9d3bfbd0c535", "Linux root verity (LoongArch-64)"),
    ("f46b2c26-59ae-48f0-9106-c50ed47f673d", "Linux /usr verity (LoongArch-64)"),
    ("fe3a2a5d-4f32-41a7-b725-accc3285a309", "ChromeOS kernel"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order() {
        assert!(MBR.is_sorted_by(|(one, _), (other, _)| one < other));
        assert!(GPT.is_sorted_by(|(one, _), (other, _)| one < other));
    }
}
