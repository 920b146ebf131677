//! Figures of groups of entities: the cases whose histories end with one value of a field, or whose entity has one class
//! of a label.

use crate::error::Result;
use crate::intake::Gathered;
use crate::report::Reporter;
use persona_core::events::{Column, NULL, Values};
use persona_core::features::Encoded;
use persona_core::labels::{Example, Examples, Truth};
use persona_core::metrics::{Judgement, case_id};
use persona_core::protocol::{Kind, Metric, Segment};
use persona_core::source::{FieldKind, Label, LabelKind, LabelOrigin, SourceSchema};
use persona_core::spec::listed;
use persona_core::{Error, ErrorKind};
use std::collections::HashMap;

/// The most values that have figures of their own.
const SEGMENTS: usize = 10;

/// Of the bootstrap of what folds have judged.
const SEED: u64 = 1;

/// Names of what is no value.
const ALL: &str = "(all)";
const OTHER: &str = "(other)";
const MISSING: &str = "(missing)";

/// What cases are grouped by.
pub struct Segments {
    values: Values,
    of: Of,
}

enum Of {
    /// By event: the field's code.
    Field(Vec<u32>),
    /// Entity, time from which on it holds, and class; by entity and time.
    Label(Vec<(usize, f64, u32)>),
}

impl Segments {
    /// By a category of the events, an attribute or a label of kind class from a table.
    pub fn new(by: &str, gathered: &Gathered) -> Result<Segments> {
        let Gathered { events, source, .. } = gathered;
        if let Some((place, field)) = source.field(by) {
            return match &events.columns[place] {
                Column::Category { codes, values } if field.kind == FieldKind::Category => {
                    Ok(Segments { values: values.clone(), of: Of::Field(codes.clone()) })
                }
                _ => Err(no_category(by, field.kind.name()).into()),
            };
        }
        let label = source.label(by).filter(|label| matches!(label.origin, LabelOrigin::Table { .. }));
        let label = label.ok_or_else(|| unknown(by, source))?;
        let Examples { classes, rows, .. } = Examples::new(label, source, events, gathered.label(by), 0)?;
        let values = classes.ok_or_else(|| no_category(by, "number"))?;
        let of = rows.iter().filter_map(|row| match row.truth {
            Truth::Class(class) => {
                Some((row.entity, if row.at.is_finite() { row.at } else { f64::NEG_INFINITY }, class))
            }
            Truth::Number(_) => None,
        });
        Ok(Segments { values, of: Of::Label(of.collect()) })
    }

    /// The value of a case: of the last event of a history that ends before event `end`, or what is known at a time.
    pub fn of(&self, entity: usize, end: usize, at: f64) -> Option<u32> {
        match &self.of {
            Of::Field(codes) => Some(codes[end - 1]).filter(|&code| code != NULL),
            Of::Label(known) => {
                let place = known.partition_point(|(of, from, _)| (*of, *from) <= (entity, at));
                let (of, _, class) = known.get(place.checked_sub(1)?)?;
                (*of == entity).then_some(*class)
            }
        }
    }

    /// Sends the figures of what folds have judged: cases that are told by name alone.
    pub fn of_folds(
        &self,
        judgements: &[Judgement],
        examples: &[Examples],
        encoded: &Encoded,
        reporter: &mut Reporter,
    ) -> Result<()> {
        for judged in judgements {
            let Some(examples) = examples.iter().find(|examples| examples.label == judged.subject) else { continue };
            let named =
                |row: &Example| (case_id(&encoded.keys, row.entity, row.at), self.of(row.entity, row.end, row.at));
            let known: HashMap<i64, Option<u32>> = examples.rows.iter().map(named).collect();
            let found = judged.ids.iter().enumerate().filter_map(|(i, id)| Some((i, *known.get(id)?)));
            let (places, of): (Vec<usize>, Vec<Option<u32>>) = found.unzip();
            if !places.is_empty() {
                reporter.json(Kind::Segments, &self.figures(&judged.select(&places), &of, SEED))?;
            }
        }
        Ok(())
    }

    /// The figures of all judged cases and of each group, the largest first; those that are small together. `of`: the value of
    /// each case.
    pub fn figures(&self, judged: &Judgement, of: &[Option<u32>], seed: u64) -> Vec<Segment> {
        let mut counts = vec![0usize; self.values.len()];
        of.iter().flatten().for_each(|&value| counts[value as usize] += 1);
        let mut values: Vec<u32> = (0..counts.len() as u32).filter(|&value| counts[value as usize] > 0).collect();
        values.sort_by(|&a, &b| {
            let by_size = counts[b as usize].cmp(&counts[a as usize]);
            by_size.then_with(|| self.values.compare(a as usize, b as usize))
        });
        // One that is left over needs no other name.
        let shown = if values.len() <= SEGMENTS + 1 { values.len() } else { SEGMENTS };
        let (own, small) = values.split_at(shown);
        let places =
            |wanted: &dyn Fn(Option<u32>) -> bool| (0..of.len()).filter(|&i| wanted(of[i])).collect::<Vec<usize>>();
        let mut groups = vec![(ALL.to_string(), places(&|_| true))];
        groups.extend(own.iter().map(|&v| (self.values.text(v as usize), places(&|value| value == Some(v)))));
        groups.push((OTHER.to_string(), places(&|value| value.is_some_and(|value| small.contains(&value)))));
        groups.push((MISSING.to_string(), places(&|value| value.is_none())));
        groups.retain(|(_, places)| !places.is_empty());
        groups.into_iter().map(|(name, places)| figures(name, &judged.select(&places), seed)).collect()
    }
}

fn figures(segment: String, judged: &Judgement, seed: u64) -> Segment {
    let known = |bound: f64| (!bound.is_nan()).then_some(bound);
    let metrics = judged.names().into_iter().zip(judged.intervals(seed)).filter(|(_, figure)| !figure.value.is_nan());
    let metrics = metrics.map(|(name, figure)| Metric {
        low: known(figure.low),
        high: known(figure.high),
        ..Metric::plain(&judged.split, name, figure.value)
    });
    Segment { segment, cases: judged.ids.len() as u64, metrics: metrics.collect() }
}

fn no_category(by: &str, kind: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("cases cannot be grouped by \"{by}\" of kind {kind}"))
        .hint("Group them by a category; a view can cut a number into some.")
}

/// Neither a field nor a label from a table.
fn unknown(by: &str, source: &SourceSchema) -> Error {
    let fields = source.fields.iter().filter(|f| f.kind == FieldKind::Category).map(|field| field.name.as_str());
    let from_table =
        |label: &&Label| matches!(label.origin, LabelOrigin::Table { .. }) && label.kind == LabelKind::Class;
    let labels = source.labels.iter().filter(from_table);
    Error::invalid(format!("\"{by}\" is neither a field nor a label from a table"))
        .hint(format!("Cases can be grouped by {}.", listed(fields.chain(labels.map(|label| label.name.as_str())))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_core::metrics::judgement::Cases;
    use persona_core::metrics::numbers::Predicted;

    fn judged(n: usize) -> Judgement {
        let mut predicted = Predicted::default();
        (0..n).for_each(|i| predicted.add(i as f64, 0.0));
        let ids = (0..n as i64).collect();
        Judgement { split: "test".into(), subject: "age".into(), ids, cases: Cases::Numbers(predicted) }
    }

    #[test]
    fn small_groups_are_put_together() {
        let values = Values::Integer((0..30).collect());
        let segments = Segments { values, of: Of::Field(Vec::new()) };
        // Two cases of each of twelve values, one without, three more of value 7.
        let of: Vec<Option<u32>> =
            (0..24).map(|i| Some(i / 2)).chain([None]).chain([Some(7), Some(7), Some(7)]).collect();
        let figures = segments.figures(&judged(28), &of, 1);
        let names: Vec<_> = figures.iter().map(|segment| (segment.segment.as_str(), segment.cases)).collect();
        assert_eq!(names[..3], [("(all)", 28), ("7", 5), ("0", 2)]);
        assert_eq!(names[names.len() - 2..], [("(other)", 4), ("(missing)", 1)]);
        assert_eq!(names.len(), 13);
        // Cases 0 and 1, off by 0 and 1.
        let mae = figures[2].metrics.iter().find(|metric| metric.metric == "age.mae").unwrap();
        assert_eq!((mae.value, mae.split.as_str()), (0.5, "test"));
    }

    #[test]
    fn a_label_holds_from_its_time_on() {
        let known = vec![(0, 5.0, 1), (0, 9.0, 0), (2, f64::NEG_INFINITY, 1)];
        let segments = Segments { values: Values::Integer(vec![0, 1]), of: Of::Label(known) };
        let of = |entity, at| segments.of(entity, 1, at);
        assert_eq!(
            [of(0, 4.0), of(0, 5.0), of(0, 99.0), of(1, 9.0), of(2, 0.0)],
            [None, Some(1), Some(0), None, Some(1)]
        );
    }
}
