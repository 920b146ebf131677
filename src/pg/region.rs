//! The memory that event batches lie in on their way to the engine.

use persona_core::protocol::region::REGION_BYTES;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd};

/// The kernel takes no more pieces in one call.
const IOV_MAX: usize = 1024;

/// Makes a region: a file in memory without a name. It takes memory only as far as it is written.
pub fn create() -> io::Result<File> {
    // SAFETY: system calls with valid arguments; the descriptor is new and ours.
    let file = unsafe {
        let fd = libc::memfd_create(c"persona-events".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.set_len(REGION_BYTES as u64)?;
    Ok(file)
}

/// Writes the parts one after the other from `start` on. Written, not mapped: where memory runs out
/// this is an error, and not a signal that ends the cluster.
pub fn write<'a>(region: &File, mut start: usize, parts: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    let mut slices: Vec<IoSlice> = parts.filter(|part| !part.is_empty()).map(IoSlice::new).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let count = rest.len().min(IOV_MAX) as i32;
        // SAFETY: an IoSlice is an iovec, and its bytes are borrowed.
        let written = unsafe { libc::pwritev(region.as_raw_fd(), rest.as_ptr().cast(), count, start as i64) };
        match written {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            1.. => {
                IoSlice::advance_slices(&mut rest, written as usize);
                start += written as usize;
            }
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}
