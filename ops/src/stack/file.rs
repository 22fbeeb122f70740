//! A stack as a TOML file.

use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use daemon::mangle;
use serde::Deserialize;
use sim_core::Access;
use toml::Spanned;
use zeroize::Zeroizing;

use super::names::{as_typed, below};
use super::{Device, Image, Stack, Table, at};
use crate::size::parse_size;

/// The longest file that is read, in bytes.
pub const MAX_STACK_FILE: u64 = 128 << 20;

/// What the file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    plugins: Vec<PathBuf>,
    #[serde(default, rename = "image")]
    images: Vec<Spanned<ImageText>>,
    #[serde(default, rename = "device")]
    devices: Vec<Spanned<DeviceText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageText {
    file: Spanned<PathBuf>,
    name: Option<Spanned<String>>,
    create: Option<Spanned<String>>,
    #[serde(default)]
    read_only: bool,
    sector_size: Option<Spanned<u32>>,
    #[serde(default)]
    host_device: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceText {
    name: Spanned<String>,
    uuid: Option<String>,
    minor: Option<u32>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    suspended: bool,
    table: Option<Spanned<Zeroizing<String>>>,
    inactive: Option<Spanned<Zeroizing<String>>>,
    inactive_read_only: Option<bool>,
}

/// Reads a stack whose paths start from a folder.
///
/// # Errors
/// Says what is wrong, and in which line.
pub fn parse(text: &str, folder: &Path) -> Result<Stack, String> {
    let lines = Lines(text);
    let read: Text = toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => at(lines.of(span.start), error.message()),
        None => error.message().to_owned(),
    })?;
    let images = read.images.iter().map(|image| lines.image(image));
    let images = images.collect::<Result<_, _>>()?;
    let devices = read.devices.iter().map(|device| lines.device(device));
    let devices = devices.collect::<Result<_, _>>()?;
    Stack::new(folder, read.plugins, images, devices)
}

/// The lines of a file.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn of(&self, offset: usize) -> usize {
        self.0.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    fn image(&self, image: &Spanned<ImageText>) -> Result<Image, String> {
        let (line, image) = (self.of(image.span().start), image.get_ref());
        let refuse = |span: Range<usize>, why: &str| Err(at(self.of(span.start), why));
        if image.file.get_ref().as_os_str().is_empty() {
            return refuse(image.file.span(), "file: expected a path, found none");
        }
        let create = match &image.create {
            Some(size) => match parse_size(size.get_ref()) {
                Ok(bytes) => Some(bytes),
                Err(why) => return refuse(size.span(), &format!("create: {why}")),
            },
            None => None,
        };
        if let Some(name) = image.name.as_ref().filter(|name| name.get_ref().is_empty()) {
            return refuse(name.span(), "name: expected a name, found none");
        }
        let sector_size = match &image.sector_size {
            None => 512,
            Some(size) if [512, 4096].contains(size.get_ref()) => *size.get_ref(),
            Some(size) => {
                let why = format!("sector_size: expected 512 or 4096, found {}", size.get_ref());
                return refuse(size.span(), &why);
            }
        };
        if let (true, Some(size)) = (image.host_device || image.read_only, &image.create) {
            let why = "create: expected neither `read_only` nor `host_device` with it";
            return refuse(size.span(), why);
        }
        Ok(Image {
            line,
            file: image.file.get_ref().clone(),
            name: image.name.as_ref().map(|name| name.get_ref().clone()),
            create,
            access: access(image.read_only),
            sector_size,
            host_device: image.host_device,
        })
    }

    fn device(&self, device: &Spanned<DeviceText>) -> Result<Device, String> {
        let (line, device) = (self.of(device.span().start), device.get_ref());
        let name_line = self.of(device.name.span().start);
        let made = Device::new(name_line, device.name.get_ref(), device.uuid.as_deref())?;
        let table = |text: &Option<Spanned<Zeroizing<String>>>, access| {
            let Some(text) = text else { return Ok(None) };
            let first = self.first_line(text.span());
            let table = Table::read(text.get_ref(), access, |number| match first {
                First::Of(line) => line + number - 1,
                First::All(line) => line,
            });
            table.map(Some)
        };
        let live = table(&device.table, access(device.read_only))?;
        let read_only = device.inactive_read_only.unwrap_or(device.read_only);
        let inactive = table(&device.inactive, access(read_only))?;
        if live.is_none() && device.suspended {
            return Err(at(
                line,
                "suspended: expected a table, as without one there is nothing to suspend",
            ));
        }
        Ok(Device {
            line,
            minor: device.minor,
            suspended: device.suspended,
            live,
            inactive,
            ..made
        })
    }

    /// Tells where the lines of a text lie.
    fn first_line(&self, span: Range<usize>) -> First {
        let line = self.of(span.start);
        let raw = self.0.get(span).unwrap_or_default();
        // A line break right after the quotes is none of the text.
        match raw.strip_prefix("'''").or(raw.strip_prefix("\"\"\"")) {
            Some(rest) if rest.starts_with('\n') || rest.starts_with("\r\n") => First::Of(line + 1),
            Some(_) => First::Of(line),
            None => First::All(line),
        }
    }
}

/// Where the lines of a text lie in a file.
enum First {
    /// The first in this one, and so on.
    Of(usize),
    /// All in this one.
    All(usize),
}

fn access(read_only: bool) -> Access {
    if read_only { Access::ReadOnly } else { Access::ReadWrite }
}

/// Writes a stack as a file, its paths as they start from the stack's folder. Keys are written as the lines have them.
pub fn text(stack: &Stack) -> Zeroizing<String> {
    // What grows leaves copies behind, and there may be keys.
    let lines = stack.devices.iter().flat_map(Device::tables).flat_map(|table| &table.lines);
    let room: usize = lines.map(|(_, line)| line.params.len() + 128).sum();
    let mut out = Zeroizing::new(String::with_capacity(2 * room + 4096));
    put(
        &mut out,
        format_args!("# `dmsim stack load` makes this; `dmsim stack diff` says what differs.\n"),
    );
    if !stack.plugins.is_empty() {
        let plugins = stack.plugins.iter().map(|path| quoted(&below(path, &stack.folder)));
        let plugins = plugins.collect::<Vec<_>>().join(", ");
        put(&mut out, format_args!("plugins = [{plugins}]\n"));
    }
    for image in &stack.images {
        let file = quoted(&below(&image.file, &stack.folder));
        put(&mut out, format_args!("\n[[image]]\nfile = {file}\n"));
        if let Some(name) = &image.name {
            put(&mut out, format_args!("name = {}\n", quoted_text(name)));
        }
        if let Some(bytes) = image.create {
            put(&mut out, format_args!("create = \"{bytes}\"\n"));
        }
        put_if(&mut out, image.access.is_read_only(), "read_only = true\n");
        if image.sector_size != 512 {
            put(&mut out, format_args!("sector_size = {}\n", image.sector_size));
        }
        put_if(&mut out, image.host_device, "host_device = true\n");
    }
    for device in &stack.devices {
        put(
            &mut out,
            format_args!("\n[[device]]\nname = {}\n", quoted_text(&as_typed(&device.name))),
        );
        if let Some(uuid) = &device.uuid {
            put(&mut out, format_args!("uuid = {}\n", quoted_text(&mangle::decode(uuid))));
        }
        if let Some(minor) = device.minor {
            put(&mut out, format_args!("minor = {minor}\n"));
        }
        let reads_only =
            |table: &Option<Table>| table.as_ref().is_some_and(|table| table.access.is_read_only());
        let read_only = reads_only(&device.live);
        put_if(&mut out, read_only, "read_only = true\n");
        put_if(&mut out, device.suspended, "suspended = true\n");
        if let Some(table) = &device.live {
            put_table(&mut out, "table", table);
        }
        if let Some(table) = &device.inactive {
            put_table(&mut out, "inactive", table);
            if table.access.is_read_only() != read_only {
                let read_only = table.access.is_read_only();
                put(&mut out, format_args!("inactive_read_only = {read_only}\n"));
            }
        }
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all");
}

fn put_if(out: &mut String, is_so: bool, text: &str) {
    if is_so {
        out.push_str(text);
    }
}

fn put_table(out: &mut String, key: &str, table: &Table) {
    let lines = || table.lines.iter().map(|(_, line)| Zeroizing::new(line.to_string()));
    let is_plain = |line: &str| !line.contains("'''") && !line.chars().any(char::is_control);
    if lines().all(|line| is_plain(&line)) {
        put(out, format_args!("{key} = '''\n"));
        lines().for_each(|line| put(out, format_args!("{}\n", line.trim_end())));
        put(out, format_args!("'''\n"));
        return;
    }
    put(out, format_args!("{key} = \"\"\"\n"));
    lines().for_each(|line| {
        let quoted = Zeroizing::new(quoted_text(&line));
        put(out, format_args!("{}\n", &quoted[1..quoted.len() - 1]));
    });
    put(out, format_args!("\"\"\"\n"));
}

fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

/// Writes a text as TOML does.
fn quoted_text(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                out.push('\\');
                out.push(char);
            }
            char if char.is_control() => put(&mut out, format_args!("\\u{:04X}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}
