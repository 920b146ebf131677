//! The two pipes. A thread reads frames ahead, so that the other process's scan and this one's
//! work overlap, and ends the engine when the other process goes away.

use crate::region::{AHEAD, Region};
use arrow_array::RecordBatch;
use persona_core::protocol::region::Placed;
use persona_core::protocol::{ColumnReader, Frame, Job, Kind, Outcome, Role};
use persona_core::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::BufReader;
use std::os::fd::FromRawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What comes in, decoded.
pub enum Message {
    Job(Box<Job>),
    Artifact(Vec<u8>),
    Events(RecordBatch),
    /// What follows is of the job's next table.
    Table,
    /// How many values of each field of what came before were of another type than its kind.
    Mistyped(Vec<u64>),
    /// What follows is of the next thing stored, which is for this.
    Part(Role),
    End,
}

/// Where messages come from.
pub trait Input {
    /// The next one; waits for it.
    fn next(&mut self) -> Result<Message>;
}

impl Input for Receiver<Result<Message>> {
    fn next(&mut self) -> Result<Message> {
        self.recv().map_err(|_| Error::protocol("the input ended too early"))?
    }
}

/// Whether the last frame has been sent: from then on a closed input is the expected end.
static FINISHED: AtomicBool = AtomicBool::new(false);

/// Where frames go. Not descriptor 1, so that nothing a library prints gets between them.
static OUTPUT: Mutex<Option<File>> = Mutex::new(None);

/// Takes both pipes over and begins to read.
pub fn open() -> Result<Receiver<Result<Message>>> {
    // SAFETY: descriptors are numbers; the copy of 1 is owned by OUTPUT alone from here on.
    let output = unsafe {
        let copy = libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 || libc::dup2(2, 1) < 0 {
            return Err(Error::new(ErrorKind::Engine, "the engine's pipes are not open"));
        }
        File::from_raw_fd(copy)
    };
    *OUTPUT.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(output);
    let (sender, receiver) = sync_channel(AHEAD);
    std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || read(&sender))
        .map_err(|e| Error::new(ErrorKind::OutOfMemory, format!("could not start a thread: {e}")))?;
    Ok(receiver)
}

/// Sends one frame. When nobody reads any more there is nobody left to tell.
pub fn send(frame: Frame) -> Result<()> {
    let mut output = OUTPUT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match output.as_mut() {
        Some(file) => frame.write_to(file),
        None => Ok(()),
    }
}

/// Says how the job went, and ends the process.
pub fn end(result: Result<Outcome>) -> ! {
    let (last, code) = match result {
        Ok(outcome) => (Frame::json(Kind::Done, &outcome), 0),
        Err(error) => (Frame::json(Kind::Failed, &error), 1),
    };
    match last {
        Ok(frame) => finish(frame, code),
        Err(error) => panic!("{error}"),
    }
}

/// Sends the last frame and ends the process. Not by `exit`: destructors of a library with
/// threads at work have nothing to give and may hang.
fn finish(last: Frame, code: i32) -> ! {
    FINISHED.store(true, Ordering::SeqCst);
    let _ = send(last);
    leave(code)
}

/// Turns a panic of any thread into the last frame.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("persona-engine: {panic}");
        FINISHED.store(true, Ordering::SeqCst);
        let error = Error::new(ErrorKind::Engine, "the engine failed unexpectedly")
            .detail(format!("{}.", panic.to_string().replace('\n', " ").trim_end_matches('.')))
            .hint("This is a bug of persona; its server log has more.");
        // A thread that panics while it sends holds the lock: half a frame is out and no other can follow.
        if let (Ok(frame), Ok(mut output)) = (Frame::json(Kind::Failed, &error), OUTPUT.try_lock())
            && let Some(file) = output.as_mut()
        {
            let _ = frame.write_to(file);
        }
        leave(1)
    }));
}

fn leave(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// What has to be known to decode frames.
#[derive(Default)]
pub struct Decoder {
    columns: ColumnReader,
    region: Option<Region>,
}

fn read(sender: &SyncSender<Result<Message>>) {
    // SAFETY: nothing else in this program reads descriptor 0.
    let mut input = BufReader::new(unsafe { File::from_raw_fd(0) });
    let mut decoder = Decoder::default();
    loop {
        match Frame::read_from(&mut input) {
            Ok(Some(frame)) => {
                if !forward(frame, &mut decoder, sender) {
                    return;
                }
            }
            Ok(None) if FINISHED.load(Ordering::SeqCst) => return,
            Ok(None) => leave(1),
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        }
    }
}

/// Passes a frame's content on; false when the input makes no sense from here on.
fn forward(frame: Frame, decoder: &mut Decoder, sender: &SyncSender<Result<Message>>) -> bool {
    let messages = match decoder.decode(frame) {
        Ok(messages) => messages.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    };
    messages.into_iter().all(|message| {
        let sound = message.is_ok();
        sender.send(message).is_ok() && sound
    })
}

impl Decoder {
    pub fn decode(&mut self, frame: Frame) -> Result<Vec<Message>> {
        Ok(match frame.kind {
            Kind::Job => vec![Message::Job(Box::new(self.job(&frame)?))],
            Kind::Artifact => vec![Message::Artifact(frame.payload)],
            Kind::Part => vec![Message::Part(frame.parse()?)],
            Kind::Events => self.columns.read(frame)?.into_iter().map(Message::Events).collect(),
            Kind::Placed => vec![Message::Events(self.placed(&frame)?)],
            Kind::Table => {
                self.columns = ColumnReader::new();
                vec![Message::Table]
            }
            Kind::Mistyped => vec![Message::Mistyped(frame.parse()?)],
            Kind::End => vec![Message::End],
            kind => return Err(Error::protocol(format!("a {kind:?} frame came to the engine"))),
        })
    }

    fn job(&mut self, frame: &Frame) -> Result<Job> {
        let job: Job = frame.parse()?;
        if self.region.is_none() {
            self.region = job.region.map(Region::open).transpose()?;
        }
        Ok(job)
    }

    fn placed(&mut self, frame: &Frame) -> Result<RecordBatch> {
        let Some(region) = &mut self.region else {
            return Err(Error::protocol("a batch was placed in a region that the job does not name"));
        };
        let batch = region.read(&frame.parse::<Placed>()?)?;
        send(Frame::new(Kind::Released, Vec::new()))?;
        Ok(batch)
    }
}
