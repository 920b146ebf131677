//! The program that checks a source, ranks its features and says how far they have moved. It does what `persona-engine` does with the same
//! job, without loading libtorch for it.

use persona_core::protocol::{Kind, Outcome, Task};
use persona_core::{Error, Result};
use persona_engine::pipe::{self, Input};
use persona_engine::report::Reporter;
use persona_engine::{intake, limits};

fn main() {
    pipe::report_panics();
    pipe::end(pipe::open().and_then(|mut input| run(&mut input)));
}

fn run(input: &mut impl Input) -> Result<Outcome> {
    let job = intake::job(input)?;
    if !matches!(job.task, Task::Check | Task::Rank | Task::Drift) || job.spec.is_some() {
        return Err(Error::protocol("a job that needs libtorch came to persona-check"));
    }
    limits::apply(&job.limits);
    let mut reporter = Reporter::new(pipe::send);
    let gathered = intake::collect(input, &job, &mut reporter)?;
    let mut outcome = intake::describe(&gathered.events);
    match job.task {
        Task::Rank => reporter.json(Kind::Features, &gathered.importances(&job, &mut outcome)?)?,
        Task::Drift => reporter.json(Kind::Shifts, &gathered.shifts(&job, &mut outcome)?)?,
        _ => reporter.json(Kind::Findings, &gathered.findings(&job))?,
    }
    outcome.seconds = reporter.seconds();
    outcome.peak_memory_mb = limits::peak_memory_mb();
    Ok(outcome)
}
