//! Background workers: how they are registered and started, and their transactions.
//!
//! pgrx's `attach_signal_handlers` does not set ProcDiePending and its `transaction()` has no abort
//! path, so both are done here: SIGTERM is `die`, seen at the next check for interrupts, and an error
//! aborts the transaction and comes back as a value.

use super::interrupts;
use crate::error::Failure;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{PgTryBuilder, pg_sys};
use std::ffi::CString;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

unsafe extern "C-unwind" {
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
}

/// Registers the launcher; in the postmaster only.
pub fn register_launcher() {
    BackgroundWorkerBuilder::new("persona launcher")
        .set_type("persona launcher")
        .set_library("persona")
        .set_function("persona_launcher_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// A worker that was started by this process.
pub struct Started(*mut pg_sys::BackgroundWorkerHandle);

impl Started {
    /// Whether it has ended, by itself or because it could not start.
    pub fn has_ended(&self) -> bool {
        let mut pid = 0;
        // SAFETY: the handle came from RegisterDynamicBackgroundWorker in this process.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) };
        matches!(status, pg_sys::BgwHandleStatus::BGWH_STOPPED | pg_sys::BgwHandleStatus::BGWH_POSTMASTER_DIED)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: the handle was allocated by RegisterDynamicBackgroundWorker and is used nowhere else.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

/// Starts the worker that looks for jobs in a database. `None` when no worker slot is free.
pub fn start_dispatcher(database: u32) -> Option<Started> {
    start("persona dispatcher", "persona_dispatcher_main", database as i64, &[])
}

/// Starts the worker of one run, as its owner.
pub fn start_run(database: u32, owner: u32, run: i64) -> Option<Started> {
    let mut extra = database.to_ne_bytes().to_vec();
    extra.extend(owner.to_ne_bytes());
    start(&format!("persona run {run}"), "persona_run_main", run, &extra)
}

fn start(name: &str, function: &str, argument: i64, extra: &[u8]) -> Option<Started> {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as i32,
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
        bgw_restart_time: pg_sys::BGW_NEVER_RESTART,
        bgw_main_arg: pg_sys::Datum::from(argument),
        bgw_notify_pid: std::process::id() as i32,
        ..Default::default()
    };
    fill(&mut worker.bgw_name, name.as_bytes());
    fill(&mut worker.bgw_type, b"persona job");
    fill(&mut worker.bgw_library_name, b"persona");
    fill(&mut worker.bgw_function_name, function.as_bytes());
    fill(&mut worker.bgw_extra, extra);
    let mut handle = std::ptr::null_mut();
    // SAFETY: the structure is complete; the handle lives in the current memory context, TopMemoryContext here.
    unsafe {
        let previous = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let registered = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
        pg_sys::MemoryContextSwitchTo(previous);
        registered.then(|| Started(handle))
    }
}

fn fill<const N: usize>(field: &mut [std::ffi::c_char; N], bytes: &[u8]) {
    for (to, from) in field.iter_mut().zip(bytes.iter().take(N - 1)) {
        *to = *from as std::ffi::c_char;
    }
}

/// # Safety
/// Called once, first thing, by a worker's main function.
pub(super) unsafe fn begin() {
    // SAFETY: handlers of Postgres' own, installed before signals are unblocked.
    unsafe {
        handle(libc::SIGTERM, die);
        handle(libc::SIGHUP, SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

unsafe fn handle(signal: i32, handler: unsafe extern "C-unwind" fn(i32)) {
    // SAFETY: a zeroed sigaction is valid; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Runs `body` in a transaction of its own, in which it may commit. An error aborts it and comes back.
pub fn transaction<T>(body: impl FnOnce() -> crate::error::Result<T>) -> Result<T, Failure> {
    let portal = WorkerPortal::open();
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        let value = body().map_err(Failure::from)?;
        // SAFETY: ends the transaction begun by the portal, or the one that the body's last commit began.
        unsafe {
            if pg_sys::ActiveSnapshotSet() {
                pg_sys::PopActiveSnapshot();
            }
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    }))
    .catch_others(|caught| Err(caught.into()))
    .catch_rust_panic(|caught| Err(caught.into()))
    .execute();
    if result.is_err() {
        // SAFETY: ends whatever transaction is open; does nothing where none is.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    portal.close();
    result
}

/// The same for a body that reads, and may do so without a transaction id: as of one snapshot.
pub fn look<T>(body: impl FnOnce() -> crate::error::Result<T>) -> Result<T, Failure> {
    transaction(|| {
        // SAFETY: in a transaction, which pops it at its end.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        body()
    })
}

/// Waits between two transactions, at most so long, less when something happens; a cancel comes back as a failure. What a
/// session does when it waits for a statement is done here: settings are read anew, and what was read and written is counted.
pub fn rest(longest: Duration) -> Result<(), Failure> {
    PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: outside any transaction, as all three functions ask.
        unsafe {
            pg_sys::pgstat_report_stat(false);
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
            interrupts::sleep(longest);
            if pg_sys::ConfigReloadPending != 0 {
                pg_sys::ConfigReloadPending = 0;
                pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
            }
        }
        Ok(())
    }))
    .catch_others(|caught| Err(caught.into()))
    .catch_rust_panic(|caught| Err(caught.into()))
    .execute()
}

/// What a session's statement has and a worker lacks: SPI keeps its outer snapshot in the active portal,
/// and forgets it there when a procedure commits.
struct WorkerPortal(pg_sys::Portal);

impl WorkerPortal {
    fn open() -> Self {
        // SAFETY: outside any transaction. An active portal survives the transactions that it spans.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
            (*portal).visible = false;
            (*portal).status = pg_sys::PortalStatus::PORTAL_ACTIVE;
            pg_sys::ActivePortal = portal;
            pg_sys::PortalContext = (*portal).portalContext;
            WorkerPortal(portal)
        }
    }

    fn close(self) {
        // SAFETY: its transactions have ended and took its resources with them.
        unsafe {
            pg_sys::ActivePortal = std::ptr::null_mut();
            pg_sys::PortalContext = std::ptr::null_mut();
            (*self.0).resowner = std::ptr::null_mut();
            (*self.0).portalSnapshot = std::ptr::null_mut();
            (*self.0).status = pg_sys::PortalStatus::PORTAL_DONE;
            pg_sys::PortalDrop(self.0, false);
        }
    }
}

/// The databases that can be connected to.
pub fn databases() -> Vec<u32> {
    // SAFETY: a scan of a shared catalog in a transaction of its own.
    unsafe {
        let mut found = Vec::new();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let header = (*tuple).t_data;
            let form = header.cast::<u8>().add((*header).t_hoff as usize).cast::<pg_sys::FormData_pg_database>();
            if (*form).datallowconn && !(*form).datistemplate {
                found.push((*form).oid.to_u32());
            }
        }
        ((*(*catalog).rd_tableam).scan_end.expect("every table access method has it"))(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as i32);
        pg_sys::PopActiveSnapshot();
        pg_sys::CommitTransactionCommand();
        found
    }
}

/// Whether somebody waits to drop, rename or copy the database that this worker is in the way of.
pub fn is_in_the_way(database: u32) -> bool {
    // As a connection takes it at its start: DROP and RENAME have locked the database against it, and so has CREATE DATABASE
    // where it is the template.
    const DEFAULT_LOCKMETHOD: u8 = 1;
    let tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
        locktag_field3: database,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
        locktag_lockmethodid: DEFAULT_LOCKMETHOD,
    };
    let mode = pg_sys::RowExclusiveLock as i32;
    // SAFETY: a lock that is not waited for, and released with its transaction.
    unsafe {
        pg_sys::StartTransactionCommand();
        let taken = pg_sys::LockAcquire(&tag, mode, false, true) != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL;
        pg_sys::CommitTransactionCommand();
        !taken
    }
}

/// Shows in pg_stat_activity what this worker is doing.
pub fn show_activity(text: &str) {
    let text = CString::new(text.replace('\0', "")).expect("zero bytes were removed");
    // SAFETY: the text is copied.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()) };
}

/// Whether the postmaster is loading `shared_preload_libraries` right now.
pub fn is_preloading() -> bool {
    // SAFETY: reads a process global.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Whether the server was started by pg_upgrade, which must have it to itself.
pub fn is_upgrading() -> bool {
    // SAFETY: reads a process global.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Whether the server is a standby, where nothing can be written.
pub fn is_standby() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// `max_worker_processes`.
pub fn most_workers() -> i32 {
    // SAFETY: reads a process global.
    unsafe { pg_sys::max_worker_processes }
}
