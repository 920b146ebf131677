//! A version that is asked about entities: their profiles, and the vectors of items.

use crate::device;
use crate::error::Result;
use crate::evaluate::Protocol;
use crate::lists::Lists;
use crate::reduce;
use crate::report::Reporter;
use crate::score::{Rows, Scoring, Tell};
use crate::states::States;
use crate::version::{Trained, Version};
use persona_core::Error;
use persona_core::features::{Encoded, Vocabulary};
use persona_core::labels::Example;
use persona_core::protocol::{Job, Outcome, Phase};

/// A version that is asked about the entities of some events.
pub struct Asked<'a> {
    pub version: &'a Version,
    pub trained: &'a Trained,
    pub encoded: &'a Encoded,
    /// How vectors are reduced, if that is known.
    pub mapping: Option<&'a [u8]>,
    /// What a mapping is fitted by, where it is to be and needs a label.
    pub labelled: &'a [Example],
    /// What has been carried from events before these.
    pub states: Option<&'a States>,
}

impl Asked<'_> {
    /// Sends profiles, and items where these are not left out.
    pub fn tell(&self, job: &Job, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
        let mut rows = Rows::default();
        let scoring = self.profiles(job, outcome, reporter, &mut |batch, reporter| rows.send(&batch, reporter))?;
        match self.target().filter(|_| !job.ask.without_items) {
            Some((field, vocabulary)) => scoring.items(vocabulary, field, &job.source, reporter),
            None => Ok(()),
        }
    }

    /// The field that is predicted, and its values.
    fn target(&self) -> Option<(usize, &Vocabulary)> {
        let Version { fitted, spec, .. } = self.version;
        // What is drawn has no vectors of its values.
        fitted.target.zip(fitted.items()).filter(|_| spec.objective.adversarial().is_none())
    }

    /// Hands the rows of profiles over. A mapping that is fitted is sent.
    pub fn profiles(
        &self,
        job: &Job,
        outcome: &mut Outcome,
        reporter: &mut Reporter,
        tell: &mut Tell,
    ) -> Result<Scoring<'_>> {
        let Asked { version, trained, encoded, mapping, labelled, states } = *self;
        let spec = &version.spec;
        reporter.enter(Phase::Score)?;
        let lists = match (job.ask.recommendations, self.target()) {
            (0, _) => None,
            (_, None) => return Err(Error::protocol("lists were asked of a version that predicts no field").into()),
            (most, Some((_, vocabulary))) => {
                let scorer = trained.scorer(spec.training.batch_events);
                let (evaluation, seed, threads) = (&spec.evaluation, spec.training.seed, device::threads());
                let protocol = Protocol { evaluation, seed, information: None, threads };
                let (values, items) = (&vocabulary.values, vocabulary.len());
                let many = 2 * most * encoded.entities() > items;
                let whole = many.then(|| values.arrow(0..items));
                Some(Lists { scorer, protocol, most, values, whole })
            }
        };
        let mut scoring = Scoring::new(version, trained, encoded, lists)?;
        if job.ask.lists_alone {
            scoring.tell_lists_alone();
        }
        if let Some(reduce) = &job.ask.reduce {
            let mapping = reduce::mapping(reduce, mapping, &scoring, labelled, outcome, reporter)?;
            scoring.reduce(mapping)?;
        }
        if job.ask.states {
            scoring.carry(&version.spec, states)?;
        }
        scoring.profiles(&job.source, reporter, tell)?;
        Ok(scoring)
    }
}
