//! Sockets on which processes that stay are asked.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Listens at this path, for its owner alone. What a process that was killed has left there is in the way, and is removed.
/// For a process with one thread: it sets what files of this process may be.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(path);
    // SAFETY: sets a number of the process.
    unsafe { libc::umask(0o077) };
    UnixListener::bind(path)
}
