//! Processes beside the session: the engine that computes, the launcher and the workers that run jobs.

pub mod batches;
pub mod dispatcher;
pub mod engine;
mod fork_server;
mod helper;
pub mod launcher;
pub mod live;
pub mod program;
pub mod progress;
pub mod resident;
pub mod run;
