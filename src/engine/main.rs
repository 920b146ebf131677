//! The program that trains and scores persona's models with libtorch.
//!
//! A Postgres process starts it with two pipes and speaks `persona_core::protocol`: one job, its
//! events, and the answer. It opens no file but its libraries, and no connection.
//!
//! - [`pipe`]        frames in and out, and what happens when the other side goes away
//! - [`job`]         one job from its first frame to its last
//! - [`report`]      progress, figures and times
//! - [`device`]      threads, memory, device and precision
//! - [`cpu`]         what is computed without libtorch, on its tensors' memory
//! - [`inputs`]      windows of events -> tensors -> the vectors that an encoder reads
//! - [`models`]      the families, a file each
//! - [`parameters`]  named weights, to and from an artifact
//! - [`loss`]        the objective and its gradient, in tiles
//! - [`optimizer`]   AdamW
//! - [`train`]       epochs, early stopping
//! - [`evaluate`]    ranking metrics
//! - [`score`]       profile and item vectors
//! - [`error`]       core's error, and libtorch's in its words

mod cpu;
mod device;
mod error;
mod evaluate;
mod inputs;
mod job;
mod loss;
mod models;
mod optimizer;
mod parameters;
mod pipe;
mod report;
mod score;
mod train;

use persona_core::protocol::{Frame, Kind};

fn main() {
    device::let_threads_sleep();
    pipe::report_panics();
    let result = pipe::open().and_then(|input| job::run(&input));
    let (last, code) = match result {
        Ok(outcome) => (Frame::json(Kind::Done, &outcome), 0),
        Err(failure) => (Frame::json(Kind::Failed, &failure.0), 1),
    };
    match last {
        Ok(frame) => pipe::finish(frame, code),
        Err(error) => panic!("{error}"),
    }
}
