//! What persona's extension and its engine share, and what needs neither Postgres nor torch.
//!
//! Data walks down this list:
//!
//! - [`source`]    what the columns of an event table mean, and their form on the wire
//! - [`cleaning`]  which events are set aside, and which numbers are drawn in
//! - [`spec`]      a model's specification: parsed, defaulted, checked
//! - [`protocol`]  the contract between a Postgres process and the engine
//! - [`events`]    Arrow batches in any order -> events grouped by entity, ordered in time
//! - [`json`]      what a path into JSON finds
//! - [`features`]  statistics fitted to events (vocabularies, scales), and their replay
//! - [`labels`]    what is to be predicted of entities: examples, and which part judges
//! - [`importance`] which features tell how much of a label, and the selection of the best
//! - [`drift`]     whether events and vectors are still like those that a version knows
//! - [`schedule`]  when a job is due, and when what failed is tried again
//! - [`conditions`] when a model is to be trained again
//! - [`search`]    which settings to try next
//! - [`split`]     which events train, which validate, which test
//! - [`batch`]     windows of equal length, a batch as a number of events
//! - [`rankers`]   what ranks items without a neural network: counts, neighbours, factors
//! - [`synthesis`] drawn codes back to events
//! - [`metrics`]   ranks to HR, NDCG, MRR, coverage and novelty, with bootstrap intervals
//! - [`probe`]     what the engine says of its machine
//! - [`artifact`]  one trained version as safetensors
//! - [`handover`]  open files from one process to another
//! - [`reduction`] fewer dimensions for profile vectors
//! - [`calendar`]  hours, weekdays and months of a time
//! - [`check`]     what `check_source` reports
//! - [`weights`]   a network's weights in an artifact, whole or smaller
//! - [`threads`]   independent pieces of work on several threads
//! - [`error`]     one error for all of it, ready for SQL
#![forbid(unsafe_code)]

pub mod artifact;
pub mod batch;
pub mod calendar;
pub mod check;
pub mod cleaning;
pub mod conditions;
pub mod drift;
pub mod error;
pub mod events;
pub mod features;
pub mod handover;
pub mod importance;
pub mod json;
pub mod labels;
pub mod metrics;
pub mod position;
pub mod probe;
pub mod protocol;
pub mod rankers;
pub mod reduction;
pub mod schedule;
pub mod search;
pub mod source;
pub mod spec;
pub mod split;
pub mod synthesis;
pub mod threads;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
