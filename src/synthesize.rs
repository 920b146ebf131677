//! Events that a model draws, into a table of their own: the caller's, with the columns of the source.

use crate::catalog::models::Model;
use crate::catalog::sources::{Declared, Source};
use crate::catalog::versions::{Version, same_fields};
use crate::dialogue;
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::pg::local_settings::LocalSettings;
use crate::profile::qualify;
use crate::relation::{Column, Relation};
use crate::stored::{self, Stored};
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use persona_core::protocol::{ColumnReader, Kind, Outcome, Synthesis};
use persona_core::source::{Clock, FieldKind};
use persona_core::spec::{FAMILIES, ModelSpec, listed};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::{Spi, quote_identifier, quote_qualified_identifier};

/// Rows of one INSERT.
const ROWS: usize = 8_192;

/// Makes the table `name` and fills it with the events of `entities` entities that the live version of a model draws.
/// Returns their number.
pub fn synthesize(model: &str, entities: i64, name: &str, seed: i64, reporter: &mut Reporter) -> Result<i64> {
    let entities = u64::try_from(entities).ok().filter(|&n| n > 0).ok_or_else(|| {
        Error::new(Code::InvalidParameter, format!("n must be at least 1, not {entities}"))
            .hint("It is the number of entities whose events are drawn.")
    })?;
    let (schema, table) = qualify(name, "table")?;
    let _path = LocalSettings::safe_path();
    let model = Model::find(model)?;
    let version = Version::find(&model, model.live()?)?;
    draws(&model, &version.spec)?;
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    same_fields(&model, &version, &query.schema)?;
    let events = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?;
    let own = [&source.entity, &source.at].into_iter().map(|name| events.column(name).cloned());
    let fields = source.fields.iter().map(|field| column_of(field, &events));
    let columns = own.chain(fields).collect::<Result<Vec<_>>>()?;
    let target = Target { name: quote_qualified_identifier(&schema, &table), columns, clock: query.schema.clock };
    target.create()?;
    let synthesis = Synthesis { entities, seed: seed.cast_unsigned() };
    let mut engine = Engine::synthesize(&query.schema, &version.spec, synthesis)?;
    reporter.watch(engine.pid());
    stored::send(&[Stored::subject(&model, &version)], &mut engine)?;
    let outcome = target.fill(&mut engine, reporter)?;
    dialogue::tell_notes(&outcome, reporter);
    Ok(outcome.events as i64)
}

fn draws(model: &Model, spec: &ModelSpec) -> Result<()> {
    if spec.objective.adversarial().is_some() {
        return Ok(());
    }
    let able = FAMILIES.iter().filter(|family| family.objectives.contains(&"adversarial")).map(|family| family.kind);
    Err(Error::new(Code::Unsupported, format!("model \"{}\" draws no events", model.name))
        .detail(format!("Its encoder is \"{}\".", spec.encoder.kind()))
        .hint(format!("Families that draw events are {}.", listed(able))))
}

/// A field's column, by the field's name; what is read of JSON is text or a number.
fn column_of(field: &Declared, events: &Relation) -> Result<Column> {
    let column = Column { name: field.name.clone(), ..events.column(field.column())?.clone() };
    let read =
        |type_oid, name: &str| Column { type_oid, type_name: name.to_string(), is_enum: false, ..column.clone() };
    Ok(match (&field.path, field.kind) {
        (None, _) => column,
        (Some(_), FieldKind::Number) => read(pg_sys::FLOAT8OID, "double precision"),
        (Some(_), _) => read(pg_sys::TEXTOID, "text"),
    })
}

/// The table that is filled.
struct Target {
    /// Quoted and qualified.
    name: String,
    /// Entity, time and fields, as the source has them.
    columns: Vec<Column>,
    clock: Clock,
}

impl Target {
    /// Makes it as the current user, whom it belongs to.
    fn create(&self) -> Result<()> {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("{} {}", quote_identifier(&column.name), column.type_name))
            .collect();
        Ok(Spi::run(&format!("CREATE TABLE {} ({})", self.name, columns.join(", ")))?)
    }

    /// Receives events and inserts them, until the engine is done.
    fn fill(&self, engine: &mut Engine, reporter: &mut Reporter) -> Result<Outcome> {
        let insert = self.insert();
        let mut events = ColumnReader::new();
        loop {
            let frame = engine.receive(|event| dialogue::tell(reporter, event, &mut Vec::new()))?;
            match frame.kind {
                Kind::Synthetic => events.read(frame)?.iter().try_for_each(|batch| insert_rows(&insert, batch))?,
                Kind::Done => return Ok(frame.parse()?),
                _ => return Err(dialogue::unexpected(&frame)),
            }
        }
    }

    /// The statement that takes one array a column. Casts bring values back to the columns' types; they are those by
    /// which SQL itself would read them, so that domains are checked and numbers rounded.
    fn insert(&self) -> String {
        let places: Vec<String> = (0..self.columns.len()).map(|i| format!("c{i}")).collect();
        let arrays: Vec<String> = (1..=self.columns.len()).map(|i| format!("${i}")).collect();
        let values: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, column)| format!("({})::{}", self.value(i, column), column.type_name))
            .collect();
        format!(
            "INSERT INTO {} SELECT {} FROM unnest({}) AS u ({})",
            self.name,
            values.join(", "),
            arrays.join(", "),
            places.join(", ")
        )
    }

    /// Times come as microseconds since 1970, booleans as 0 and 1.
    fn value(&self, i: usize, column: &Column) -> String {
        match column.type_oid {
            pg_sys::DATEOID if i == 1 => "date 'epoch' + (c1 / 86400000000)::integer".to_string(),
            pg_sys::TIMESTAMPOID if i == 1 => "timestamp 'epoch' + c1 * interval '1 microsecond'".to_string(),
            _ if i == 1 && self.clock != Clock::Number => {
                "timestamptz 'epoch' + c1 * interval '1 microsecond'".to_string()
            }
            pg_sys::BOOLOID => format!("c{i} >= 0.5"),
            _ => format!("c{i}"),
        }
    }
}

/// Runs the statement on parts of a batch. Arrays are made inside of SPI, so that their memory is free after each.
fn insert_rows(statement: &str, batch: &RecordBatch) -> Result<()> {
    (0..batch.num_rows()).step_by(ROWS).try_for_each(|from| {
        let rows = batch.slice(from, ROWS.min(batch.num_rows() - from));
        Spi::connect_mut(|client| {
            let arrays: Vec<DatumWithOid> = rows.columns().iter().map(|column| array(column.as_ref())).collect();
            client.update(statement, None, &arrays)?;
            Ok(())
        })
    })
}

/// A column as an array of SQL; UUIDs as text.
fn array(column: &dyn Array) -> DatumWithOid<'_> {
    match column.data_type() {
        DataType::Utf8 => {
            column.as_string::<i32>().iter().map(|text| text.map(str::to_string)).collect::<Vec<_>>().into()
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().collect::<Vec<_>>().into(),
        DataType::FixedSizeBinary(_) => {
            column.as_fixed_size_binary().iter().map(|key| key.map(hex)).collect::<Vec<_>>().into()
        }
        _ => column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>().into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
