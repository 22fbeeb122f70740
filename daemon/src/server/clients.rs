//! The clients that are connected, and who goes where there are too many.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The clients of a daemon.
#[derive(Default)]
pub(super) struct Clients(Mutex<Here>);

#[derive(Default)]
struct Here {
    clients: Vec<Client>,
    /// How many states of clients have changed.
    changes: u64,
}

struct Client {
    id: u64,
    stream: Arc<UnixStream>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has asked nothing since this change.
    Idle(u64),
    /// It waits for an answer.
    Waits,
    /// It had to go, and its thread has not seen it yet.
    SentAway,
}

/// A client that is connected.
pub(super) struct Seat {
    clients: Arc<Clients>,
    id: u64,
}

impl Clients {
    /// Lets one in. Where there are `most` already, the one goes that has asked nothing for the
    /// longest time; where all of them wait for answers, nobody is let in.
    pub(super) fn enter(self: &Arc<Clients>, most: usize, stream: Arc<UnixStream>) -> Option<Seat> {
        let mut here = self.locked();
        let staying = here.clients.iter().filter(|client| client.state != State::SentAway);
        if staying.count() >= most {
            let idle = here.clients.iter_mut().filter_map(|client| match client.state {
                State::Idle(since) => Some((since, client)),
                State::Waits | State::SentAway => None,
            });
            let (_, longest) = idle.min_by_key(|(since, _)| *since)?;
            longest.state = State::SentAway;
            let _gone_already = longest.stream.shutdown(Shutdown::Both);
        }
        let id = here.change();
        here.clients.push(Client { id, stream, state: State::Idle(id) });
        Some(Seat { clients: self.clone(), id })
    }

    fn locked(&self) -> MutexGuard<'_, Here> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Here {
    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }
}

impl Seat {
    /// Carries out what the client asks: it is not sent away meanwhile.
    pub(super) fn serve<T>(&self, work: impl FnOnce() -> T) -> T {
        self.set(|_| State::Waits);
        let done = work();
        self.set(State::Idle);
        done
    }

    fn set(&self, state: impl FnOnce(u64) -> State) {
        let mut here = self.clients.locked();
        let state = state(here.change());
        let client = here.clients.iter_mut().find(|client| client.id == self.id);
        if let Some(client) = client.filter(|client| client.state != State::SentAway) {
            client.state = state;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.locked().clients.retain(|client| client.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A client's end, and what the daemon has of it.
    fn enter(clients: &Arc<Clients>) -> (UnixStream, Option<Seat>) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (theirs, clients.enter(2, Arc::new(ours)))
    }

    fn is_sent_away(mut stream: &UnixStream) -> bool {
        matches!(stream.read(&mut [0]), Ok(0))
    }

    #[test]
    fn the_one_that_has_been_silent_for_longest_gives_way() {
        let clients = Arc::<Clients>::default();
        let (first, first_seat) = enter(&clients);
        let (second, second_seat) = enter(&clients);
        // The first has asked something since.
        first_seat.as_ref().unwrap().serve(|| ());
        let (third, third_seat) = enter(&clients);
        assert!(third_seat.is_some());
        assert_eq!([&first, &second, &third].map(is_sent_away), [false, true, false]);
        // It counts no more, though its thread has not ended, and nothing brings it back.
        second_seat.as_ref().unwrap().serve(|| ());
        let (fourth, fourth_seat) = enter(&clients);
        assert!(fourth_seat.is_some());
        assert_eq!([&first, &third, &fourth].map(is_sent_away), [true, false, false]);
        for seat in [first_seat, second_seat, third_seat, fourth_seat] {
            drop(seat);
        }
        assert!(clients.locked().clients.is_empty());
    }

    #[test]
    fn who_waits_for_an_answer_stays() {
        let clients = Arc::<Clients>::default();
        let (_first, first) = enter(&clients);
        let (_second, second) = enter(&clients);
        first.unwrap().serve(|| {
            second.as_ref().unwrap().serve(|| assert!(enter(&clients).1.is_none()));
            assert!(enter(&clients).1.is_some(), "the second waits no more");
        });
    }

    #[test]
    fn what_ends_in_a_panic_has_no_seat() {
        let clients = Arc::<Clients>::default();
        let (_stream, seat) = enter(&clients);
        let panics = std::thread::spawn(move || seat.unwrap().serve(|| panic!("planted")));
        assert!(panics.join().is_err());
        assert!(clients.locked().clients.is_empty());
    }
}
