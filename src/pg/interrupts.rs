//! Waiting without ever being deaf to cancel, terminate and timeouts.

use crate::error::{Code, Error, Result};
use pgrx::pg_sys;
use std::time::Duration;

/// The longest that anything of ours waits before it looks at interrupts again.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// Raises an ERROR when this session's query was cancelled, timed out, or its end was asked for.
pub fn check() {
    pgrx::check_for_interrupts!();
}

/// Sleeps on the process latch, at most `PATIENCE`, less when something happens.
pub fn nap() {
    sleep(PATIENCE);
}

/// Sleeps on the process latch, at most so long, less when something happens. A cancel or termination ends it at once.
pub fn sleep(longest: Duration) {
    // SAFETY: MyLatch is set up in every process that runs our code.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, longest.as_millis() as i64, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check();
}

/// Polls descriptors, at most `PATIENCE`; a signal ends the wait at once. Checks interrupts afterwards.
pub fn poll(descriptors: &mut [libc::pollfd]) -> Result<()> {
    // SAFETY: the slice is valid for the call.
    let ready =
        unsafe { libc::poll(descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t, PATIENCE.as_millis() as i32) };
    let error = std::io::Error::last_os_error();
    check();
    if ready < 0 {
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(Error::new(Code::Engine, format!("could not wait for the engine: {error}")));
        }
        descriptors.iter_mut().for_each(|d| d.revents = 0);
    }
    if ready == 0 {
        exit_if_orphaned();
    }
    Ok(())
}

fn exit_if_orphaned() {
    // SAFETY: reads a process global and asks the kernel; FATAL does not return.
    unsafe {
        if pg_sys::IsUnderPostmaster && libc::getppid() != pg_sys::PostmasterPid {
            pgrx::ereport!(FATAL, pgrx::PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN, "the postmaster is gone");
        }
    }
}
