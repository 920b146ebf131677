//! What a session can ask of the workers that run jobs: whether there can be one, that the queue is looked at, that a run ends.

use crate::catalog::roles;
use crate::error::{Code, Error, Failure, Result};
use crate::pg::{shared, types};
use pgrx::pg_sys::Oid;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

/// Nothing runs in the background unless the server has preloaded persona.
pub fn needs_preload(what: &str) -> Result<()> {
    match shared::is_preloaded() {
        true => Ok(()),
        false => Err(Error::new(Code::NotInPrerequisiteState, format!("{what} need persona in shared_preload_libraries"))
            .hint("Add persona to shared_preload_libraries and restart the server; meanwhile use CALL persona.train or CALL persona.refresh.")),
    }
}

/// A worker connects as a role, if that can be.
pub fn may_have_workers(role: Oid) -> Result<()> {
    match roles::unfit(role)? {
        None => Ok(()),
        Some(failure) => {
            let error = Error::new(Code::InsufficientPrivilege, failure.message);
            Err(failure.hint.into_iter().fold(error, Error::hint))
        }
    }
}

/// Lets the launcher look at this database once this transaction has committed.
pub fn wake_at_commit() {
    let database = types::database();
    register_xact_callback(PgXactCallbackEvent::Commit, move || shared::wake(database));
}

/// Cancels a run once this transaction has committed.
pub fn end_at_commit(run: i64) {
    let database = types::database();
    register_xact_callback(PgXactCallbackEvent::Commit, move || {
        shared::cancel_run(database, run);
    });
}

/// What the record of a run says that was canceled.
pub fn canceled(message: &str) -> Failure {
    Failure { sqlstate: "57014".into(), message: message.into(), ..Failure::default() }
}
