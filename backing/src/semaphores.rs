//! Semaphores of the machine that go by a number (System V), as libdevmapper's udev cookies are: each
//! is a set of one.

use std::ffi::{c_int, c_short};
use std::io;

/// A semaphore. It stays in the machine until somebody removes it.
#[derive(Debug)]
pub struct Semaphore {
    id: c_int,
}

/// A semaphore as the machine lists it. Times are seconds of the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedSemaphore {
    /// What it is opened by.
    pub key: i32,
    /// The machine's own number of it.
    pub id: i32,
    /// When its value was last raised, lowered or waited for; 0 for never.
    pub used_s: i64,
    /// When it was made, or set to a value.
    pub changed_s: i64,
}

impl Semaphore {
    /// Makes a semaphore with a value, for this user alone. Where one has the key already, that is
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists).
    pub fn create(key: i32, value: u16) -> io::Result<Semaphore> {
        let semaphore = get(key, 0o600 | libc::IPC_CREAT | libc::IPC_EXCL)?;
        if let Err(error) = control(semaphore.id, libc::SETVAL, value.into()) {
            // One without its value would stay in the machine, and nobody know of it.
            let _ = semaphore.remove();
            return Err(error);
        }
        Ok(semaphore)
    }

    /// Finds the semaphore with a key.
    pub fn open(key: i32) -> io::Result<Semaphore> {
        get(key, 0)
    }

    /// Lists the semaphores of the machine, or of the IPC namespace.
    pub fn list() -> io::Result<Vec<ListedSemaphore>> {
        Ok(listed(&std::fs::read_to_string("/proc/sysvipc/sem")?))
    }

    /// Takes the semaphore that the machine lists with a number.
    pub fn with_id(id: i32) -> Semaphore {
        Semaphore { id }
    }

    /// Returns the machine's own number of it.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Returns its value.
    pub fn value(&self) -> io::Result<i32> {
        control(self.id, libc::GETVAL, 0)
    }

    /// Adds one to its value.
    pub fn raise(&self) -> io::Result<()> {
        operate(self.id, 1, 0)
    }

    /// Takes one off its value. Where that is zero, it stays so, and that is
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub fn lower(&self) -> io::Result<()> {
        let flags = c_short::try_from(libc::IPC_NOWAIT).expect("a flag of an operation");
        operate(self.id, -1, flags)
    }

    /// Waits until its value is zero, whatever signals come meanwhile.
    pub fn wait_for_zero(&self) -> io::Result<()> {
        loop {
            match operate(self.id, 0, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                result => return result,
            }
        }
    }

    /// Takes it out of the machine. Who waits for it is woken, with EIDRM.
    pub fn remove(&self) -> io::Result<()> {
        control(self.id, libc::IPC_RMID, 0).map(drop)
    }
}

/// Reads the columns of `/proc/sysvipc/sem` that are of use.
fn listed(text: &str) -> Vec<ListedSemaphore> {
    let row = |line: &str| {
        let columns: Vec<i64> =
            line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        // key semid perms nsems uid gid cuid cgid otime ctime
        let [key, id, _, _, _, _, _, _, used_s, changed_s] = columns[..] else { return None };
        let (key, id) = (i32::try_from(key).ok()?, i32::try_from(id).ok()?);
        Some(ListedSemaphore { key, id, used_s, changed_s })
    };
    text.lines().skip(1).filter_map(row).collect()
}

fn get(key: i32, flags: c_int) -> io::Result<Semaphore> {
    // SAFETY: the call takes numbers alone, and touches no memory of ours.
    let id = unsafe { libc::semget(key, 1, flags) };
    answer(id).map(|id| Semaphore { id })
}

/// Carries out a command that takes no more than a number.
fn control(id: c_int, command: c_int, value: c_int) -> io::Result<c_int> {
    assert!([libc::SETVAL, libc::GETVAL, libc::IPC_RMID].contains(&command));
    // SAFETY: these commands read no memory of ours: their argument is a number, or not looked at.
    answer(unsafe { libc::semctl(id, 0, command, value) })
}

fn operate(id: c_int, by: c_short, flags: c_short) -> io::Result<()> {
    let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: flags };
    // SAFETY: one operation is read, which lives until the call returns; nothing is kept of it.
    answer(unsafe { libc::semop(id, &raw mut operation, 1) }).map(drop)
}

fn answer(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Writes a moment as `ctime` does, without the line's end: `Sat Nov 28 20:18:49 2026`, in the local
/// time. Nothing where the year has no place in it.
pub fn local_time(seconds: i64) -> Option<String> {
    // SAFETY: it is numbers and a pointer to a name, which may all be zero.
    let mut parts = unsafe { std::mem::zeroed::<libc::tm>() };
    // SAFETY: both point to what they are for, for as long as the call takes.
    let found = unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) };
    if found.is_null() {
        return None;
    }
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = |names: &[&'static str], at: c_int| names.get(usize::try_from(at).ok()?).copied();
    let (day, month) = (name(&DAYS, parts.tm_wday)?, name(&MONTHS, parts.tm_mon)?);
    let libc::tm { tm_mday, tm_hour, tm_min, tm_sec, .. } = parts;
    let year = i64::from(parts.tm_year) + 1900;
    Some(format!("{day} {month} {tm_mday:2} {tm_hour:02}:{tm_min:02}:{tm_sec:02} {year}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that nobody else has: made anew until it is free.
    fn created(value: u16) -> (i32, Semaphore) {
        let mut key = 0x0d51_0000 | i32::try_from(std::process::id() & 0x3fff).unwrap();
        loop {
            match Semaphore::create(key, value) {
                Ok(semaphore) => return (key, semaphore),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => key += 0x4000,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_semaphore_counts_and_is_waited_for() {
        let (key, one) = created(1);
        let same = Semaphore::open(key).unwrap();
        same.raise().unwrap();
        assert_eq!((one.value().unwrap(), one.id()), (2, same.id()));
        let listed = Semaphore::list().unwrap().into_iter().find(|listed| listed.key == key);
        let listed = listed.expect("the machine lists it");
        assert!(listed.id == one.id() && listed.changed_s > 0 && listed.used_s > 0, "{listed:?}");
        let waiting = std::thread::spawn(move || same.wait_for_zero());
        one.lower().unwrap();
        one.lower().unwrap();
        waiting.join().unwrap().unwrap();
        assert_eq!(one.lower().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        one.remove().unwrap();
        assert_eq!(Semaphore::open(key).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn who_waits_for_one_that_is_removed_is_told() {
        let (key, one) = created(1);
        let same = Semaphore::open(key).unwrap();
        let waiting = std::thread::spawn(move || same.wait_for_zero());
        one.remove().unwrap();
        let error = waiting.join().unwrap().unwrap_err().raw_os_error();
        // It may not have been waiting yet.
        assert!([Some(libc::EIDRM), Some(libc::EINVAL)].contains(&error), "{error:?}");
    }

    #[test]
    fn the_list_is_read_by_columns() {
        let text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n \
                    223159884          0   600          1     0     0     0     0          0 1795896000\n\
                    -1 32769 666 3 0 0 0 0 5 6\nwhat is that\n";
        let semaphore = |key, id, used_s, changed_s| ListedSemaphore { key, id, used_s, changed_s };
        let expected = [semaphore(0x0d4d_264c, 0, 0, 1_795_896_000), semaphore(-1, 32769, 5, 6)];
        assert_eq!(listed(text), expected);
    }

    #[test]
    fn a_moment_is_written_as_ctime_does() {
        let text = local_time(1_000_000_000).expect("a moment");
        // Whatever the time zone.
        let days = ["Sat Sep  8 ", "Sun Sep  9 "];
        assert!(days.iter().any(|day| text.starts_with(day)), "{text}");
        assert!(text.ends_with(":40 2001") && text.len() == 24, "{text}");
        assert_eq!(local_time(i64::MAX), None);
    }
}
