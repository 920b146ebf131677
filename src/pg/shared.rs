//! Shared memory: who should look for jobs, and how far running jobs are. Plain data of fixed size.
//!
//! There is none without `shared_preload_libraries`; then every function here does nothing.

use pgrx::lwlock::PgLwLock;
use pgrx::{PGRXSharedMemory, pg_guard, pg_shmem_init, pg_sys};
use std::sync::atomic::{AtomicBool, Ordering};

pub const SLOTS: usize = 64;
const WAKEUPS: usize = 64;

/// A short text in shared memory, cut at a character's border.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text { length: 0, bytes: [0; N] }
    }
}

impl<const N: usize> Text<N> {
    pub fn of(text: &str) -> Self {
        let mut length = text.len().min(N).min(u8::MAX as usize);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        let mut cut = Text { length: length as u8, bytes: [0; N] };
        cut.bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        cut
    }

    pub fn get(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.length as usize]).into_owned()
    }
}

/// One running job, in the background or in a session.
#[derive(Clone, Copy, Default)]
pub struct Slot {
    /// 0: the slot is free.
    pub pid: i32,
    /// 0 while no engine runs.
    pub engine_pid: u32,
    pub database: u32,
    pub owner: u32,
    /// 0: not from the queue, but a session's own CALL.
    pub job: i64,
    pub kind: Text<16>,
    pub object: Text<64>,
    pub phase: Text<16>,
    pub done: u64,
    pub total: u64,
    pub epoch: u32,
    pub epochs: u32,
    pub loss: Option<f64>,
    pub metric: Text<32>,
    pub value: Option<f64>,
    pub seconds_left: Option<f64>,
}

#[derive(Clone, Copy)]
struct Shared {
    launcher: i32,
    /// Databases that have queued jobs; all of them when there were too many to note.
    wakeups: [u32; WAKEUPS],
    waiting: usize,
    all: bool,
    slots: [Slot; SLOTS],
}

impl Default for Shared {
    fn default() -> Self {
        Shared { launcher: 0, wakeups: [0; WAKEUPS], waiting: 0, all: false, slots: [Slot::default(); SLOTS] }
    }
}

// SAFETY: plain data, no pointers.
unsafe impl PGRXSharedMemory for Shared {}

// SAFETY: initialised by `init` in the postmaster before anybody uses it.
static SHARED: PgLwLock<Shared> = unsafe { PgLwLock::new(c"persona") };
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Called while the postmaster loads its libraries; backends inherit the result.
pub fn init() {
    PRELOADED.store(true, Ordering::Relaxed);
    pg_shmem_init!(SHARED);
}

pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Notes that a database has jobs to start, and wakes the launcher. Never fails.
pub fn wake(database: u32) {
    if !is_preloaded() {
        return;
    }
    let mut shared = SHARED.exclusive();
    let waiting = shared.waiting;
    if !shared.wakeups[..waiting].contains(&database) {
        if waiting == WAKEUPS {
            shared.all = true;
        } else {
            shared.wakeups[waiting] = database;
            shared.waiting = waiting + 1;
        }
    }
    signal(shared.launcher, libc::SIGUSR1);
}

pub enum Wakeups {
    Some(Vec<u32>),
    All,
}

/// Takes what was noted.
pub fn take_wakeups() -> Wakeups {
    let mut shared = SHARED.exclusive();
    let waiting = std::mem::take(&mut shared.waiting);
    match std::mem::take(&mut shared.all) {
        true => Wakeups::All,
        false => Wakeups::Some(shared.wakeups[..waiting].to_vec()),
    }
}

pub fn set_launcher(pid: i32) {
    SHARED.exclusive().launcher = pid;
}

/// Takes a slot for this process; `None` when all are taken, and then nothing is published.
pub fn take_slot(mut slot: Slot) -> Option<usize> {
    if !is_preloaded() {
        return None;
    }
    slot.pid = std::process::id() as i32;
    let mut shared = SHARED.exclusive();
    let free = shared.slots.iter().position(|slot| slot.pid == 0)?;
    shared.slots[free] = slot;
    release_at_exit();
    Some(free)
}

pub fn update_slot(index: usize, change: impl FnOnce(&mut Slot)) {
    change(&mut SHARED.exclusive().slots[index]);
}

pub fn release_slot(index: usize) {
    SHARED.exclusive().slots[index] = Slot::default();
}

/// The slots in use.
pub fn slots() -> Vec<Slot> {
    match is_preloaded() {
        true => SHARED.share().slots.iter().filter(|slot| slot.pid != 0).copied().collect(),
        false => Vec::new(),
    }
}

/// Sends a job's worker the signal that cancels its statement; false when it is not running.
pub fn cancel_job(database: u32, job: i64) -> bool {
    let shared = SHARED.share();
    match shared.slots.iter().find(|slot| slot.pid != 0 && slot.database == database && slot.job == job) {
        Some(slot) => signal(slot.pid, libc::SIGINT),
        None => false,
    }
}

fn signal(pid: i32, signal: i32) -> bool {
    // SAFETY: a system call; a pid of 0 or less would mean a group.
    pid > 0 && unsafe { libc::kill(pid, signal) } == 0
}

/// However this process ends, its slots are freed; a job's end makes the launcher look at its database.
fn release_at_exit() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the callback is a plain function of this library, which is never unloaded.
        unsafe { pg_sys::before_shmem_exit(Some(release_all), pg_sys::Datum::from(0_usize)) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn release_all(_code: i32, _arg: pg_sys::Datum) {
    let pid = std::process::id() as i32;
    let mut databases = Vec::new();
    for slot in SHARED.exclusive().slots.iter_mut().filter(|slot| slot.pid == pid) {
        if slot.job != 0 {
            databases.push(slot.database);
        }
        *slot = Slot::default();
    }
    databases.into_iter().for_each(wake);
}
