//! The attached images, as text and as JSON.

use std::fmt::Write;

use backing::Attached;
use daemon::{Description, Failing, mangle};
use ops::size::print_size;
use recognise::shown_line;
use serde_json::json;
use sim_core::{Fails, SECTOR_SIZE};

/// Lists for which devices an image is made to fail, and how.
fn failing(devices: &[Description], image: &Attached) -> Vec<(String, Fails)> {
    let for_one = |device: &Description| {
        let fails = Failing::of(&device.failing, image.number)?;
        Some((mangle::decode(&device.name), fails))
    };
    devices.iter().filter_map(for_one).collect()
}

fn name(image: &Attached) -> String {
    image.name.clone().unwrap_or(image.kernel_name.clone())
}

/// Lists the images.
pub(crate) fn images(images: &[Attached], devices: &[Description]) -> String {
    let width = images.iter().map(|image| name(image).len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$}  {:8}  {:>12}  {:>12}  Acc  Open  File\n",
        "Name", "Dev", "Size", "Used"
    );
    for image in images {
        let access = if image.access.is_read_only() { "ro" } else { "rw" };
        let mut fault =
            image.fault.as_ref().map(|why| format!("  fails: {why}")).unwrap_or_default();
        if let Some(error) = &image.last_error {
            fault += &format!("  last error: {error}");
        }
        if let Some(lost) = image.lost {
            fault += &format!("  {}", lost.text());
        }
        for (device, fails) in failing(devices, image) {
            fault += &format!("  {}, for {device}", Failing::text(fails));
        }
        let (name, dev) = (name(image), image.number.to_string());
        let (size, users) = (print_size(image.size.0 * SECTOR_SIZE), image.users);
        let file = image.path.display().to_string();
        let (file, used) = (shown_line(&file), image.allocated.map(print_size));
        let used = used.unwrap_or_else(|| "-".to_owned());
        writeln!(
            text,
            "{name:width$}  {dev:8}  {size:>12}  {used:>12}  {access:3}  {users:4}  {file}{fault}"
        )
        .expect("a string takes what is written");
    }
    text
}

/// The same as JSON.
pub(crate) fn images_json(images: &[Attached], devices: &[Description]) -> Vec<serde_json::Value> {
    images.iter().map(|image| image_json(image, &failing(devices, image))).collect()
}

fn image_json(image: &Attached, failing: &[(String, Fails)]) -> serde_json::Value {
    let fails = |(name, fails): &(String, Fails)| json!({ "name": name, "fails": fails });
    json!({
        "name": name(image),
        "kernel_name": image.kernel_name,
        "major": image.number.major,
        "minor": image.number.minor,
        "file": image.path,
        "size_bytes": image.size.bytes(),
        "read_only": image.access.is_read_only(),
        "sector_size_bytes": image.sector_size,
        "host_device": image.host_device,
        "open_count": image.users,
        "allocated_bytes": image.allocated,
        "fault": image.fault,
        "last_error": image.last_error,
        "file_lost": image.lost,
        "failing": failing.iter().map(fails).collect::<Vec<_>>(),
    })
}
