use super::*;

use std::io::Write;
use std::sync::PoisonError;

use zerocopy::IntoBytes;

/// What a content notes, and a way to keep what it was asked.
#[derive(Default)]
struct Noted {
    seen: Mutex<Vec<String>>,
    kept: Mutex<Vec<Reply>>,
}

impl Noted {
    fn note(&self, what: String) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Content for Noted {
    fn serve(&self, io: Io<'_>, reply: Reply) {
        match io {
            Io::Read { at: 512, .. } => panic!("a read that panics"),
            Io::Read { at: 1024, .. } => reply.read(&[0; 512]),
            Io::Read { at, len } => {
                self.note(format!("read {at}+{len}"));
                reply.read(&vec![at as u8; len]);
            }
            Io::Write { at, data, fua } => {
                self.note(format!("write {at} {:?}+{} {fua}", data[0], data.len()));
                reply.done();
            }
            Io::Flush => {
                self.note("flush".to_owned());
                reply.done();
            }
            Io::Discard { at, len } => {
                self.note(format!("discard {at}+{len}"));
                reply.error(Errno::OPNOTSUPP);
            }
            Io::WriteZeroes { .. } => self.kept.lock().unwrap().push(reply),
        }
    }
}

/// A queue of which a file is the character device, and what was answered.
struct Rig<A> {
    file: File,
    queue: Arc<Queue>,
    answers: A,
}

fn rig() -> Rig<impl Fn() -> Vec<(u32, u16, i32)>> {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let (lane, answers) = Lane::silent();
    let queue = Queue::new(3, file.try_clone().unwrap(), &lane).unwrap();
    queue.place.begin();
    Rig { file, queue, answers }
}

impl<A: Fn() -> Vec<(u32, u16, i32)>> Rig<A> {
    /// Asks as the driver does.
    fn ask(&mut self, tag: u16, op_flags: u32, start: u64, sectors: u32) {
        let asked = Descriptor { op_flags, sectors, start, addr: 0 };
        self.file.write_all_at(asked.as_bytes(), u64::from(tag) * 24).unwrap();
        self.file.flush().unwrap();
        self.queue.serve(tag);
    }

    fn answered(&self) -> Vec<(u32, u16, i32)> {
        (self.answers)()
    }
}

#[test]
fn each_kind_of_request_reaches_the_content_and_its_answer_the_driver() {
    let (mut rig, noted) = (rig(), Arc::new(Noted::default()));
    rig.queue.set_content(Some(noted.clone()));
    rig.ask(5, 0, 9, 2);
    assert_eq!(noted.seen(), ["read 4608+1024"]);
    assert_eq!(rig.answered(), [(7, 5, 1024)]);
    let mut read = [0; 1024];
    rig.file.read_exact_at(&mut read, 0x8000_0000 + (5 << 25)).unwrap();
    assert_eq!(read, [0; 1024], "4608 in a byte");

    rig.file.write_all_at(&[0x5a; 512], 0x8000_0000 + (6 << 25)).unwrap();
    rig.ask(6, 1, 1, 1);
    rig.ask(6, 1 | 1 << 13, 1, 1);
    assert_eq!(noted.seen(), ["write 512 90+512 false", "write 512 90+512 true"]);
    assert_eq!(rig.answered(), [(7, 6, 512), (7, 6, 512)]);

    // The driver gives a flush the last of all places.
    rig.ask(0, 2, u64::MAX, 0);
    rig.ask(63, 3, 8, u32::MAX);
    assert_eq!(noted.seen(), ["flush", "discard 4096+2199023255040"]);
    assert_eq!(rig.answered(), [(7, 0, 0), (7, 63, -95)]);
    // A kind that was not offered.
    rig.ask(1, 13, 0, 1);
    assert_eq!(rig.answered(), [(7, 1, -95)]);
}

#[test]
fn a_request_that_panics_or_reads_too_little_fails_alone() {
    let (mut rig, noted) = (rig(), Arc::new(Noted::default()));
    rig.queue.set_content(Some(noted.clone()));
    rig.ask(0, 0, 1, 1);
    rig.ask(1, 0, 2, 2);
    rig.ask(2, 0, 0, 1);
    assert_eq!(rig.answered(), [(7, 0, -5), (7, 1, -5), (7, 2, 512)]);
}

#[test]
fn what_is_given_up_is_answered_once_and_the_next_of_its_tag_is_another() {
    let (mut rig, noted) = (rig(), Arc::new(Noted::default()));
    rig.queue.set_content(Some(noted.clone()));
    rig.ask(4, 5, 0, 8);
    rig.ask(9, 5, 0, 8);
    assert_eq!(rig.answered(), []);
    rig.queue.fail_all();
    assert_eq!(rig.answered(), [(7, 4, -5), (7, 9, -5)]);
    rig.queue.fail_all();
    // The driver has another request for the tag; then the first one ends after all.
    rig.ask(4, 5, 0, 8);
    let mut kept = std::mem::take(&mut *noted.kept.lock().unwrap());
    kept.remove(0).done();
    assert_eq!(rig.answered(), []);
    kept.pop().unwrap().done();
    assert_eq!(rig.answered(), [(7, 4, 0)]);
    drop(kept);
    assert_eq!(rig.answered(), []);
}

#[test]
fn a_disk_without_content_has_zeros_and_takes_no_write() {
    let mut rig = rig();
    rig.file.write_all_at(&[1; 512], 0x8000_0000).unwrap();
    for (op, due) in [(0, 512), (1, -5), (2, 0), (3, -5), (5, -5)] {
        rig.ask(0, op, 0, 1);
        assert_eq!(rig.answered(), [(7, 0, due)], "{op}");
        if op == 0 {
            let mut read = [1; 512];
            rig.file.read_exact_at(&mut read, 0x8000_0000).unwrap();
            assert_eq!(read, [0; 512]);
        }
    }
}

#[test]
fn a_request_is_answered_once_and_no_other_for_it() {
    let turn = Turn::default();
    assert!(!turn.claim(turn.now()), "nothing is asked yet");
    let first = turn.begin();
    assert!(turn.claim(first));
    assert!(!turn.claim(first));
    let second = turn.begin();
    assert!(!turn.claim(first), "its place is another's");
    assert!(turn.claim(second));
}
