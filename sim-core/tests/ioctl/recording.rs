//! Recorded exchanges, as `tests/data/ioctl/README.md` says they are written.

use std::path::Path;

/// One ioctl: what went in, and what the kernel made of it.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// The last remark before it.
    pub(crate) title: String,
    pub(crate) code: u32,
    pub(crate) errno: i32,
    /// What it is expected to be read as.
    pub(crate) want: String,
    /// Why our answer is another, where it is.
    pub(crate) differs: Option<String>,
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) log: Vec<String>,
}

/// Reads a file of exchanges.
pub(crate) fn read(path: &Path) -> Vec<Exchange> {
    let text = std::fs::read_to_string(path).expect("a recording");
    let (mut all, mut title): (Vec<Exchange>, _) = (Vec::new(), "");
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "#" => title = rest,
            "ioctl" => all.push(start(title, rest)),
            _ => continue_with(all.last_mut().expect("an ioctl first"), word, rest),
        }
    }
    all
}

fn start(title: &str, rest: &str) -> Exchange {
    let words: Vec<&str> = rest.split(' ').collect();
    let [code, "size", size, "errno", errno] = words[..] else { panic!("{rest}") };
    let size = size.parse().expect("a size");
    Exchange {
        title: title.to_owned(),
        code: u32::from_str_radix(code, 16).expect("a code"),
        errno: errno.parse().expect("an errno"),
        before: vec![0; size],
        after: vec![0; size],
        ..Exchange::default()
    }
}

fn continue_with(exchange: &mut Exchange, word: &str, rest: &str) {
    match word {
        "want" => rest.clone_into(&mut exchange.want),
        "differs" => exchange.differs = Some(rest.to_owned()),
        "log" => exchange.log.push(rest.to_owned()),
        "in" => {
            put(&mut exchange.before, rest);
            put(&mut exchange.after, rest);
        }
        "out" => put(&mut exchange.after, rest),
        _ => panic!("{word} {rest}"),
    }
}

/// Puts bytes in their place: `OFFSET PIECE...`, each piece hexadecimal digits, or one byte and how
/// often it is there.
fn put(buffer: &mut [u8], line: &str) {
    let mut words = line.split(' ');
    let mut at: usize = words.next().and_then(|at| at.parse().ok()).expect("an offset");
    for piece in words {
        let (digits, times) = piece.split_once('*').unwrap_or((piece, "1"));
        for _ in 0..times.parse().expect("a count") {
            for pair in digits.as_bytes().chunks(2) {
                let pair = str::from_utf8(pair).expect("digits");
                buffer[at] = u8::from_str_radix(pair, 16).expect("digits");
                at += 1;
            }
        }
    }
}
