//! Reads a transcript.

/// One step of a transcript.
pub(crate) enum Step {
    /// An image is attached.
    Image(Image),
    /// A command, and what came back. A device made by a `probe` is shown and removed at once,
    /// should its table be accepted.
    Run { line: String, outcome: Outcome, probe: bool },
}

/// An image with the loop device that shows it.
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) minor: u32,
    pub(crate) sectors: u64,
    /// The first sector of the pattern that it holds; zeros without.
    pub(crate) fill: Option<u64>,
    /// Bytes of a logical block.
    pub(crate) block: u32,
    /// Writes fail.
    pub(crate) read_only: bool,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: i32,
    /// The lines of the kernel log that are device-mapper's.
    pub(crate) kernel: Vec<String>,
    /// The exit status of a command that went on in the background, where it has ended.
    pub(crate) ended: Option<i32>,
}

/// What stands for `{usage}` in a transcript, where the whole was recorded once.
const USAGE: &str = include_str!("../../src/dmsetup/usage.txt");

/// What follows a command that others did not wait for.
pub(crate) const BACKGROUND: &str = " (in the background)";

/// Reads the steps of a transcript.
pub(crate) fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut images = Vec::new();
    let mut background = false;
    for line in text.lines() {
        if let Some(Step::Run { line: command, .. }) = steps.last_mut()
            && words(command).is_none()
        {
            // A quoted word of several lines.
            command.push('\n');
            command.push_str(line);
        } else if let Some(image) = line.strip_prefix("@ image ") {
            images.push(image.split(' ').map(str::to_owned).collect::<Vec<_>>());
        } else if let Some(attached) = line.strip_prefix("@ ") {
            let (name, rest) = attached.split_once(" is /dev/loop").expect("an attached image");
            let minor = rest.split(' ').next().unwrap().parse().unwrap();
            let image = images.iter().find(|image| image[0] == name).expect("a known image");
            let (sectors, fill) = (image[1].parse().unwrap(), image[2].parse().ok());
            let block = image.iter().position(|word| word == "-b").map(|at| &image[at + 1]);
            let block = block.map_or(512, |block| block.parse().unwrap());
            let (name, read_only) = (name.to_owned(), image.iter().any(|word| word == "-r"));
            steps.push(Step::Image(Image { name, minor, sectors, fill, block, read_only }));
        } else if let Some(command) = line.strip_prefix("$ ") {
            background |= command.ends_with(BACKGROUND);
            steps.push(Step::Run {
                line: command.to_owned(),
                outcome: Outcome::default(),
                probe: false,
            });
        } else if let Some(Step::Run { line: command, outcome, probe }) = steps.last_mut() {
            // Of other commands, a status of 0 is not recorded.
            *probe |= command.starts_with("dmsetup create bad ") && line == "? 0";
            match line.strip_prefix("? ") {
                // One that fails says why; this is of what went on meanwhile.
                Some(status) if background && outcome.stderr.is_empty() => {
                    (outcome.ended, background) = (Some(status.parse().unwrap()), false);
                }
                Some(_) | None => outcome.take(line),
            }
        }
    }
    steps
}

impl Outcome {
    fn take(&mut self, line: &str) {
        // The guest had no udev to make nodes.
        let no_node = line.starts_with("2| /dev/mapper/")
            && line.ends_with("open failed: No such file or directory");
        match line.split_once(' ').unwrap_or((line, "")) {
            ("2|", _) if no_node => (),
            ("|", text) => self.stdout += &format!("{text}\n"),
            ("2|", "{usage}") => self.stderr += USAGE,
            ("2|", text) => self.stderr += &format!("{text}\n"),
            ("?", status) => self.status = status.parse().unwrap(),
            ("k|", text) if text.starts_with("device-mapper: ") => {
                self.kernel.push(text.to_owned());
            }
            _ => (),
        }
    }
}

/// Splits a line as a shell does; `None` where a quote is open at its end.
pub(crate) fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}
