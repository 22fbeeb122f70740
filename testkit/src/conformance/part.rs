//! The parts: what every target must do.

/// One thing that every target must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bios from several tasks under any schedule: each ends, and reads give what was written.
    Model,
    /// Any split of any I/O gives the same bytes.
    Split,
    /// The table's text loads to itself, and the content is still there.
    Reload,
    /// A word of the table that is cut or garbled gives an error that names it.
    Garble,
    /// The flattened map does what `map` does.
    Flatten,
    /// Any I/O below may fail: nothing is lost that was acknowledged, and nothing hangs.
    Faults,
    /// A power cut at every step, another during the recovery: what is read is legal.
    Crash,
    /// A suspend drains the device, and a resume goes on, with the same table or another.
    Suspend,
    /// Discard, write-zeroes, flush and FUA mean what they say.
    Operations,
    /// Messages that the type says it takes are taken, and those of any other words answered or refused,
    /// while bios are under way.
    Messages,
    /// Bios that are given up leave nothing behind, and a removed device holds nothing open.
    Idle,
    /// Over mapped devices that have only inactive tables when the target is made.
    Early,
    /// Over mapped devices that are suspended, resumed and reloaded meanwhile.
    Moving,
    /// As `Faults`, over mapped devices; left out where that is.
    Failing,
    /// Bits are the other way round on the disks below: no panic, nothing hangs, and no wrong data
    /// from a target that has checksums.
    Corrupt,
    /// Below other targets, and over others, all of which are suspended and reloaded meanwhile.
    Stack,
    /// Bios from several threads at once under the executor of production, suspends and reloads among
    /// them: what goes wrong between two instructions.
    Threads,
    /// The fields of the on-disk format hold what nobody would write: no panic, and nothing hangs.
    Format,
    /// Bios of 4 KiB are timed beside those of a target that sends them on. No time fails.
    Speed,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 19] = [
        Part::Model,
        Part::Split,
        Part::Reload,
        Part::Garble,
        Part::Flatten,
        Part::Faults,
        Part::Crash,
        Part::Suspend,
        Part::Operations,
        Part::Messages,
        Part::Idle,
        Part::Early,
        Part::Moving,
        Part::Failing,
        Part::Corrupt,
        Part::Stack,
        Part::Threads,
        Part::Format,
        Part::Speed,
    ];

    /// Returns the name: that of the stamped test.
    pub fn name(self) -> &'static str {
        match self {
            Part::Model => "model",
            Part::Split => "split",
            Part::Reload => "reload",
            Part::Garble => "garble",
            Part::Flatten => "flatten",
            Part::Faults => "faults",
            Part::Crash => "crash",
            Part::Suspend => "suspend",
            Part::Operations => "operations",
            Part::Messages => "messages",
            Part::Idle => "idle",
            Part::Early => "early",
            Part::Moving => "moving",
            Part::Failing => "failing",
            Part::Corrupt => "corrupt",
            Part::Stack => "stack",
            Part::Threads => "threads",
            Part::Format => "format",
            Part::Speed => "speed",
        }
    }

    /// Returns how many seeds a test runs, unless it is told otherwise.
    pub(super) fn cases(self) -> u64 {
        match self {
            Part::Model | Part::Suspend | Part::Idle | Part::Moving => 100,
            Part::Stack => 50,
            Part::Split | Part::Flatten => 20,
            Part::Operations | Part::Messages => 20,
            Part::Faults | Part::Crash | Part::Early | Part::Corrupt => 20,
            Part::Failing | Part::Format => 10,
            Part::Reload | Part::Threads => 5,
            Part::Garble | Part::Speed => 1,
        }
    }
}
