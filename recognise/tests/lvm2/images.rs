//! Images with labels and metadata areas, made by hand.

/// The metadata of a group as LVM2 2.03.16 wrote them on a real machine.
pub(crate) const GROUP: &[u8] = include_bytes!("../data/lvm2/group.txt");

/// The size of a metadata area in bytes.
pub(crate) const AREA: usize = 4 << 20;

/// Returns the id of one of the group's physical volumes, without hyphens.
pub(crate) fn physical(nr: usize) -> String {
    let text = String::from_utf8_lossy(GROUP);
    let at = text.find(&format!("pv{nr} {{")).expect("is there");
    let id = text[at..].split('"').nth(1).expect("an id");
    id.replace('-', "")
}

/// Makes an image with the label of one of the group's physical volumes, and with metadata areas: the text
/// of each, and where in the area it begins.
pub(crate) fn labelled(nr: usize, areas: &[(&[u8], usize)]) -> Vec<u8> {
    let mut image = vec![0; 4096 + areas.len().max(1) * AREA];
    let mut label = vec![0u8; 512];
    label[..8].copy_from_slice(b"LABELONE");
    label[8] = 1;
    label[20] = 32;
    label[24..32].copy_from_slice(b"LVM2 001");
    label[32..64].copy_from_slice(physical(nr).as_bytes());
    label[64..72].copy_from_slice(&(96u64 << 20).to_le_bytes());
    // One data area, then those of metadata; each list ends with zeros.
    let mut at = 72;
    let mut pair = |offset: u64, size: u64| {
        label[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        label[at + 8..at + 16].copy_from_slice(&size.to_le_bytes());
        at += 16;
    };
    pair(1 << 20, 0);
    pair(0, 0);
    for nr in 0..areas.len() {
        pair((4096 + nr * AREA) as u64, AREA as u64);
    }
    pair(0, 0);
    let sum = checksum(&label[20..]);
    label[16..20].copy_from_slice(&sum.to_le_bytes());
    image[512..1024].copy_from_slice(&label);
    for (nr, (text, at)) in areas.iter().enumerate() {
        let start = 4096 + nr * AREA;
        area(&mut image[start..start + AREA], start as u64, text, *at);
    }
    image
}

fn area(area: &mut [u8], start: u64, text: &[u8], at: usize) {
    let text = [text, b"\0"].concat();
    let size = area.len();
    let first = text.len().min(size - at);
    area[at..at + first].copy_from_slice(&text[..first]);
    area[512..512 + text.len() - first].copy_from_slice(&text[first..]);
    area[4..20].copy_from_slice(b" LVM2 x[5A%r0N*>");
    area[20] = 1;
    area[24..32].copy_from_slice(&start.to_le_bytes());
    area[32..40].copy_from_slice(&(size as u64).to_le_bytes());
    area[40..48].copy_from_slice(&(at as u64).to_le_bytes());
    area[48..56].copy_from_slice(&(text.len() as u64).to_le_bytes());
    area[56..60].copy_from_slice(&checksum(&text).to_le_bytes());
    let sum = checksum(&area[4..512]);
    area[..4].copy_from_slice(&sum.to_le_bytes());
}

/// LVM2's checksum, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}
