//! The engine program, driven through its pipes as Postgres drives it. One program, as each one's linking takes a minute.

mod driver;

mod compress;
mod drift;
mod families;
mod importance;
mod kinds;
mod labels;
mod lists;
mod pipe;
mod ratings;
mod region;
mod resident;
mod specs;
mod synthesize;
mod transfer;

use driver::Answer;

/// The answer, of a job that must not have failed.
fn done(answer: Answer) -> Answer {
    assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
    answer
}
