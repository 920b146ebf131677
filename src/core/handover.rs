//! Open files on their way from one process to another, over a Unix socket.
//!
//! A Postgres process hands an engine's pipes and region to the fork server ([`Order`]), which answers with the engine's id and a
//! descriptor of its process, and once that has ended, with its status.

use crate::{Error, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The most that one message carries.
const FILES: usize = 4;
const BYTES: usize = 8192;

/// Where an engine finds its region, if a fork server has started it.
pub const REGION: i32 = 3;

/// What is to be started. With it come the files that are to be its descriptors 0 to 3, the last of them [`REGION`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// The path of the engine. A fork server that is of another starts none.
    pub program: String,
    /// The process that it is for.
    pub asker: u32,
}

/// The answer to an order. With it comes a descriptor of the process, if there is one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    pub pid: Option<u32>,
}

/// The end of an engine that was started.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// As wait(2) says it.
    pub status: i32,
}

/// Sends a message in one piece.
pub fn send<T: Serialize>(socket: &UnixStream, message: &T, files: &[BorrowedFd]) -> Result<()> {
    let text = serde_json::to_vec(message).map_err(|e| broken(&e.into()))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if text.len() > BYTES || (!files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files))) {
        return Err(broken(&io::ErrorKind::InvalidInput.into()));
    }
    match sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL) {
        Ok(sent) if sent == text.len() => Ok(()),
        Ok(_) => Err(broken(&io::ErrorKind::WriteZero.into())),
        Err(error) => Err(broken(&error.into())),
    }
}

/// Receives a message that was sent in one piece, and the files with it, which no program that is started inherits. Waits as long as
/// the socket's timeout.
pub fn receive<T: for<'a> Deserialize<'a>>(socket: &UnixStream) -> Result<(T, Vec<OwnedFd>)> {
    let mut text = [0; BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let received = received.map_err(|e| broken(&e.into()))?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            files.extend(sent);
        }
    }
    match received.bytes {
        0 => Err(broken(&io::ErrorKind::UnexpectedEof.into())),
        n => Ok((serde_json::from_slice(&text[..n]).map_err(|e| broken(&e.into()))?, files)),
    }
}

fn broken(error: &io::Error) -> Error {
    Error::protocol(format!("could not hand over files: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_message_takes_open_files_with_it() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let order = Order { program: "engine".into(), asker: 7 };
        send(&here, &order, &[writer.as_fd()]).expect("it is sent");
        drop(writer);
        let (received, files) = receive::<Order>(&there).expect("it is received");
        assert_eq!((received.program.as_str(), received.asker, files.len()), ("engine", 7, 1));
        for file in files {
            File::from(file).write_all(b"said").expect("the pipe is open");
        }
        let mut said = String::new();
        reader.read_to_string(&mut said).expect("it ends, as nobody else has the file");
        assert_eq!(said, "said");
        drop(here);
        assert!(receive::<Started>(&there).is_err());
    }
}
