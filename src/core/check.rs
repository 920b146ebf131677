//! What `check_source` reports: facts about a source's events, and what would make training fail.

use crate::events::{Column, Events, NULL};
use crate::features::number;
use crate::labels::Examples;
use crate::protocol::{Finding, Severity};
use crate::source::{Field, FieldKind, Label, SourceSchema};
use crate::threads::each;
use std::time::SystemTime;

/// Share of events with a value of their own above which a category is likely the key of its rows.
const ALMOST_ALL: f64 = 0.9;

/// What an objective asks of every class, unless it is told otherwise.
const FEW_EXAMPLES: usize = 100;

/// The findings in a fixed order: source, entity, time, then the fields, made on so many threads.
/// The labels come last; `tables`: those of labels that have one, under the labels' names. `notes`: what joining attributes came to.
pub fn findings(
    events: &Events,
    schema: &SourceSchema,
    tables: &[(String, Events)],
    notes: &[String],
    threads: usize,
) -> Vec<Finding> {
    let mut parts = vec![Part::Source];
    if !events.is_empty() {
        parts.extend([Part::Lengths, Part::Time, Part::Duplicates]);
    }
    parts.extend((0..events.columns.len()).map(Part::Field));
    let of_part = |part| match part {
        Part::Source => source(events),
        Part::Lengths => lengths(events),
        Part::Time => time(events, schema),
        Part::Duplicates => vec![duplicates(events)],
        Part::Field(i) => of_field(i, events, schema),
    };
    let mut findings = each(parts, threads, of_part).concat();
    findings.extend(no_target(events, schema));
    findings.extend(notes.iter().map(|note| finding(Severity::Warning, "source", "attributes", note, None)));
    findings.extend(schema.labels.iter().flat_map(|label| examples(label, schema, events, tables)));
    findings
}

/// What is looked at by itself.
enum Part {
    Source,
    Lengths,
    Time,
    Duplicates,
    Field(usize),
}

fn of_field(i: usize, events: &Events, schema: &SourceSchema) -> Vec<Finding> {
    let (field, column) = (&schema.fields[i], &events.columns[i]);
    let mut findings = values(field, column);
    findings.extend(infinite(field, events.report.infinite_numbers.get(i).copied().unwrap_or(0)));
    findings.extend(mistyped(&field.name, events.report.mistyped.get(i).copied().unwrap_or(0)));
    findings.extend(outliers(&field.name, column, schema.cleaning.winsorize));
    findings
}

/// How many examples a label has, by class.
fn examples(label: &Label, schema: &SourceSchema, events: &Events, tables: &[(String, Events)]) -> Vec<Finding> {
    let table = tables.iter().find(|(name, _)| *name == label.name).map(|(_, table)| table);
    let examples = match Examples::new(label, schema, events, table, 0) {
        Ok(examples) => examples,
        Err(error) => {
            return vec![finding(Severity::Error, &label.name, "label", error.message, error.hint.as_deref())];
        }
    };
    let mut findings = vec![info(&label.name, "examples", examples.rows.len())];
    let counts = examples.counts();
    for (class, count) in counts.iter().enumerate() {
        let (severity, hint) = match *count < FEW_EXAMPLES {
            true => {
                (Severity::Warning, Some("Classes need 100 examples, unless the objective's min_examples says less."))
            }
            false => (Severity::Info, None),
        };
        let name = examples.classes.as_ref().map(|classes| classes.text(class)).unwrap_or_default();
        findings.push(finding(severity, &label.name, &format!("class {name}"), count, hint));
    }
    findings.extend(examples.notes.iter().map(|note| finding(Severity::Warning, &label.name, "set aside", note, None)));
    findings
}

fn finding(severity: Severity, subject: &str, finding: &str, value: impl ToString, hint: Option<&str>) -> Finding {
    Finding {
        severity,
        subject: subject.to_string(),
        finding: finding.to_string(),
        value: value.to_string(),
        hint: hint.map(str::to_string),
    }
}

fn info(subject: &str, name: &str, value: impl ToString) -> Finding {
    finding(Severity::Info, subject, name, value, None)
}

fn source(events: &Events) -> Vec<Finding> {
    let report = &events.report;
    let mut findings = vec![info("source", "rows", report.rows)];
    let aside = [
        ("entity", "nulls", report.null_entity, "Rows without an entity are set aside."),
        ("time", "nulls", report.null_time, "Rows without a time are set aside."),
        ("time", "infinite", report.infinite_time, "Rows whose time is infinite are set aside."),
        (
            "time",
            "early",
            report.early,
            "Rows whose time is before the earliest of the source's cleaning are set aside.",
        ),
        (
            "time",
            "future",
            report.future,
            "Rows whose time is after the latest of the source's cleaning are set aside.",
        ),
        ("source", "dropped", report.duplicates, "Of rows that repeat entity, time and all fields one is kept."),
    ];
    for (subject, name, rows, hint) in aside.into_iter().filter(|reason| reason.2 > 0) {
        findings.push(finding(Severity::Warning, subject, name, rows, Some(hint)));
    }
    match events.is_empty() {
        true => findings.push(finding(
            Severity::Error,
            "source",
            "events",
            0,
            Some("Training needs events; insert some first."),
        )),
        false => findings.push(info("source", "events", events.len())),
    }
    findings
}

fn lengths(events: &Events) -> Vec<Finding> {
    let mut lengths: Vec<usize> = events.offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    lengths.sort_unstable();
    let quantile = |share: f64| lengths[((lengths.len() - 1) as f64 * share).round() as usize];
    let (shortest, longest) = (quantile(0.0), quantile(1.0));
    let value = format!("min {shortest}, median {}, p95 {}, max {longest}", quantile(0.5), quantile(0.95));
    let (severity, hint) = match longest {
        1 => (
            Severity::Error,
            Some("No entity has two events, so nothing follows anything; check that the entity column names who acts."),
        ),
        _ => (Severity::Info, None),
    };
    let single = lengths.partition_point(|&length| length == 1);
    let mut findings =
        vec![info("entity", "entities", lengths.len()), finding(severity, "entity", "length", value, hint)];
    if single > 0 {
        findings.push(info("entity", "single_event", single));
    }
    findings
}

fn time(events: &Events, schema: &SourceSchema) -> Vec<Finding> {
    let (oldest, newest) = (events.oldest(), events.newest());
    let text = |at: Option<f64>| at.map_or(String::new(), |at| schema.clock.text(at));
    let mut findings = vec![info("time", "span", format!("{} to {}", text(oldest), text(newest)))];
    if oldest == newest {
        let hint =
            "All events have the same time, so their order is the order of the rows and no temporal split is possible.";
        findings.push(finding(Severity::Error, "time", "constant", text(newest), Some(hint)));
    }
    // Rows of a table are in no order, so this says how the table is stored and not that it is wrong.
    findings.push(info(
        "time",
        "clock_order",
        format!("{} rows arrived after a later event of their entity", events.report.late),
    ));
    findings.extend(newest.and_then(|newest| future(events, newest, schema)));
    findings
}

/// Events that have not happened yet. A day is allowed for clocks of other time zones.
fn future(events: &Events, newest: f64, schema: &SourceSchema) -> Option<Finding> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_micros() as f64;
    let latest = now + schema.clock.day();
    if !schema.clock.has_calendar() || schema.cleaning.latest.is_some() || newest <= latest {
        return None;
    }
    let rows = events.time.iter().filter(|&&at| at > latest).count();
    let hint = "Events that have not happened yet are learned from; create the source with cleaning latest \"now\" if they are mistakes.";
    Some(finding(Severity::Warning, "time", "future", rows, Some(hint)))
}

fn duplicates(events: &Events) -> Finding {
    let hint = "Rows that repeat entity, time and all fields are learned from each time; create the source with cleaning duplicates \"drop\" if they are mistakes.";
    match events.repeated().len() {
        0 => info("source", "duplicates", 0),
        rows => finding(Severity::Warning, "source", "duplicates", rows, Some(hint)),
    }
}

fn values(field: &Field, column: &Column) -> Vec<Finding> {
    let name = &field.name;
    let (rows, nulls, distinct, varies) = match column {
        Column::Vector { codes, rows } => {
            let nulls = codes.iter().filter(|&&code| code == NULL).count();
            (codes.len(), nulls, Some(rows.len()), rows.len() > 1)
        }
        Column::Category { codes, values } => {
            let nulls = codes.iter().filter(|&&code| code == NULL).count();
            (codes.len(), nulls, Some(values.len()), values.len() > 1)
        }
        Column::Number(numbers) => {
            let nulls = numbers.iter().filter(|number| number.is_nan()).count();
            let mut known = numbers.iter().filter(|number| !number.is_nan());
            let first = known.next();
            (numbers.len(), nulls, None, known.any(|number| Some(number) != first))
        }
    };
    let mut findings = Vec::new();
    if nulls == rows && rows > 0 {
        findings.push(finding(
            Severity::Warning,
            name,
            "nulls",
            nulls,
            Some("All values are NULL: the field is left out, and cannot be predicted."),
        ));
        return findings;
    }
    findings.push(info(name, "nulls", nulls));
    findings.extend(distinct.map(|distinct| info(name, "distinct", distinct)));
    if !varies && rows > 0 {
        findings.push(finding(
            Severity::Warning,
            name,
            "constant",
            1,
            Some("The field has only one value, and cannot be predicted."),
        ));
    }
    // Times and vectors that are all different still have distances.
    let names = !matches!(field.kind, FieldKind::Time | FieldKind::Vector);
    if distinct.is_some_and(|distinct| names && distinct > 1 && distinct as f64 > ALMOST_ALL * (rows - nulls) as f64) {
        let hint =
            "Almost every event has a value of its own, which teaches nothing; choose a column whose values repeat.";
        findings.push(finding(Severity::Warning, name, "unique", distinct.unwrap_or(0), Some(hint)));
    }
    findings
}

fn infinite(field: &Field, rows: u64) -> Option<Finding> {
    let hint = match field.kind {
        FieldKind::Time => "Times that are infinite count as NULL.",
        _ => "Numbers that are not finite in single precision count as NULL.",
    };
    (rows > 0).then(|| finding(Severity::Warning, &field.name, "infinite", rows, Some(hint)))
}

fn mistyped(name: &str, rows: u64) -> Option<Finding> {
    let hint = "Values of another type than the field's kind count as NULL.";
    (rows > 0).then(|| finding(Severity::Warning, name, "mistyped", rows, Some(hint)))
}

/// What would be drawn in if all events were trained on.
fn outliers(name: &str, column: &Column, share: f64) -> Option<Finding> {
    let Column::Number(numbers) = column else { return None };
    let (low, high) = number::bounds(numbers.iter().copied().filter(|number| !number.is_nan()), share)?;
    let hint = format!(
        "Numbers outside {low} to {high} are drawn in; these are quantiles of all events, and training takes those of its own."
    );
    Some(finding(Severity::Info, name, "outliers", number::outside(numbers, (low, high)), Some(&hint)))
}

/// Without a category of two values there is nothing to predict.
fn no_target(events: &Events, schema: &SourceSchema) -> Option<Finding> {
    let can = |(field, column): (&Field, &Column)| match column {
        Column::Category { values, .. } => field.kind != FieldKind::Time && values.len() > 1,
        Column::Number(_) | Column::Vector { .. } => false,
    };
    let hint = "Predicting the next event needs a field of kind category with at least two values; declare one in create_source.";
    let none = !events.is_empty() && !schema.fields.iter().zip(&events.columns).any(can);
    none.then(|| finding(Severity::Error, "source", "targets", 0, Some(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Keys, Report, Values};
    use crate::source::{Clock, KeyType, ValueType};

    fn schema(clock: Clock) -> SourceSchema {
        SourceSchema::new(
            KeyType::Integer,
            clock,
            vec![
                Field::new("item", FieldKind::Category, ValueType::Integer),
                Field::new("price", FieldKind::Number, ValueType::Number),
            ],
        )
    }

    /// Two entities; events 1 and 3 of the first one are the same.
    fn events() -> Events {
        let day = 86_400e6;
        Events {
            keys: Keys::Integer(vec![1, 2]),
            offsets: vec![0, 5, 6],
            time: [0.0, 1.0, 1.0, 1.0, 2.0, 3.0].map(|at| at * day).to_vec(),
            columns: vec![
                Column::Category { codes: vec![0, 1, 0, 1, NULL, 1], values: Values::Integer(vec![7, 9]) },
                Column::Number(vec![1.0, f32::NAN, 2.0, f32::NAN, 1.0, 1.0]),
            ],
            report: Report {
                rows: 9,
                null_entity: 2,
                infinite_time: 1,
                late: 4,
                infinite_numbers: vec![0, 1],
                ..Report::default()
            },
        }
    }

    fn lines(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|f| format!("{:?} {} {} {}", f.severity, f.subject, f.finding, f.value)).collect()
    }

    #[test]
    fn facts_by_hand() {
        let expected = [
            "Info source rows 9",
            "Warning entity nulls 2",
            "Warning time infinite 1",
            "Info source events 6",
            "Info entity entities 2",
            "Info entity length min 1, median 5, p95 5, max 5",
            "Info entity single_event 1",
            "Info time span 1970-01-01T00:00:00Z to 1970-01-04T00:00:00Z",
            "Info time clock_order 4 rows arrived after a later event of their entity",
            "Warning source duplicates 1",
            "Info item nulls 1",
            "Info item distinct 2",
            "Info price nulls 2",
            "Warning price infinite 1",
        ];
        assert_eq!(lines(&findings(&events(), &schema(Clock::Timestamp), &[], &[], 2)), expected);
    }

    #[test]
    fn what_makes_training_fail_is_an_error() {
        let errors = |events: &Events| -> Vec<String> {
            let mut findings = findings(events, &schema(Clock::Number), &[], &[], 2);
            findings.retain(|finding| finding.severity == Severity::Error);
            assert!(findings.iter().all(|finding| finding.hint.is_some()));
            lines(&findings)
        };
        assert_eq!(errors(&events()), [""; 0]);
        let single = Events { offsets: (0..7).collect(), ..events() };
        assert_eq!(errors(&single), ["Error entity length min 1, median 1, p95 1, max 1"]);
        let standing = Events { time: vec![1.5; 6], ..events() };
        assert_eq!(errors(&standing), ["Error time constant 1.5"]);
        let constant = Column::Category { codes: vec![0; 6], values: Values::Integer(vec![7]) };
        let nothing = Events { columns: vec![constant, Column::Number(vec![f32::NAN; 6])], ..events() };
        assert_eq!(errors(&nothing), ["Error source targets 0"]);
        let column = Column::Category { codes: vec![], values: Values::Integer(vec![]) };
        let (keys, columns) = (Keys::Integer(vec![]), vec![column, Column::Number(vec![])]);
        let empty = Events { keys, offsets: vec![0], time: vec![], columns, report: Report::default() };
        assert_eq!(errors(&empty), ["Error source events 0"]);
    }

    #[test]
    fn values_that_never_repeat_are_a_warning() {
        let mut events = events();
        events.columns[0] = Column::Category { codes: (0..6).collect(), values: Values::Integer((0..6).collect()) };
        assert!(
            lines(&findings(&events, &schema(Clock::Date), &[], &[], 2)).contains(&"Warning item unique 6".to_string())
        );
    }
}
