//! Telling how far a job is: NOTICE lines in a session, shared memory and pg_stat_activity for a worker.

use crate::pg::identity::current_user;
use crate::pg::shared::{self, Slot, Text};
use crate::pg::{types, worker};
use persona_core::protocol::{Phase, Progress};
use std::time::{Duration, Instant};

pub struct Reporter {
    /// A session reads along.
    foreground: bool,
    silent: bool,
    slot: Option<usize>,
    /// The slot ends with this value.
    owns_slot: bool,
    title: String,
    begun: Instant,
    published: Instant,
    phase: Phase,
}

/// Shared memory is written at most this often, but for a new phase or a line worth telling.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

impl Reporter {
    /// For a job that a session runs itself.
    pub fn foreground(kind: &str, object: &str) -> Self {
        let slot = shared::take_slot(Slot {
            database: types::database(),
            owner: current_user().to_u32(),
            kind: Text::of(kind),
            object: Text::of(object),
            ..Slot::default()
        });
        let mut reporter = Reporter::of_run(true, slot, kind, object);
        reporter.owns_slot = true;
        reporter
    }

    /// For a question that is answered at once: it tells nothing on the way.
    pub fn silent() -> Self {
        let mut reporter = Reporter::of_run(false, None, "", "");
        reporter.silent = true;
        reporter
    }

    /// For a run, whose slot outlives what it does.
    pub fn of_run(foreground: bool, slot: Option<usize>, kind: &str, object: &str) -> Self {
        let now = Instant::now();
        Reporter {
            foreground,
            silent: false,
            slot,
            owns_slot: false,
            title: format!("persona: {kind} {object}"),
            begun: now,
            published: now,
            phase: Phase::Scan,
        }
    }

    /// A line for the user.
    pub fn say(&mut self, line: &str) {
        match self.foreground {
            true => pgrx::notice!("{line}"),
            false if self.silent => pgrx::debug1!("persona: {line}"),
            false => {
                pgrx::debug1!("{}: {line}", self.title);
                worker::show_activity(&format!("{}: {line}", self.title));
            }
        }
    }

    /// The engine that works for this job.
    pub fn watch(&mut self, engine_pid: Option<u32>) {
        self.change(|slot| {
            slot.engine_pid = engine_pid.unwrap_or(0);
            slot.phase = Text::of(phase_name(Phase::Scan));
        });
        self.begun = Instant::now();
    }

    /// A live profile has taken in all that had been committed at this time: microseconds since 1970.
    pub fn fresh(&self, at: i64) {
        self.change(|slot| slot.fresh_at = at);
    }

    pub fn scanned(&mut self, rows: u64) {
        self.publish(&Progress::of(Phase::Scan, rows, 0));
    }

    pub fn scan_ended(&mut self, rows: u64) {
        // How fast a few rows came says nothing.
        const MANY: u64 = 100_000;
        let seconds = self.begun.elapsed().as_secs_f64();
        match rows < MANY {
            true => self.say(&format!("scanned {rows} rows")),
            false => {
                let speed = rows as f64 / seconds / 1e6;
                self.say(&format!("scanned {rows} rows in {seconds:.1} s ({speed:.1} M rows/s)"));
            }
        }
    }

    pub fn progress(&mut self, progress: &Progress) {
        if let Some(message) = &progress.message {
            self.say(message);
        }
        self.publish(progress);
    }

    fn publish(&mut self, progress: &Progress) {
        let news = progress.message.is_some() || progress.phase != self.phase;
        if !news && self.published.elapsed() < PUBLISH_EVERY {
            return;
        }
        self.phase = progress.phase;
        self.published = Instant::now();
        self.change(|slot| {
            slot.phase = Text::of(phase_name(progress.phase));
            slot.done = progress.done;
            slot.total = progress.total;
            slot.epoch = progress.epoch;
            slot.epochs = progress.epochs;
            slot.loss = progress.loss.or(slot.loss);
            slot.seconds_left = progress.seconds_left;
            if let Some((name, value)) = &progress.metric {
                slot.metric = Text::of(name);
                slot.value = Some(*value);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slot {
            shared::update_slot(slot, change);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.filter(|_| self.owns_slot) {
            shared::release_slot(slot);
        }
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Scan => "scan",
        Phase::Sequence => "sequence",
        Phase::Train => "train",
        Phase::Evaluate => "evaluate",
        Phase::Score => "score",
        Phase::Synthesize => "synthesize",
        Phase::Write => "write",
    }
}
