//! Each field of the events in both parts, and how active their entities are.

use super::cells::{self, MISSING, Ranges};
use super::{Bounds, CURRENT, Parts, REFERENCE, Shift, Tally};
use crate::error::Result;
use crate::events::{Column, NULL};
use crate::features::{FIRST, Lists, Tags, TextOptions, Texts, Tokenizer, moment};
use crate::source::{Clock, Field, FieldKind, SourceSchema};
use crate::threads::each;

/// How far each field has moved, those that moved farthest first; the same whatever the threads. `schema`: with attributes.
/// Vectors have no figures, as their numbers mean nothing one by one.
pub fn fields(parts: &Parts, schema: &SourceSchema, bounds: &Bounds, threads: usize) -> Result<Vec<Shift>> {
    if bounds.psi.is_none() && bounds.js.is_none() {
        return Ok(Vec::new());
    }
    let fields = schema.fields.iter().zip(&parts.events.columns).collect();
    let of_field = |(field, column): (&Field, &Column)| {
        let tally = of_column(parts, field, column)?;
        Ok(tally.map_or(Vec::new(), |tally| shifts("field", &field.name, &tally, bounds)))
    };
    let of_fields = each(fields, threads, of_field).into_iter().collect::<Result<Vec<_>>>()?;
    let active = [("gap", gaps(parts)), ("events", activity(parts, schema.clock))];
    let active =
        active.into_iter().flat_map(|(name, tally)| tally.map(|tally| shifts("activity", name, &tally, bounds)));
    let mut all: Vec<Shift> = of_fields.into_iter().chain(active).flatten().collect();
    all.sort_by(|a, b| a.measure.cmp(&b.measure).reverse().then(b.value.total_cmp(&a.value)));
    Ok(all)
}

fn shifts(what: &str, name: &str, tally: &Tally, bounds: &Bounds) -> Vec<Shift> {
    let [reference, current] = tally.sizes();
    let shift = |measure: &str, value: f64, bound: Option<f64>, chance: Option<f64>| {
        let threshold = chance.map(|chance| chance.max(bound.unwrap_or(0.0)));
        let (what, name, measure) = (what.to_string(), name.to_string(), measure.to_string());
        bound.map(|_| Shift { what, name, measure, value, threshold, reference, current })
    };
    let figures = [
        shift("psi", tally.psi(), bounds.psi, tally.psi_by_chance()),
        shift("js", tally.js(), bounds.js, tally.js_by_chance()),
    ];
    figures.into_iter().flatten().filter(|shift| shift.value.is_finite()).collect()
}

/// None where there is nothing to compare.
fn of_column(parts: &Parts, field: &Field, column: &Column) -> Result<Option<Tally>> {
    Ok(match (column, field.kind) {
        (Column::Vector { .. }, _) => None,
        (Column::Number(numbers), _) => of_numbers(parts, |event| f64::from(numbers[event])),
        (Column::Category { codes, values }, FieldKind::Time) => {
            let days = |event| f64::from(moment::distance(codes, values, &parts.events.time, event));
            of_numbers(parts, days)
        }
        (Column::Category { codes, values }, FieldKind::Text) => {
            let texts = Texts::fit(Tokenizer::new(TextOptions::default())?, codes, values, field.min_count);
            let (codes, lists) = texts.encode(codes.clone(), values);
            Some(of_lists(parts, &codes, &lists, texts.size()))
        }
        (Column::Category { codes, values }, FieldKind::Tags) => {
            let tags = Tags::fit(&field.name, codes, values, field.min_count)?;
            let (codes, lists) = tags.encode(&field.name, codes.clone(), values)?;
            Some(of_lists(parts, &codes, &lists, tags.size()))
        }
        (Column::Category { codes, values }, _) => Some(of_codes(parts, codes, values.len())),
    })
}

fn of_numbers(parts: &Parts, number: impl Fn(usize) -> f64) -> Option<Tally> {
    let ranges = Ranges::of_events(parts, &number)?;
    Some(of_events(parts, ranges.cells(), |event, found| found.push((ranges.cell(number(event)), 1.0))))
}

fn of_codes(parts: &Parts, codes: &[u32], values: usize) -> Tally {
    let known = |event: usize| Some(codes[event]).filter(|&code| code != NULL);
    let (cells, size) = cells::of_values(&occurrences(parts, values, known));
    let cell = |event| known(event).map_or(MISSING, |code| cells[code as usize]);
    of_events(parts, size, |event, found| found.push((cell(event), 1.0)))
}

/// What is in an event's list shares the one that the event counts; without any, it counts as missing.
fn of_lists(parts: &Parts, codes: &[u32], lists: &Lists, size: usize) -> Tally {
    // Both start with the codes of what is missing and of what is unknown to all: the latter is rare.
    let of_event = |event: usize| lists.get(codes[event] as usize).iter().copied();
    let (mut cells, size) =
        cells::of_values(&occurrences(parts, size, |event| of_event(event).filter(|&code| code >= FIRST)));
    cells[..FIRST as usize].copy_from_slice(&[MISSING, cells::RARE]);
    of_events(parts, size, |event, found| {
        let weight = 1.0 / lists.get(codes[event] as usize).len() as f64;
        found.extend(of_event(event).map(|code| (cells[code as usize], weight)));
    })
}

/// How often each of so many codes occurs in both parts.
fn occurrences<I: IntoIterator<Item = u32>>(parts: &Parts, codes: usize, of: impl Fn(usize) -> I) -> Vec<[u64; 2]> {
    let mut counts = vec![[0; 2]; codes];
    for part in [REFERENCE, CURRENT] {
        parts.events_of(part).flat_map(&of).for_each(|code| counts[code as usize][part] += 1);
    }
    counts
}

/// `found`: adds the cells of an event.
fn of_events(parts: &Parts, cells: usize, found: impl Fn(usize, &mut Vec<(u32, f64)>)) -> Tally {
    of_entities(parts, cells, |entity, part, occurring| {
        parts.of(entity, part).for_each(|event| found(event, occurring));
    })
}

/// `found`: adds the cells of an entity in a part.
fn of_entities(parts: &Parts, cells: usize, found: impl Fn(usize, usize, &mut Vec<(u32, f64)>)) -> Tally {
    let mut tally = Tally::new(cells);
    let mut occurring = Vec::new();
    for part in [REFERENCE, CURRENT] {
        for entity in 0..parts.events.entities() {
            occurring.clear();
            found(entity, part, &mut occurring);
            tally.add(part, &mut occurring);
        }
    }
    tally
}

/// The time since the entity's event before; first events have none and are not counted.
fn gaps(parts: &Parts) -> Option<Tally> {
    let events = parts.events;
    let gaps = |entity: usize, part: usize| {
        let later = parts.of(entity, part).skip_while(move |&event| event == events.offsets[entity]);
        later.map(move |event| events.time[event] - events.time[event - 1])
    };
    let all = |part| (0..events.entities()).flat_map(move |entity| gaps(entity, part));
    let ranges = Ranges::fit(all(REFERENCE), [REFERENCE, CURRENT].map(|part| all(part).count()))?;
    Some(of_entities(parts, ranges.cells(), |entity, part, found| {
        found.extend(gaps(entity, part).map(|gap| (ranges.cell(gap), 1.0)))
    }))
}

/// How many events an active entity has, in the current part and in the same time before it; none where the reference is
/// shorter than that.
fn activity(parts: &Parts, clock: Clock) -> Option<Tally> {
    let since = parts.recent(clock)?;
    if parts.events.oldest()? > since {
        return None;
    }
    let count = |entity: usize, part: usize| {
        let later = parts.of(entity, part).filter(|&event| parts.events.time[event] >= since).count();
        (later > 0).then_some(later as f64)
    };
    let active = |part| (0..parts.events.entities()).filter_map(move |entity| count(entity, part));
    let ranges = Ranges::fit(active(REFERENCE), [REFERENCE, CURRENT].map(|part| active(part).count()))?;
    Some(of_entities(parts, ranges.cells(), |entity, part, found| {
        found.extend(count(entity, part).map(|count| (ranges.cell(count), 1.0)));
    }))
}
