//! Fitting.

use super::{
    Bins, FieldState, Fitted, FittedField, Moments, Numbers, Pace, Tags, TextOptions, Texts, TimeFeatures, Tokenizer,
    VectorScale, Vocabulary, moment, vocabulary,
};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Column, Events, NULL, Values, Vectors};
use crate::source::{Field, FieldKind, SourceSchema};
use crate::spec::ModelSpec;

/// Which events have a target that will get a code of its own: not NULL, and not rarer than the
/// field's `min_count`. This is what [`crate::split::partition`] asks before events are encoded.
/// An error where no model could learn from these events, whatever the split.
pub fn known_targets<'a>(
    events: &'a Events,
    schema: &SourceSchema,
    target: usize,
) -> Result<impl Fn(usize) -> bool + use<'a>> {
    let field = &schema.fields[target];
    let Column::Category { codes, values } = &events.columns[target] else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("objective next_event cannot predict field \"{}\" of kind number", field.name),
        ));
    };
    let counts = vocabulary::count(codes, values);
    let frequent: Vec<bool> = counts.into_iter().map(|count| count >= u64::from(field.min_count.max(1))).collect();
    check_target(field, codes, frequent.iter().filter(|&&frequent| frequent).count())?;
    Ok(move |event: usize| codes[event] != NULL && frequent[codes[event] as usize])
}

/// Which events have a rating; all have where the model predicts none. An error where ratings do not differ.
pub fn known_ratings<'a>(
    events: &'a Events,
    schema: &SourceSchema,
    spec: &ModelSpec,
) -> Result<impl Fn(usize) -> bool + use<'a>> {
    let ratings = match spec.ratings(schema)? {
        Some(value) => Some(check_ratings(&schema.fields[value], &events.columns[value])?),
        None => None,
    };
    Ok(move |event: usize| ratings.is_none_or(|ratings| !ratings[event].is_nan()))
}

impl Fitted {
    /// Fits vocabularies to all events, and the rest to the training events
    /// `offsets[i]..train_end[i]`.
    pub fn fit(events: &Events, schema: &SourceSchema, spec: &ModelSpec, train_end: &[usize]) -> Result<Self> {
        let (target, ratings) = (spec.target(schema)?, spec.ratings(schema)?);
        let training = Training { events, train_end, winsorize: schema.cleaning.winsorize, bins: spec.encoder.bins() };
        let fields = schema.fields.iter().zip(&events.columns).enumerate().map(|(i, (field, column))| {
            check_name(field)?;
            let state = match Some(i) == ratings {
                true => FieldState::Ratings,
                false => fit_field(field, column, Some(i) == target, &training)?,
            };
            Ok(FittedField { name: field.name.clone(), state })
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let time = match spec.encoder.time_gaps() {
            Some(gaps) => TimeFeatures::fit(&events.time, &events.offsets, train_end, schema.clock, gaps),
            None => TimeFeatures::default(),
        };
        let pace = |bins| Pace::fit(&events.time, &events.offsets, train_end, schema.clock, bins);
        Ok(Fitted { fields, time, pace: spec.encoder.bins().and_then(pace), target, cutoffs: None })
    }
}

/// What statistics other than vocabularies are fitted to.
struct Training<'a> {
    events: &'a Events,
    train_end: &'a [usize],
    winsorize: f64,
    /// Ranges of numbers that are read as categories.
    bins: Option<usize>,
}

impl Training<'_> {
    /// The training events.
    fn rows(&self) -> impl Iterator<Item = usize> + Clone {
        self.events.offsets.iter().zip(self.train_end).flat_map(|(&start, &end)| start..end)
    }
}

fn fit_field(field: &Field, column: &Column, target: bool, training: &Training) -> Result<FieldState> {
    Ok(match column {
        Column::Number(numbers) => fit_number(field, numbers, training),
        Column::Vector { codes, rows } => fit_vector(codes, rows, training),
        Column::Category { codes, values } if target => {
            FieldState::Category(Vocabulary::fit(codes, values, field.min_count))
        }
        Column::Category { codes, values } => match field.kind {
            FieldKind::Text => {
                let tokenizer = Tokenizer::new(TextOptions::default())?;
                fit_text(codes, Texts::fit(tokenizer, codes, values, field.min_count))
            }
            FieldKind::Tags => fit_tags(codes, Tags::fit(&field.name, codes, values, field.min_count)?),
            FieldKind::Time => fit_time(codes, values, training),
            FieldKind::Category | FieldKind::Number | FieldKind::Vector => {
                fit_category(codes, Vocabulary::fit(codes, values, field.min_count))
            }
        },
    })
}

/// A category that is no target is left out when it says nothing.
fn fit_category(codes: &[u32], vocabulary: Vocabulary) -> FieldState {
    let dropped = |reason: &str| FieldState::Dropped(reason.to_string());
    if all_null(codes) {
        return dropped("is all NULL");
    }
    if vocabulary.is_empty() {
        return dropped("has no value that min_count events have");
    }
    match vocabulary.counts == [codes.len() as u64] {
        true => dropped("has only one value"),
        false => FieldState::Category(vocabulary),
    }
}

fn fit_text(codes: &[u32], texts: Texts) -> FieldState {
    match (all_null(codes), texts.buckets.is_empty()) {
        (true, _) => FieldState::Dropped("is all NULL".to_string()),
        (_, true) => FieldState::Dropped("has no words that min_count events have".to_string()),
        _ => FieldState::Text(texts),
    }
}

fn fit_tags(codes: &[u32], tags: Tags) -> FieldState {
    match (all_null(codes), tags.vocabulary.is_empty()) {
        (true, _) => FieldState::Dropped("is all NULL".to_string()),
        (_, true) => FieldState::Dropped("has no tag that min_count events have".to_string()),
        _ => FieldState::Tags(tags),
    }
}

fn all_null(codes: &[u32]) -> bool {
    codes.iter().all(|&code| code == NULL)
}

fn fit_number(field: &Field, numbers: &[f32], training: &Training) -> FieldState {
    let training_numbers = || training.rows().map(|row| numbers[row]);
    let known = training_numbers().filter(|number| !number.is_nan());
    let first = training_numbers().next();
    if training_numbers().all(|number| Some(number) == first) {
        return FieldState::Dropped("has only one value".to_string());
    }
    let state = match training.bins {
        Some(bins) => Bins::fit(known.map(f64::from), bins).map(FieldState::Binned),
        None => Numbers::fit(known, training.winsorize, field.scale).map(FieldState::Number),
    };
    state.unwrap_or_else(|| FieldState::Dropped("is all NULL".to_string()))
}

fn fit_time(codes: &[u32], values: &Values, training: &Training) -> FieldState {
    let distance = |row| moment::distance(codes, values, &training.events.time, row);
    let mut known = training.rows().map(distance);
    let first = known.next();
    match Moments::fit(training.rows().map(distance)) {
        None => FieldState::Dropped("is all NULL".to_string()),
        Some(_) if known.all(|days| Some(days) == first) => FieldState::Dropped("has only one value".to_string()),
        Some(moments) => FieldState::Time(moments),
    }
}

fn fit_vector(codes: &[u32], rows: &Vectors, training: &Training) -> FieldState {
    let first = training.rows().next().map(|row| codes[row]);
    match VectorScale::fit(training.rows().map(|row| codes[row]), rows) {
        None => FieldState::Dropped("is all NULL".to_string()),
        Some(_) if training.rows().all(|row| Some(codes[row]) == first) => {
            FieldState::Dropped("has only one value".to_string())
        }
        Some(scale) => FieldState::Vector(scale),
    }
}

fn insufficient(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InsufficientData, message)
}

/// An error where there is nothing to learn from, whatever is to be learned. `least`: events that some entity needs.
pub fn check_events(events: &Events, least: usize) -> Result<()> {
    if events.is_empty() {
        let set_aside: Vec<_> = events.report.skipped().iter().map(|(why, rows)| format!("{rows} {why}")).collect();
        let error = insufficient("source has no events");
        return Err(match set_aside.is_empty() {
            true => error.hint("Insert events."),
            false => error
                .detail(format!("Rows were set aside: {}.", set_aside.join(", ")))
                .hint("See persona.check_source for what is wrong with them."),
        });
    }
    match events.offsets.windows(2).any(|pair| pair[1] - pair[0] >= least) {
        true => Ok(()),
        false => Err(insufficient("no entity has two events")
            .detail(format!("{} events are of {} entities.", events.len(), events.entities()))
            .hint("A model learns from what follows what; check that the entity column names who acts.")),
    }
}

/// `values`: how many occur in at least `min_count` events.
fn check_target(field: &Field, codes: &[u32], values: usize) -> Result<()> {
    let name = &field.name;
    if codes.iter().all(|&code| code == NULL) {
        return Err(insufficient(format!("target field \"{name}\" is all NULL"))
            .hint("Predict another field, or check the source's column."));
    }
    match values {
        0 | 1 => Err(insufficient(format!("target field \"{name}\" has fewer than two values"))
            .detail(format!("Values that occur in at least {} events: {values}.", field.min_count))
            .hint("Predict another field, or lower the field's min_count.")),
        _ => Ok(()),
    }
}

fn check_ratings<'a>(field: &Field, column: &'a Column) -> Result<&'a [f32]> {
    let name = &field.name;
    let Column::Number(ratings) = column else {
        return Err(Error::new(ErrorKind::Unsupported, format!("ratings \"{name}\" are no numbers")));
    };
    let mut known = ratings.iter().filter(|rating| !rating.is_nan());
    let first = known.next();
    let wrong = match first {
        None => "is all NULL",
        Some(_) if known.all(|rating| Some(rating) == first) => "has only one value",
        Some(_) => return Ok(ratings),
    };
    Err(insufficient(format!("rating field \"{name}\" {wrong}"))
        .hint("Predict another field, or check the source's column."))
}

fn check_name(field: &Field) -> Result<()> {
    match field.name.starts_with("time.") {
        true => Err(Error::invalid(format!("field name \"{}\" is reserved", field.name))
            .hint("Names that begin with \"time.\" are the clock's features; rename the column in a view.")),
        false => Ok(()),
    }
}
