//! Questions that wait for one version: whose turn it is takes those with it that want the same, and what the network costs
//! for one entity is paid for all of them at once. Nobody waits for others to come.

use crate::asked::Asked;
use crate::error::Result;
use crate::intake::Stored;
use crate::report::Reporter;
use crate::states::States;
use crate::version::{Trained, Version};
use arrow_array::RecordBatch;
use persona_core::Error;
use persona_core::features::Encoded;
use persona_core::protocol::{Job, Outcome, Role};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most entities of a question that is answered with others, and of all of them.
const FEW: usize = 16;
const MOST: usize = 64;

/// Who waits for their turn.
#[derive(Default)]
pub struct Waiting(Mutex<Vec<Waiter>>);

struct Waiter {
    question: Question,
    answer: Sender<Result<Vec<RecordBatch>>>,
}

/// Entities that are to be scored by a job, whose rows depend on no others.
pub struct Question {
    job: Arc<Job>,
    pub encoded: Arc<Encoded>,
    /// How vectors are reduced, if that is known.
    mapping: Option<Vec<u8>>,
    /// What has been carried from events before these.
    states: Option<States>,
}

impl Question {
    pub fn new(job: &Arc<Job>, encoded: Encoded, mut stored: Stored, states: Option<States>) -> Question {
        Question { job: job.clone(), encoded: Arc::new(encoded), mapping: stored.take(Role::Mapping).pop(), states }
    }

    /// Sends what is told of the entities.
    pub fn tell(
        &self,
        version: &Version,
        trained: &Trained,
        outcome: &mut Outcome,
        reporter: &mut Reporter,
    ) -> Result<()> {
        let Question { job, encoded, mapping, states } = self;
        let (mapping, states) = (mapping.as_deref(), states.as_ref());
        Asked { version, trained, encoded, mapping, labelled: &[], states }.tell(job, outcome, reporter)
    }

    /// Whether nothing but rows is told, of few entities.
    pub fn is_plain(&self) -> bool {
        let Question { job, encoded, mapping, states } = self;
        let fitted = job.ask.reduce.is_none() || mapping.is_some();
        encoded.entities() <= FEW && states.is_none() && job.ask.without_items && fitted
    }

    fn wants_the_same(&self, other: &Question) -> bool {
        let same_job = Arc::ptr_eq(&self.job, &other.job) || self.job == other.job;
        same_job && self.mapping == other.mapping
    }

    fn rows(&self, encoded: &Encoded, version: &Version, trained: &Trained) -> Result<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        let (mapping, mut reporter) = (self.mapping.as_deref(), Reporter::new(|_| Ok(())));
        let asked = Asked { version, trained, encoded, mapping, labelled: &[], states: None };
        asked.profiles(&self.job, &mut Outcome::default(), &mut reporter, &mut |batch, _| {
            rows.push(batch);
            Ok(())
        })?;
        Ok(rows)
    }
}

impl Waiting {
    /// What is told of the entities of a plain question. `turn` waits until the version is free, and gives it.
    pub fn ask<'a>(
        &self,
        question: Question,
        version: &Version,
        turn: impl FnOnce() -> Result<MutexGuard<'a, Option<Trained>>>,
    ) -> Result<Vec<RecordBatch>> {
        let (answer, answered) = channel();
        let own = question.encoded.clone();
        self.lock().push(Waiter { question, answer });
        let turn = turn()?;
        // Whose turn it was before has answered it, or it is still there.
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        let trained = turn.as_ref().ok_or_else(|| Error::protocol("a version was not opened"))?;
        self.answer(&own, version, trained);
        drop(turn);
        answered.recv().map_err(|_| Error::protocol("a question was lost"))?
    }

    /// Answers one of those that wait, and all that want the same.
    fn answer(&self, own: &Arc<Encoded>, version: &Version, trained: &Trained) {
        let group = self.take(own);
        match together(&group, version, trained) {
            // Who has gone needs no answer.
            Some(answers) => {
                group.into_iter().zip(answers).for_each(|(waiter, rows)| drop(waiter.answer.send(Ok(rows))))
            }
            None => group.into_iter().for_each(|waiter| {
                let rows = waiter.question.rows(&waiter.question.encoded, version, trained);
                drop(waiter.answer.send(rows));
            }),
        }
    }

    /// One, and those that go with it. The others wait for a turn of their own.
    fn take(&self, own: &Arc<Encoded>) -> Vec<Waiter> {
        let mut waiting = self.lock();
        let Some(place) = waiting.iter().position(|waiter| Arc::ptr_eq(&waiter.question.encoded, own)) else {
            return Vec::new();
        };
        let mut group = vec![waiting.remove(place)];
        let mut entities = own.entities();
        for waiter in std::mem::take(&mut *waiting) {
            match group[0].question.wants_the_same(&waiter.question) && entities < MOST {
                true => {
                    entities += waiter.question.encoded.entities();
                    group.push(waiter);
                }
                false => waiting.push(waiter),
            }
        }
        group
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows of each; none where they cannot be answered at once, or one of them is at fault for all.
fn together(group: &[Waiter], version: &Version, trained: &Trained) -> Option<Vec<Vec<RecordBatch>>> {
    let [first, _, ..] = group else { return None };
    let parts: Vec<&Encoded> = group.iter().map(|waiter| &*waiter.question.encoded).collect();
    let joined = Encoded::join(&parts)?;
    let rows = first.question.rows(&joined, version, trained).ok()?;
    let [rows] = rows.as_slice() else { return None };
    let mut start = 0;
    let slice = |part: &Encoded| {
        let own = rows.slice(start, part.entities());
        start += part.entities();
        vec![own]
    };
    Some(parts.into_iter().map(slice).collect())
}
