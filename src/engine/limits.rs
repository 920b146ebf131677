//! A job's limits on the engine's processes, with torch and without.

use persona_core::protocol::Limits;
use std::sync::OnceLock;

/// What a program and libtorch map before any data, in megabytes: left out of the limit.
const PROGRAM_MB: usize = 256;

/// Applies the limits of a job to this process.
pub fn apply(limits: &Limits) {
    if limits.nice != 0 {
        // SAFETY: changes a number of this process. A refusal leaves the job running at its old one.
        unsafe { libc::nice(limits.nice) };
    }
    if limits.memory_mb != 0 {
        limit_memory(limits.memory_mb);
    }
    tune_for_intake();
}

/// Heap, stacks and private mappings together. Unlike RLIMIT_AS it does not count address
/// space that a driver reserves and never touches.
fn limit_memory(megabytes: usize) {
    let bytes = ((megabytes + PROGRAM_MB) as libc::rlim_t).saturating_mul(1 << 20);
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: reads one struct. A refusal means that a lower limit is in force already.
    unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) };
}

/// While events are collected: copies of batches stay on the heap instead of being mapped, and faulted
/// in, anew each time; columns are mapped, so that they grow by `mremap` and not by copying.
#[cfg(target_env = "gnu")]
fn tune_for_intake() {
    // SAFETY: sets numbers of the allocator; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Afterwards: blocks of up to 32 MB, the highest bound, are used again instead of being given back to
/// the system. Fresh pages for every tile of logits took a quarter of the training time.
#[cfg(target_env = "gnu")]
pub fn tune_for_tensors() {
    // SAFETY: sets numbers of the allocator; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

#[cfg(not(target_env = "gnu"))]
fn tune_for_intake() {}

#[cfg(not(target_env = "gnu"))]
pub fn tune_for_tensors() {}

/// How many threads a job may use.
pub fn threads(limits: &Limits) -> usize {
    // Asking the system reads files.
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    match limits.threads {
        0 => *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)),
        threads => threads,
    }
}

/// The most memory that this process has had resident, in megabytes.
pub fn peak_memory_mb() -> u64 {
    // SAFETY: a zeroed rusage is valid, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_maxrss as u64 / 1024
}
