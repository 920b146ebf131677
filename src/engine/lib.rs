//! The engine up to where it computes: what it reads, and what it says. Nothing here needs libtorch, so
//! that `persona-check` starts in a moment.
//!
//! - [`pipe`]     frames in and out, and what happens when the other side goes away
//! - [`region`]   the shared memory that event batches lie in
//! - [`intake`]   a job's data, collected into sequences
//! - [`states`]   what recurrent encoders have carried from earlier events
//! - [`limits`]   memory, niceness and threads
//! - [`report`]   progress, figures and times
//! - [`socket`]   where processes that stay are asked

pub mod intake;
pub mod limits;
pub mod pipe;
pub mod region;
pub mod report;
pub mod socket;
pub mod states;
