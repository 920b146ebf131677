//! Every setting (GUC) of persona.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;

pub static ENGINE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
pub static ENGINE_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static ENGINE_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static ENGINE_NICE: GucSetting<i32> = GucSetting::<i32>::new(5);
pub static RESIDENT_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(1024);
pub static RESIDENT_IDLE: GucSetting<i32> = GucSetting::<i32>::new(10 * 60);
pub static KEEP_JOB_RUNS: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60);

pub fn define() {
    GucRegistry::define_string_guc(
        c"persona.engine",
        c"Path of the program persona-engine.",
        c"Empty means persona/persona-engine in the server's library folder.",
        &ENGINE,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"persona.engine_threads",
        c"Threads that an engine computes with.",
        c"0 means as many as the machine has processors.",
        &ENGINE_THREADS,
        0,
        1024,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"persona.engine_memory",
        c"Memory that an engine may use for events and models.",
        c"0 means no limit of persona's own.",
        &ENGINE_MEMORY,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"persona.engine_nice",
        c"Niceness of an engine: how far it stands back for other processes.",
        c"0 competes with backends as an equal, 19 takes only what is left over.",
        &ENGINE_NICE,
        0,
        19,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"persona.resident_memory",
        c"Memory that the versions of the resident engine may take together.",
        c"Those that were asked for least lately make room for others.",
        &RESIDENT_MEMORY,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"persona.resident_idle",
        c"How long the resident engine and the fork server stay while nobody asks them.",
        c"The next question starts it again.",
        &RESIDENT_IDLE,
        1,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"persona.keep_job_runs",
        c"How long the runs of jobs are kept after their end.",
        c"Older ones are removed from persona.job_runs.",
        &KEEP_JOB_RUNS,
        1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_MIN,
    );
}
