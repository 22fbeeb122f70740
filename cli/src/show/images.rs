//! The attached images, as text and as JSON.

use std::fmt::Write;

use backing::Attached;
use daemon::{Description, Failing};
use ops::size::print_size;
use sim_core::SECTOR_SIZE;

/// Says for whom an image is made to fail, and how.
fn failing(devices: &[Description], image: &Attached) -> Vec<String> {
    let for_one = |device: &Description| {
        let how = Failing::text(&device.failing, image.number)?;
        Some(format!("{how}, for {}", device.name))
    };
    devices.iter().filter_map(for_one).collect()
}

/// Lists the images.
pub(crate) fn images(images: &[Attached], devices: &[Description]) -> String {
    let name = |image: &Attached| image.name.clone().unwrap_or(image.kernel_name.clone());
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
        failing(devices, image).iter().for_each(|how| fault += &format!("  {how}"));
        let (name, dev) = (name(image), image.number.to_string());
        let (size, users) = (print_size(image.size.0 * SECTOR_SIZE), image.users);
        let (file, used) = (image.path.display(), image.allocated.map(print_size));
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

fn image_json(image: &Attached, failing: &[String]) -> serde_json::Value {
    serde_json::json!({
        "name": image.name,
        "kernel_name": image.kernel_name,
        "major": image.number.major,
        "minor": image.number.minor,
        "file": image.path,
        "size": image.size.0,
        "read_only": image.access.is_read_only(),
        "sector_size": image.sector_size,
        "host_device": image.host_device,
        "open_count": image.users,
        "allocated_bytes": image.allocated,
        "fault": image.fault,
        "last_error": image.last_error,
        "failing": failing,
    })
}
