//! What a command line is carried out against.

use std::io::{BufRead, Write};

use sim_core::DevNumber;
use sim_core::control::{Answer, Command, Failure};

/// What the verbs need of the outside.
pub trait Dm {
    /// Carries out one operation of the control plane.
    fn call(&mut self, command: Command) -> Result<Answer, Failure>;

    /// Returns the kernel's name of a device that is not mapped: `loop0`, `sda`. `None` where
    /// there is no such device.
    fn device_name(&mut self, dev: DevNumber) -> Option<String>;

    /// Returns the directory that the command was typed in: where relative paths start.
    fn base(&self) -> String;

    /// Says what lies behind a kernel's name (`sda`, `dm-0`), as a person knows it: an image's path, a
    /// mapped device's name.
    fn behind(&mut self, _kernel_name: &str) -> Option<String> {
        None
    }

    /// Names who has a mapped device open, given the kernel's (mangled) name.
    fn holders(&mut self, _name: &str) -> Vec<String> {
        Vec::new()
    }

    /// Says how a mapped device that is mounted is unmounted, to go behind what that is in the way of.
    fn way_to_unmount(&mut self, _name: &str) -> String {
        String::new()
    }

    /// Begins a batch of changes, which are made durable together, when it is committed.
    fn begin_batch(&mut self) {}

    /// Ends a batch of changes.
    fn commit_batch(&mut self) {}

    /// Returns how many columns the terminal has that standard output is; nothing where it is none.
    fn columns(&self) -> Option<u16> {
        None
    }

    /// Tells whether the machine has a udev that programs would wait for.
    fn udev_is_running(&self) -> bool {
        false
    }

    /// Returns the path of the file that shows a mapped device, given the kernel's (mangled)
    /// name: what `--exec` hands to its program. `None` for `/dev/mapper/` and the name.
    fn node(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Which program was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// `dmstats`: its `stats`, by itself.
    Dmstats,
    /// `dmsetup`: that program, and nothing else.
    Dmsetup,
    /// `dmsim`: the same verbs, with `--json`, `--device-names`, `--quiet` and errors that show the place.
    Dmsim,
}

/// Where a command reads and writes.
pub struct Streams<'a> {
    /// Tables, where none is given on the command line.
    pub stdin: &'a mut dyn BufRead,
    /// What was asked for.
    pub stdout: &'a mut dyn Write,
    /// What went wrong.
    pub stderr: &'a mut dyn Write,
}
