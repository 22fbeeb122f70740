//! Sets of numbers below a bound, made for billions of them: regions that are clean, chunks that
//! are there.
//!
//! Numbers go in pages of 32,768. A page that has all of its numbers, or none, takes no memory of
//! its own, and so does a whole set that is full or empty: what a table line says costs nothing
//! before something differs.

use std::ops::Range;

const WORD: u64 = u64::BITS as u64;
const WORDS: usize = 512;

/// How many numbers a page has: 4 KiB of bits.
const PAGE: u64 = WORDS as u64 * WORD;

/// There is no memory for a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// The numbers below `len` that are in the set.
pub(crate) struct Bits {
    pages: Pages,
    len: u64,
    ones: u64,
}

enum Pages {
    /// All numbers, or none.
    Same(bool),
    Each(Vec<Page>),
}

#[derive(Clone)]
enum Page {
    Same(bool),
    /// What lies past the bound of the set means nothing.
    Mixed(Box<[u64; WORDS]>),
}

static ALL: Page = Page::Same(true);
static NONE: Page = Page::Same(false);

impl Bits {
    /// Makes a set of all numbers below `len`, or of none.
    pub(crate) fn new(len: u64, all: bool) -> Bits {
        Bits { pages: Pages::Same(all), len, ones: if all { len } else { 0 } }
    }

    /// Makes a set with the same numbers, if there is memory for it.
    pub(crate) fn try_clone(&self) -> Result<Bits, NoMemory> {
        let pages = match &self.pages {
            Pages::Same(all) => Pages::Same(*all),
            Pages::Each(pages) => {
                let mut copies = room(pages.len())?;
                for page in pages {
                    copies.push(page.try_clone()?);
                }
                Pages::Each(copies)
            }
        };
        Ok(Bits { pages, ..*self })
    }

    /// Returns the numbers that are not in this set.
    pub(crate) fn complement(&self) -> Bits {
        let pages = match &self.pages {
            Pages::Same(all) => Pages::Same(!all),
            Pages::Each(pages) => Pages::Each(pages.iter().map(Page::complement).collect()),
        };
        Bits { pages, len: self.len, ones: self.len - self.ones }
    }

    pub(crate) fn get(&self, at: u64) -> bool {
        debug_assert!(at < self.len, "number {at} of a set of {}", self.len);
        match self.page(at / PAGE) {
            Page::Same(all) => *all,
            Page::Mixed(words) => words[word_in_page(at)] >> (at % WORD) & 1 == 1,
        }
    }

    pub(crate) fn set(&mut self, at: u64, value: bool) {
        if self.get(at) == value {
            return;
        }
        let page = &mut self.pages_mut()[(at / PAGE) as usize];
        let words = page.words();
        words[word_in_page(at)] ^= 1 << (at % WORD);
        if words[word_in_page(at)] == full(value) {
            page.compact();
        }
        self.ones = if value { self.ones + 1 } else { self.ones - 1 };
        self.compact();
    }

    /// Puts a range in, or takes it out.
    pub(crate) fn set_range(&mut self, range: Range<u64>, value: bool) {
        let range = range.start..range.end.min(self.len);
        if range.is_empty() {
            return;
        }
        for nr in range.start / PAGE..range.end.div_ceil(PAGE) {
            let (begin, end) = (nr * PAGE, self.page_end(nr));
            let part = range.start.max(begin)..range.end.min(end);
            let before = self.count(nr);
            let whole = part == (begin..end);
            let page = &mut self.pages_mut()[nr as usize];
            if whole {
                *page = Page::Same(value);
            } else {
                page.set_range(part.start - begin..part.end - begin, value);
            }
            self.ones = self.ones - before + self.count(nr);
        }
        self.compact();
    }

    /// Takes bits over from bytes, the lowest bit of a byte first; the first byte has the number
    /// `first`, a multiple of 64, and bits past the bound are left out.
    pub(crate) fn put_bytes(&mut self, first: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        debug_assert!(first.is_multiple_of(WORD) && bytes.len().is_multiple_of(8), "whole words");
        let (mut at, mut bytes) = (first, bytes);
        while at < self.len && !bytes.is_empty() {
            let nr = at / PAGE;
            let room = ((nr + 1) * PAGE - at) as usize / 8;
            let (own, rest) = bytes.split_at(room.min(bytes.len()));
            let before = self.count(nr);
            let page = &mut self.try_pages_mut()?[nr as usize];
            page.put(word_in_page(at), own)?;
            self.ones = self.ones - before + self.count(nr);
            (at, bytes) = (at + own.len() as u64 * 8, rest);
        }
        self.compact();
        Ok(())
    }

    /// Gives bits out as bytes, the other way round; zeros past the bound.
    pub(crate) fn get_bytes(&self, first: u64, bytes: &mut [u8]) {
        debug_assert!(first.is_multiple_of(WORD) && bytes.len().is_multiple_of(8), "whole words");
        let (mut at, mut bytes) = (first, bytes);
        while !bytes.is_empty() {
            let room = (PAGE - at % PAGE) as usize / 8;
            let (own, rest) = bytes.split_at_mut(room.min(bytes.len()));
            let begin = word_in_page(at);
            match (at < self.len).then(|| self.page(at / PAGE)) {
                None | Some(Page::Same(false)) => own.fill(0),
                Some(Page::Same(true)) => own.fill(u8::MAX),
                Some(Page::Mixed(words)) => {
                    for (to, word) in own.chunks_exact_mut(8).zip(&words[begin..]) {
                        to.copy_from_slice(&word.to_le_bytes());
                    }
                }
            }
            self.clear_past_bound(at, own);
            (at, bytes) = (at + own.len() as u64 * 8, rest);
        }
    }

    /// Clears what bytes of a page, the first of which has the number `first`, hold past the bound.
    fn clear_past_bound(&self, first: u64, bytes: &mut [u8]) {
        let left = self.len.saturating_sub(first);
        if left >= bytes.len() as u64 * 8 {
            return;
        }
        let (last, bits) = ((left / 8) as usize, left % 8);
        bytes[last] &= (1 << bits) - 1;
        bytes[last + 1..].fill(0);
    }

    /// Takes out what is in another set of the same bound.
    pub(crate) fn remove(&mut self, other: &Bits) {
        if other.ones == 0 {
            return;
        }
        for nr in 0..self.page_count() {
            let before = self.count(nr);
            let page = &mut self.pages_mut()[nr as usize];
            match other.page(nr) {
                Page::Same(false) => continue,
                Page::Same(true) => *page = Page::Same(false),
                Page::Mixed(gone) => {
                    let words = page.words();
                    words.iter_mut().zip(gone.iter()).for_each(|(word, gone)| *word &= !gone);
                    page.compact();
                }
            }
            self.ones = self.ones - before + self.count(nr);
        }
        self.compact();
    }

    /// Returns how many numbers are in the set.
    pub(crate) fn ones(&self) -> u64 {
        self.ones
    }

    /// Returns the bound.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Returns the first number from `from` on that is not in the set.
    pub(crate) fn next_zero(&self, from: u64) -> Option<u64> {
        self.find(from, false)
    }

    /// Returns the first number from `from` on that is in the set.
    pub(crate) fn next_one(&self, from: u64) -> Option<u64> {
        self.find(from, true)
    }

    /// Returns the runs of numbers that are in the set, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.find(at, true)?;
            at = self.find(start, false).unwrap_or(self.len);
            Some(start..at)
        })
    }

    /// Tells whether a number is in all of the sets; one that is not there is empty.
    pub(crate) fn any_in_all<'a>(sets: impl Iterator<Item = Option<&'a Bits>> + Clone) -> bool {
        if sets.clone().any(|set| set.is_none_or(|set| set.ones == 0)) {
            return false;
        }
        let pages = sets.clone().flatten().map(Bits::page_count).min().unwrap_or(0);
        let in_all = |at| sets.clone().flatten().fold(u64::MAX, |all, set| all & set.word(at)) != 0;
        let out = |nr| sets.clone().flatten().any(|set| matches!(set.page(nr), Page::Same(false)));
        let words = |nr| nr * WORDS as u64..(nr + 1) * WORDS as u64;
        (0..pages).filter(|nr| !out(*nr)).any(|nr| words(nr).any(in_all))
    }

    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        let Pages::Each(pages) = &self.pages else { return 0 };
        let mixed = pages.iter().filter(|page| matches!(page, Page::Mixed(_))).count();
        pages.capacity() * size_of::<Page>() + mixed * WORDS * 8
    }

    fn find(&self, from: u64, value: bool) -> Option<u64> {
        if self.ones == if value { 0 } else { self.len } {
            return None;
        }
        let mut at = from;
        while at < self.len {
            let nr = at / PAGE;
            let found = match self.page(nr) {
                Page::Same(all) => (*all == value).then_some(at),
                Page::Mixed(words) => {
                    find_word(words, at - nr * PAGE, value).map(|found| found + nr * PAGE)
                }
            };
            match found {
                Some(found) => return (found < self.len).then_some(found),
                None => at = (nr + 1) * PAGE,
            }
        }
        None
    }

    /// Returns a word; nothing past the bound is in it.
    fn word(&self, at: u64) -> u64 {
        let first = at * WORD;
        if first >= self.len {
            return 0;
        }
        let word = match self.page(first / PAGE) {
            Page::Same(all) => full(*all),
            Page::Mixed(words) => words[word_in_page(first)],
        };
        word & low(self.len - first)
    }

    fn page(&self, nr: u64) -> &Page {
        match &self.pages {
            Pages::Same(true) => &ALL,
            Pages::Same(false) => &NONE,
            Pages::Each(pages) => &pages[nr as usize],
        }
    }

    fn page_count(&self) -> u64 {
        self.len.div_ceil(PAGE)
    }

    /// Returns the first number after a page, or after the set.
    fn page_end(&self, nr: u64) -> u64 {
        ((nr + 1) * PAGE).min(self.len)
    }

    /// Returns how many numbers of a page are in the set.
    fn count(&self, nr: u64) -> u64 {
        let len = self.page_end(nr) - nr * PAGE;
        match self.page(nr) {
            Page::Same(false) => 0,
            Page::Same(true) => len,
            Page::Mixed(words) => {
                let own = |at: usize| low(len.saturating_sub(at as u64 * WORD));
                let ones = |(at, word): (usize, &u64)| u64::from((word & own(at)).count_ones());
                words.iter().enumerate().map(ones).sum()
            }
        }
    }

    fn pages_mut(&mut self) -> &mut [Page] {
        self.try_pages_mut().expect("memory for the list of a set's pages")
    }

    fn try_pages_mut(&mut self) -> Result<&mut [Page], NoMemory> {
        if let Pages::Same(all) = self.pages {
            let count = self.page_count() as usize;
            let mut pages = room(count)?;
            pages.resize(count, Page::Same(all));
            self.pages = Pages::Each(pages);
        }
        match &mut self.pages {
            Pages::Each(pages) => Ok(pages),
            Pages::Same(_) => unreachable!("taken to pieces above"),
        }
    }

    /// Gives up the pages of a set that is full or empty.
    fn compact(&mut self) {
        if self.ones == 0 || self.is_full() {
            self.pages = Pages::Same(self.is_full());
        }
    }
}

impl Clone for Bits {
    fn clone(&self) -> Bits {
        self.try_clone().expect("memory for a set's copy")
    }
}

impl Page {
    fn try_clone(&self) -> Result<Page, NoMemory> {
        Ok(match self {
            Page::Same(all) => Page::Same(*all),
            Page::Mixed(words) => {
                let mut copy = try_words(false)?;
                copy.copy_from_slice(&words[..]);
                Page::Mixed(copy)
            }
        })
    }

    fn complement(&self) -> Page {
        match self {
            Page::Same(all) => Page::Same(!all),
            Page::Mixed(words) => Page::Mixed(Box::new(words.map(|word| !word))),
        }
    }

    fn words(&mut self) -> &mut [u64; WORDS] {
        self.try_words().expect("memory for a page of a set")
    }

    fn try_words(&mut self) -> Result<&mut [u64; WORDS], NoMemory> {
        if let Page::Same(all) = *self {
            *self = Page::Mixed(try_words(all)?);
        }
        match self {
            Page::Mixed(words) => Ok(words),
            Page::Same(_) => unreachable!("taken to pieces above"),
        }
    }

    fn set_range(&mut self, range: Range<u64>, value: bool) {
        if matches!(self, Page::Same(all) if *all == value) {
            return;
        }
        let words = self.words();
        let touched = word_in_page(range.start)..range.end.div_ceil(WORD) as usize;
        for (at, word) in touched.clone().zip(&mut words[touched]) {
            let first = at as u64 * WORD;
            let mask = low(range.end - first) & !low(range.start.saturating_sub(first));
            *word = if value { *word | mask } else { *word & !mask };
        }
        self.compact();
    }

    /// Takes words over from bytes, from word `first` on.
    fn put(&mut self, first: usize, bytes: &[u8]) -> Result<(), NoMemory> {
        let same = [0, u8::MAX].into_iter().find(|same| bytes.iter().all(|byte| byte == same));
        match (same, &self) {
            (Some(same), Page::Same(all)) if (same != 0) == *all => return Ok(()),
            (Some(same), _) if bytes.len() == WORDS * 8 => *self = Page::Same(same != 0),
            _ => {
                let words = &mut self.try_words()?[first..];
                for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                    *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                }
                self.compact();
            }
        }
        Ok(())
    }

    /// Gives up the words of a page that has all of its numbers, or none.
    fn compact(&mut self) {
        let Page::Mixed(words) = self else { return };
        let first = words[0];
        if (first == 0 || first == u64::MAX) && words.iter().all(|word| *word == first) {
            *self = Page::Same(first != 0);
        }
    }
}

/// Finds the first number of a page from `from` on that is in it, or that is not.
fn find_word(words: &[u64; WORDS], from: u64, value: bool) -> Option<u64> {
    let is_wanted = |word: u64| if value { word } else { !word };
    let first = word_in_page(from);
    let rest = is_wanted(words[first]) >> (from % WORD);
    if rest != 0 {
        return Some(from + u64::from(rest.trailing_zeros()));
    }
    let at = (first + 1..WORDS).find(|at| is_wanted(words[*at]) != 0)?;
    Some(at as u64 * WORD + u64::from(is_wanted(words[at]).trailing_zeros()))
}

/// Makes a page's words, all of one kind.
fn try_words(all: bool) -> Result<Box<[u64; WORDS]>, NoMemory> {
    let mut words = room(WORDS)?;
    words.resize(WORDS, full(all));
    Ok(words.into_boxed_slice().try_into().expect("as many words as a page has"))
}

/// Makes a list with room for so many, if there is memory for them.
fn room<T>(count: usize) -> Result<Vec<T>, NoMemory> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| NoMemory)?;
    Ok(list)
}

fn word_in_page(at: u64) -> usize {
    (at % PAGE / WORD) as usize
}

fn full(all: bool) -> u64 {
    if all { u64::MAX } else { 0 }
}

/// Returns a word with its lowest `count` bits set, or all of them.
fn low(count: u64) -> u64 {
    if count < WORD { (1 << count) - 1 } else { u64::MAX }
}

#[cfg(test)]
mod tests;
