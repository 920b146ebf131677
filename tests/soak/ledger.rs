//! What was done, how long it took, and what was not as it should be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Tally {
    /// Milliseconds of what succeeded.
    took: Vec<f32>,
    /// How often it failed as it may.
    failed: usize,
}

#[derive(Default)]
struct Book {
    tallies: BTreeMap<&'static str, Tally>,
    troubles: Vec<String>,
}

/// One book for all threads.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

impl Ledger {
    fn with<R>(&self, body: impl FnOnce(&mut Book) -> R) -> R {
        body(&mut self.0.lock().expect("nobody panics with the book"))
    }

    pub fn done(&self, name: &'static str, took: Duration) {
        self.with(|book| book.tallies.entry(name).or_default().took.push(took.as_secs_f32() * 1000.0));
    }

    pub fn failed(&self, name: &'static str) {
        self.with(|book| book.tallies.entry(name).or_default().failed += 1);
    }

    /// Notes what must not be; the soak ends.
    pub fn trouble(&self, what: String) {
        println!("TROUBLE: {what}");
        self.with(|book| book.troubles.push(what));
    }

    pub fn is_clean(&self) -> bool {
        self.with(|book| book.troubles.is_empty())
    }

    pub fn print(&self) {
        println!(
            "\n{:<34} {:>8} {:>8} {:>12} {:>12} {:>12}",
            "what", "done", "failed", "median, ms", "p99, ms", "longest, ms"
        );
        self.with(|book| {
            for (name, tally) in &mut book.tallies {
                tally.took.sort_unstable_by(f32::total_cmp);
                let at = |share: f64| {
                    let place = (tally.took.len() as f64 * share) as usize;
                    tally.took.get(place.min(tally.took.len().saturating_sub(1))).copied().unwrap_or(f32::NAN)
                };
                let (median, p99, longest) = (at(0.5), at(0.99), at(1.0));
                println!(
                    "{name:<34} {:>8} {:>8} {median:>12.1} {p99:>12.1} {longest:>12.1}",
                    tally.took.len(),
                    tally.failed
                );
            }
        });
    }

    /// Panics where anything was not as it should be, or one of these was never done.
    pub fn judge(&self, names: impl Iterator<Item = &'static str>) {
        for name in names {
            if self.with(|book| book.tallies.get(name).is_none_or(|tally| tally.took.is_empty())) {
                self.trouble(format!("it never came to: {name}"));
            }
        }
        self.with(|book| assert!(book.troubles.is_empty(), "{}", book.troubles.join("\n")));
    }
}
