//! The program that trains and scores persona's models with libtorch.
//!
//! A Postgres process starts it with two pipes and speaks `persona_core::protocol`: one job, its
//! events, and the answer. It opens no file but its libraries, and no connection. With `--probe` it says where it would
//! compute, and ends; with `--resident` it stays and answers on a socket; with `--fork-server` it stays and becomes the engine of a
//! job by forking.
//!
//! What it reads and says is in the library beside it (`lib.rs`); what it computes is here:
//!
//! - [`job`]         one job from its first frame to its last
//! - [`parts`]       which events train, validate and test, and the examples of labels
//! - [`device`]      threads, memory, device and precision
//! - [`cpu`]         what is computed without libtorch, on its tensors' memory
//! - [`inputs`]      windows of events -> tensors -> the vectors that an encoder reads
//! - [`models`]      the families, a file each
//! - [`parameters`]  named weights, to and from an artifact
//! - [`loss`]        the softmax over items and its gradient, in tiles
//! - [`objectives`]  what is learned, a file each
//! - [`optimizer`]   AdamW
//! - [`schedule`]    the learning rate from step to step
//! - [`average`]     a running mean of the weights
//! - [`augment`]     changes to training sequences
//! - [`train`]       epochs, early stopping
//! - [`transfer`]    weights of another version, wherever they fit
//! - [`incremental`] training that goes on with what is new
//! - [`network`]     a model with its objectives, trained and judged; folds
//! - [`select`]      training on the features that tell most
//! - [`counts`]      families that rank without a network
//! - [`version`]     a stored version, and what it has learned
//! - [`blend`]       several versions as one
//! - [`prune`]       numbers of matrices that become zero and stay so
//! - [`compress`]    a smaller version of a version
//! - [`beside`]      a network beside the one that it was made of
//! - [`distill`]     learning from another version
//! - [`drift`]       whether vectors and figures are still what they were
//! - [`held`]        what a network is judged by
//! - [`evaluate`]    ranking metrics
//! - [`measure`]     what a version is worth as a whole
//! - [`segments`]    figures of groups of entities
//! - [`permute`]     how much each field matters to a model
//! - [`reduce`]      fewer dimensions for profile vectors
//! - [`asked`]       a version that is asked about entities
//! - [`score`]       profile and item vectors
//! - [`resident`]    versions that are kept, and asked over a socket
//! - [`together`]    questions about a kept version that are answered at once
//! - [`fork_server`] engines that need not load libtorch
//! - [`lists`]       every entity's best items
//! - [`synthesize`]  events that a generator draws
//! - [`error`]       core's error, and libtorch's in its words

mod asked;
mod augment;
mod average;
mod beside;
mod blend;
mod compress;
mod counts;
mod cpu;
mod device;
mod distill;
mod drift;
mod error;
mod evaluate;
mod fork_server;
mod held;
mod incremental;
mod inputs;
mod job;
mod lists;
mod loss;
mod measure;
mod models;
mod network;
mod objectives;
mod optimizer;
mod parameters;
mod parts;
mod permute;
mod prune;
mod ratings;
mod reduce;
mod resident;
mod schedule;
mod score;
mod segments;
mod select;
mod synthesize;
mod together;
mod train;
mod transfer;
mod version;

use persona_engine::{intake, pipe, report, states};
use std::path::Path;

fn main() {
    device::let_threads_sleep();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--probe"] => println!("{}", serde_json::json!(device::probe())),
        ["--resident", socket, limits, idle] => resident::run(Path::new(socket), limits, idle),
        ["--fork-server", socket, idle] => fork_server::run(Path::new(socket), idle, one_job),
        _ => one_job(),
    }
}

/// The engine of one job, from its pipes.
fn one_job() -> ! {
    pipe::report_panics();
    let result = pipe::open().map_err(error::Failure::from).and_then(|mut input| job::run(&mut input));
    pipe::end(result.map_err(|failure| failure.0))
}
