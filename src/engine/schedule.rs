//! The learning rate from step to step, as a share of the specification's.

use persona_core::spec;
use std::f64::consts::PI;

/// Epochs in succession without a better validation metric before the rate is halved on a plateau.
const PLATEAU: usize = 2;

/// A linear warm-up, and what follows it.
pub struct Schedule {
    kind: spec::Schedule,
    warmup: usize,
    steps: usize,
    step: usize,
    /// Epochs since the validation metric was best, or since the rate was halved.
    waited: usize,
    halvings: i32,
}

impl Schedule {
    /// `steps`: as many as training will take at most; warming up takes no more than a tenth of them.
    pub fn new(kind: spec::Schedule, warmup: usize, steps: usize) -> Self {
        Schedule { kind, warmup: warmup.min(steps / 10), steps, step: 0, waited: 0, halvings: 0 }
    }

    /// The share of the learning rate at the next step.
    pub fn next(&mut self) -> f64 {
        self.step += 1;
        if self.step < self.warmup {
            return self.step as f64 / self.warmup as f64;
        }
        match self.kind {
            spec::Schedule::Constant => 1.0,
            spec::Schedule::Cosine => {
                let gone = (self.step - self.warmup) as f64 / (self.steps - self.warmup).max(1) as f64;
                0.5 * (1.0 + (PI * gone.min(1.0)).cos())
            }
            spec::Schedule::Plateau => 0.5f64.powi(self.halvings),
        }
    }

    /// Takes note of whether an epoch's validation metric is the best so far.
    pub fn observe(&mut self, better: bool) {
        self.waited = if better { 0 } else { self.waited + 1 };
        if self.waited == PLATEAU {
            (self.waited, self.halvings) = (0, self.halvings + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(mut schedule: Schedule, steps: usize) -> Vec<f64> {
        (0..steps).map(|_| (schedule.next() * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn warm_up_is_linear_and_ends() {
        assert_eq!(shares(Schedule::new(spec::Schedule::Constant, 4, 100), 6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(shares(Schedule::new(spec::Schedule::Constant, 0, 100), 2), [1.0, 1.0]);
        // A tenth of 20 steps.
        assert_eq!(shares(Schedule::new(spec::Schedule::Constant, 100, 20), 2), [0.5, 1.0]);
    }

    /// Steps 1 to 5 after warming up: cosines of a quarter turn more each time, from 0 to half a turn.
    #[test]
    fn a_cosine_ends_at_nothing() {
        let share = |quarter: f64| ((0.5 + 0.5 * (PI * quarter / 4.0).cos()) * 1e6).round() / 1e6;
        let expected = [share(1.0), 0.5, share(3.0), 0.0, 0.0];
        assert_eq!(shares(Schedule::new(spec::Schedule::Cosine, 0, 4), 5), expected);
        assert_eq!(shares(Schedule::new(spec::Schedule::Cosine, 2, 20), 2), [0.5, 1.0]);
    }

    #[test]
    fn a_plateau_of_two_epochs_halves_the_rate() {
        let mut schedule = Schedule::new(spec::Schedule::Plateau, 0, 100);
        let seen = [true, false, true, false, false, false, false].map(|better| {
            schedule.observe(better);
            schedule.next()
        });
        assert_eq!(seen, [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]);
    }
}
