//! Settings that hold until the end of a block, as a function's SET clause does. (A procedure that
//! commits cannot have that clause.)

use pgrx::pg_sys;
use std::ffi::CStr;

pub struct LocalSettings {
    level: i32,
}

/// Only `pg_catalog` is searched: no operator or function of a user's can take the place of one of ours.
pub const SAFE_PATH: (&CStr, &CStr) = (c"search_path", c"pg_catalog, pg_temp");

impl LocalSettings {
    /// [`SAFE_PATH`] and nothing else.
    pub fn safe_path() -> Self {
        LocalSettings::set(&[SAFE_PATH])
    }

    /// Also those that only a superuser may set. Must not outlive the transaction it was made in.
    pub fn set(settings: &[(&CStr, &CStr)]) -> Self {
        // SAFETY: inside a transaction; names and values are C strings that outlive the calls.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            let local = LocalSettings { level };
            for (name, value) in settings {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_SUSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            local
        }
    }
}

impl Drop for LocalSettings {
    fn drop(&mut self) {
        // SAFETY: the level was opened by `set`; levels above it are closed with it.
        unsafe { pg_sys::AtEOXact_GUC(true, self.level) };
    }
}
