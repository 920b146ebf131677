//! The main functions of background workers, which Postgres finds by name.

use super::worker::begin;
use crate::worker::{dispatcher, launcher, run};
use pgrx::{pg_guard, pg_sys};

#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn persona_launcher_main(_argument: pg_sys::Datum) {
    // SAFETY: the launcher connects to no database: it reads shared catalogs only.
    unsafe {
        begin();
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    launcher::run();
}

#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn persona_dispatcher_main(database: pg_sys::Datum) {
    let database = database.value() as u32;
    // SAFETY: connects as the bootstrap superuser; the database may be gone, which ends this worker alone.
    unsafe {
        begin();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database.into(), pg_sys::InvalidOid, 0);
    }
    dispatcher::run(database);
}

#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn persona_run_main(run: pg_sys::Datum) {
    // SAFETY: bgw_extra holds what `start_run` put there; the owner may be gone, which ends this worker alone.
    unsafe {
        begin();
        let extra = &raw const (*pg_sys::MyBgworkerEntry).bgw_extra;
        let word = |i: usize| extra.cast::<u32>().add(i).read_unaligned();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(word(0).into(), word(1).into(), 0);
    }
    run::run(run.value() as i64);
}
