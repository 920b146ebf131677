//! A job's limits on a process that computes nothing with torch.

use persona_core::protocol::Limits;

/// What the program maps before any data, in megabytes: left out of the limit.
const PROGRAM_MB: usize = 256;

/// Applies the limits of a job to this process.
pub fn apply(limits: &Limits) {
    // SAFETY: sets numbers of this process. A refusal leaves them as they are.
    unsafe {
        if limits.nice != 0 {
            libc::nice(limits.nice);
        }
        if limits.memory_mb != 0 {
            let bytes = ((limits.memory_mb + PROGRAM_MB) as libc::rlim_t).saturating_mul(1 << 20);
            libc::setrlimit(libc::RLIMIT_DATA, &libc::rlimit { rlim_cur: bytes, rlim_max: bytes });
        }
        // The copies of batches stay on the heap instead of being mapped, and faulted in, anew each time.
        #[cfg(target_env = "gnu")]
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        #[cfg(target_env = "gnu")]
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// How many threads a job may use.
pub fn threads(limits: &Limits) -> usize {
    match limits.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
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
