//! Shared memory: where jobs are due and when, how far runs are, and the clock. Plain data of fixed size.
//!
//! There is none without `shared_preload_libraries`; then every function here does nothing.

use pgrx::lwlock::PgLwLock;
use pgrx::{PGRXSharedMemory, pg_guard, pg_shmem_init, pg_sys};
use std::sync::atomic::{AtomicBool, Ordering};

pub const SLOTS: usize = 64;

/// Databases with jobs that are known one by one; more of them are all looked at whenever one is.
const DATABASES: usize = 128;

const NEVER: i64 = i64::MAX;

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
    /// 0: no run, but a session's own CALL.
    pub run: i64,
    /// When its run has taken too long, in microseconds since 1970; 0: never.
    pub deadline: i64,
    /// It was canceled for that.
    pub expired: bool,
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
    /// Of a live profile: up to when it has taken in what was committed, in microseconds since 1970; 0: of none.
    pub fresh_at: i64,
}

/// A program that stays, and that the launcher starts when it is asked for.
#[derive(Clone, Copy)]
pub enum Helper {
    Resident,
    ForkServer,
}

pub const HELPERS: [Helper; 2] = [Helper::Resident, Helper::ForkServer];

/// A database that has jobs.
#[derive(Clone, Copy)]
struct Database {
    /// 0: the entry is free.
    oid: u32,
    /// Something in it has changed.
    woken: bool,
    /// When its next job is due, in microseconds since 1970.
    due: i64,
}

const FREE: Database = Database { oid: 0, woken: false, due: NEVER };

#[derive(Clone, Copy)]
struct Shared {
    launcher: i32,
    /// Where a test has stopped the clock, in microseconds since 1970; 0: it goes on.
    clock: i64,
    /// When no worker could be started for the last time; 0: never.
    starved: i64,
    databases: [Database; DATABASES],
    /// There were too many databases to note one.
    all: bool,
    /// For which of the [`HELPERS`] a session waits.
    wanted: [bool; HELPERS.len()],
    slots: [Slot; SLOTS],
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            launcher: 0,
            clock: 0,
            starved: 0,
            databases: [FREE; DATABASES],
            all: false,
            wanted: [false; HELPERS.len()],
            slots: [Slot::default(); SLOTS],
        }
    }
}

impl Shared {
    /// A database's entry, made if there is room.
    fn database(&mut self, oid: u32) -> Option<&mut Database> {
        let known = self.databases.iter().position(|database| database.oid == oid);
        let place = known.or_else(|| self.databases.iter().position(|database| database.oid == 0))?;
        self.databases[place].oid = oid;
        Some(&mut self.databases[place])
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

/// Notes that something has changed about a database's jobs, and wakes the launcher. Never fails.
pub fn wake(database: u32) {
    note(database, |noted| noted.woken = true);
}

/// Notes when a database's next job is due, if one ever is, and wakes the launcher.
pub fn set_due(database: u32, due: Option<i64>) {
    note(database, |noted| noted.due = due.unwrap_or(NEVER));
}

fn note(database: u32, change: impl FnOnce(&mut Database)) {
    if !is_preloaded() {
        return;
    }
    let mut shared = SHARED.exclusive();
    match shared.database(database) {
        Some(noted) => change(noted),
        None => shared.all = true,
    }
    signal(shared.launcher, libc::SIGUSR1);
}

/// What the launcher has to do.
pub struct Due {
    /// Databases to be looked at now.
    pub databases: Vec<u32>,
    /// Whether there may be others.
    pub all: bool,
    /// When the next one is due.
    pub next: Option<i64>,
}

/// Takes what is due. A database that is taken is due `again` unless its dispatcher says otherwise.
pub fn take_due(now: i64, again: i64) -> Due {
    let mut shared = SHARED.exclusive();
    let mut due = Due { databases: Vec::new(), all: std::mem::take(&mut shared.all), next: None };
    for database in shared.databases.iter_mut().filter(|database| database.oid != 0) {
        if database.woken || database.due <= now {
            due.databases.push(database.oid);
            (database.woken, database.due) = (false, again);
        }
        match database.due {
            NEVER => *database = FREE,
            at => due.next = Some(due.next.map_or(at, |next| next.min(at))),
        }
    }
    due
}

/// Forgets a database that is gone.
pub fn forget(database: u32) {
    SHARED.exclusive().databases.iter_mut().filter(|known| known.oid == database).for_each(|known| *known = FREE);
}

/// Cancels the runs that have taken too long. When the next one will have.
pub fn expire(now: i64) -> Option<i64> {
    let mut shared = SHARED.exclusive();
    let mut next = None::<i64>;
    for slot in shared.slots.iter_mut().filter(|slot| slot.pid != 0 && slot.deadline != 0 && !slot.expired) {
        match slot.deadline <= now {
            true => slot.expired = signal(slot.pid, libc::SIGINT),
            false => next = Some(next.map_or(slot.deadline, |next| next.min(slot.deadline))),
        }
    }
    next
}

/// Lets the run in a slot take no longer than until `deadline`.
pub fn limit_slot(index: usize, deadline: i64) {
    let mut shared = SHARED.exclusive();
    shared.slots[index].deadline = deadline;
    signal(shared.launcher, libc::SIGUSR1);
}

pub fn slot_has_expired(index: usize) -> bool {
    SHARED.share().slots[index].expired
}

/// Asks the launcher for a program that stays.
pub fn want(helper: Helper) {
    let mut shared = SHARED.exclusive();
    shared.wanted[helper as usize] = true;
    signal(shared.launcher, libc::SIGUSR1);
}

/// Whether a session has asked for it since.
pub fn take_wanted(helper: Helper) -> bool {
    std::mem::take(&mut SHARED.exclusive().wanted[helper as usize])
}

pub fn set_launcher(pid: i32) {
    SHARED.exclusive().launcher = pid;
}

/// Whether the launcher has begun; it does not on a standby.
pub fn has_launcher() -> bool {
    is_preloaded() && SHARED.share().launcher != 0
}

/// Notes that no worker could be started.
pub fn note_starvation(now: i64) {
    SHARED.exclusive().starved = now;
}

/// When no worker could be started for the last time.
pub fn starved_at() -> Option<i64> {
    is_preloaded().then(|| SHARED.share().starved).filter(|&at| at != 0)
}

/// Where a test has stopped the clock.
pub fn stopped_clock() -> Option<i64> {
    is_preloaded().then(|| SHARED.share().clock).filter(|&at| at != 0)
}

/// Stops the clock, or lets it go on; either way jobs may be due anywhere.
pub fn stop_clock(at: Option<i64>) {
    let mut shared = SHARED.exclusive();
    shared.clock = at.unwrap_or(0);
    shared.all = true;
    signal(shared.launcher, libc::SIGUSR1);
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

/// Frees a slot; where it was a run's, others may wait for its object.
pub fn release_slot(index: usize) {
    let slot = std::mem::take(&mut SHARED.exclusive().slots[index]);
    if slot.run != 0 {
        wake(slot.database);
    }
}

pub fn has_free_slot() -> bool {
    SHARED.share().slots.iter().any(|slot| slot.pid == 0)
}

/// The slots in use.
pub fn slots() -> Vec<Slot> {
    match is_preloaded() {
        true => SHARED.share().slots.iter().filter(|slot| slot.pid != 0).copied().collect(),
        false => Vec::new(),
    }
}

/// Sends the process of a run the signal that cancels its statement; false when it is not running.
pub fn cancel_run(database: u32, run: i64) -> bool {
    if !is_preloaded() {
        return false;
    }
    let shared = SHARED.share();
    match shared.slots.iter().find(|slot| slot.pid != 0 && slot.database == database && slot.run == run) {
        Some(slot) => signal(slot.pid, libc::SIGINT),
        None => false,
    }
}

fn signal(pid: i32, signal: i32) -> bool {
    // SAFETY: a system call; a pid of 0 or less would mean a group.
    pid > 0 && unsafe { libc::kill(pid, signal) } == 0
}

/// However this process ends, its slots are freed; a run's end makes the launcher look at its database.
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
        if slot.run != 0 {
            databases.push(slot.database);
        }
        *slot = Slot::default();
    }
    databases.into_iter().for_each(wake);
}
