//! Tests that need a server and fit in a transaction.

use super::bulk::{BulkInsert, Value};
use super::identity::{as_catalog_owner, current_user};
use super::scan::{BATCH_ROWS, Datums, EPOCH, scan};
use crate::error::sqlstate;
use crate::profile::oid_of;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use pgrx::prelude::*;
use std::sync::Arc;

fn columns(sql: &str, forms: &[(Datums, DataType)]) -> Vec<RecordBatch> {
    let fields: Vec<_> =
        forms.iter().enumerate().map(|(i, (_, kind))| Field::new(format!("c{i}"), kind.clone(), true)).collect();
    let datums: Vec<_> = forms.iter().map(|(datums, _)| *datums).collect();
    let mut batches = Vec::new();
    scan(sql, Arc::new(Schema::new(fields)), &datums, &mut |batch| {
        batches.push(batch);
        Ok(())
    })
    .unwrap();
    batches
}

#[pg_schema]
mod tests {
    use super::*;

    #[pg_test]
    fn numerics_are_read_as_float8_would_cast_them() {
        let sql = "SELECT n, n::float8 FROM (SELECT (x * 10::numeric ^ e)::numeric AS n \
                   FROM generate_series(-1000, 1000, 7) x, generate_series(-20, 20) e \
                   UNION ALL SELECT unnest('{0,0.00,1e100,-1e-100,12.34,9999,10000,0.0001,123456789.987654321}'::numeric[])) t";
        for batch in columns(sql, &[(Datums::Numeric, DataType::Float64), (Datums::Float8, DataType::Float64)]) {
            let (ours, cast) =
                (batch.column(0).as_primitive::<Float64Type>(), batch.column(1).as_primitive::<Float64Type>());
            for (ours, cast) in ours.values().iter().zip(cast.values()) {
                assert!((ours - cast).abs() <= 4.0 * f64::EPSILON * cast.abs(), "{ours} is not {cast}");
            }
        }
    }

    #[pg_test]
    fn numerics_that_are_no_numbers_are_read_as_such() {
        let sql = "SELECT unnest('{NaN,Infinity,-Infinity}'::numeric[])";
        let batches = columns(sql, &[(Datums::Numeric, DataType::Float64)]);
        let values = batches[0].column(0).as_primitive::<Float64Type>();
        assert!(values.value(0).is_nan());
        assert_eq!(values.values()[1..], [f64::INFINITY, f64::NEG_INFINITY]);
    }

    #[pg_test]
    fn a_scan_sees_every_row_in_order_whatever_the_batches() {
        let rows = 3 * BATCH_ROWS as i64 + 17;
        let sql = format!("SELECT n, CASE WHEN n % 5 > 0 THEN 'v' || n END FROM generate_series(1::bigint, {rows}) n");
        let batches = columns(&sql, &[(Datums::Int8, DataType::Int64), (Datums::Text, DataType::Utf8)]);
        assert_eq!(
            batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(),
            [BATCH_ROWS, BATCH_ROWS, BATCH_ROWS, 17]
        );
        let mut expected = 0;
        for batch in batches {
            for i in 0..batch.num_rows() {
                expected += 1;
                assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(i), expected);
                let text = batch.column(1).as_string::<i32>();
                match expected % 5 {
                    0 => assert!(text.is_null(i)),
                    _ => assert_eq!(text.value(i), format!("v{expected}")),
                }
            }
        }
    }

    #[pg_test]
    fn times_are_microseconds_since_1970() {
        let sql = "SELECT timestamptz '1970-01-02 00:00:00.000001+00', date '1970-01-02', timestamp 'infinity', date '-infinity'";
        let forms = [Datums::Timestamp, Datums::Date, Datums::Timestamp, Datums::Date].map(|d| (d, DataType::Int64));
        let batch = columns(sql, &forms).remove(0);
        let value = |i: usize| batch.column(i).as_primitive::<Int64Type>().value(0);
        assert_eq!((value(0), value(1), value(2), value(3)), (86_400_000_001, 86_400_000_000, i64::MAX, i64::MIN));
        assert_eq!(EPOCH / 86_400_000_000, 10_957);
    }

    #[pg_test]
    fn compressed_and_outlying_text_is_read_whole() {
        Spi::run("CREATE TABLE long (t text)").unwrap();
        Spi::run("INSERT INTO long VALUES (repeat('abc', 100000)), ((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 5000) n))").unwrap();
        let batch = columns("SELECT t FROM long", &[(Datums::Text, DataType::Utf8)]).remove(0);
        let texts = batch.column(0).as_string::<i32>();
        assert_eq!((texts.value(0).len(), texts.value(1).len()), (300_000, 160_000));
        assert!(texts.value(0).ends_with("cabc"));
    }

    #[pg_test]
    fn rows_written_in_bulk_are_read_back() {
        Spi::run("CREATE TABLE bulk (k text, u uuid, n bigint, f float8)").unwrap();
        let mut bulk = BulkInsert::open(oid_of("bulk").unwrap());
        for n in 0..1000_i64 {
            let text = format!("row {n}");
            let float = (n as f64 / 8.0).to_bits() as i64;
            bulk.push(&[Value::Text(&text), Value::Uuid(&[7; 16]), Value::Word(n), Value::Word(float)]);
        }
        bulk.finish();
        let sql = "SELECT count(*) || ' ' || sum(n) || ' ' || sum(f) || ' ' || min(u::text) || ' ' || bool_and(k = 'row ' || n) FROM bulk";
        let read = Spi::get_one::<String>(sql).unwrap().unwrap();
        assert_eq!(read, "1000 499500 62437.5 07070707-0707-0707-0707-070707070707 true");
    }

    #[pg_test]
    fn the_catalog_owner_acts_with_no_path_but_pg_catalog_and_only_for_a_moment() {
        Spi::run("CREATE ROLE visitor").unwrap();
        Spi::run("SET ROLE visitor").unwrap();
        let visitor = current_user();
        let (owner, path) = as_catalog_owner(|| {
            (current_user(), Spi::get_one::<String>("SELECT current_setting('search_path')").unwrap())
        });
        assert_ne!(owner, visitor);
        assert_eq!(path.as_deref(), Some("pg_catalog, pg_temp"));
        assert_eq!(current_user(), visitor);
        Spi::run("RESET ROLE").unwrap();
    }

    #[pg_test]
    fn a_sqlstate_is_unpacked() {
        assert_eq!(sqlstate(PgSqlErrorCode::ERRCODE_QUERY_CANCELED), "57014");
        assert_eq!(sqlstate(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE), "42P01");
    }
}
