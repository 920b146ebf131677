//! Tests that need a server and fit in a transaction.

use super::bulk::{BulkInsert, Rows, Value};
use super::columns::{BATCH_ROWS, Datums, EPOCH, Read};
use super::identity::{as_catalog_owner, current_user};
use super::scan::scan;
use crate::error::sqlstate;
use crate::profile::oid_of;
use crate::worker::batches;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use persona_core::protocol::region::Form;
use pgrx::prelude::*;

fn columns(sql: &str, forms: &[(Datums, Form)]) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let read = |(place, &(datums, form)): (usize, &(Datums, Form))| Read { place, datums, form };
    let reads: Vec<_> = forms.iter().enumerate().map(read).collect();
    scan(sql, &reads, &mut |columns| {
        batches.push(batches::copy(&columns.layout(), columns)?);
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
        for batch in columns(sql, &[(Datums::Numeric, Form::Float64), (Datums::Float8, Form::Float64)]) {
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
        let batches = columns(sql, &[(Datums::Numeric, Form::Float64)]);
        let values = batches[0].column(0).as_primitive::<Float64Type>();
        assert!(values.value(0).is_nan());
        assert_eq!(values.values()[1..], [f64::INFINITY, f64::NEG_INFINITY]);
    }

    #[pg_test]
    fn a_scan_sees_every_row_in_order_whatever_the_batches() {
        let rows = 3 * BATCH_ROWS as i64 + 17;
        let made = format!("SELECT n, CASE WHEN n % 5 > 0 THEN 'v' || n END FROM generate_series(1::bigint, {rows}) n");
        Spi::run(&format!("CREATE TABLE many (n, t) AS {made}; ALTER TABLE many SET (autovacuum_enabled = off)"))
            .unwrap();
        // What Postgres counts for pg_stat_user_tables is counted here as well.
        let counted =
            || Spi::get_one::<i64>("SELECT pg_stat_get_xact_tuples_returned('many'::regclass)").unwrap().unwrap();
        for sql in [made.as_str(), "SELECT n, t FROM many", "SELECT n, t FROM many WHERE n > 0"] {
            let before = counted();
            let batches = columns(sql, &[(Datums::Int8, Form::Int64), (Datums::Text, Form::Text)]);
            assert_eq!(counted() - before, if sql == made { 0 } else { rows }, "{sql}");
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
    }

    /// Rows that are read where they lie, and the same which the executor made anew: NULLs, texts of every length, compressed
    /// and elsewhere, a column that was added later, several pages, a filter, and a table of the session's own.
    #[pg_test]
    fn stored_rows_are_read_as_the_executor_gives_them() {
        Spi::run(
            "CREATE TABLE stored (a int2, b text, c bool, d int8, e date, f float4, g uuid, h numeric, \
                                  i varchar, j timestamptz, k float8, l int4); \
             INSERT INTO stored SELECT n, CASE WHEN n % 7 > 0 THEN repeat('x', n % 300) END, n % 2 = 0, \
                    CASE WHEN n % 3 > 0 THEN n END, date '2020-01-01' + n, n / 3.0, \
                    md5(n::text)::uuid, n / 7.0, CASE WHEN n % 11 > 0 THEN 'v' || n END, \
                    timestamptz '2020-01-01' + make_interval(secs => n), n / 9.0, CASE WHEN n % 13 > 0 THEN n END \
                FROM generate_series(1, 3000) n; \
             UPDATE stored SET b = repeat(md5(a::text), 400) WHERE a % 500 = 1; \
             UPDATE stored SET b = (SELECT string_agg(md5(x::text), '') FROM generate_series(1, 300) x) WHERE a % 500 = 2; \
             DELETE FROM stored WHERE a % 17 = 0; \
             ALTER TABLE stored ADD COLUMN m int4 DEFAULT 42; \
             INSERT INTO stored SELECT 5000 + n, 'later', true, n, NULL, NULL, NULL, n, NULL, NULL, n, n, n \
                FROM generate_series(1, 300) n;",
        )
        .unwrap();
        let forms = [
            (Datums::Int2, Form::Int16),
            (Datums::Text, Form::Text),
            (Datums::Bool, Form::Int8),
            (Datums::Int8, Form::Int64),
            (Datums::Date, Form::Int64),
            (Datums::Float4, Form::Float32),
            (Datums::Uuid, Form::Uuid),
            (Datums::Numeric, Form::Float64),
            (Datums::Text, Form::Text),
            (Datums::Timestamp, Form::Int64),
            (Datums::Float8, Form::Float64),
            (Datums::Int4, Form::Int32),
            (Datums::Int4, Form::Int32),
        ];
        let same = || {
            for read in [13, 12, 8, 2, 1] {
                let forms = &forms[..read];
                let all = columns("SELECT a, b, c, d, e, f, g, h, i, j, k, l, m FROM stored", forms);
                assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 3300 - 3000 / 17);
                // One column more, and the executor makes each row anew.
                let anew = columns("SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, now() FROM stored", forms);
                assert_eq!(all, anew);
                let some = |rest: &str| {
                    let sql = format!("SELECT a, b, c, d, e, f, g, h, i, j, k, l, m{rest} FROM stored WHERE a % 5 = 3");
                    columns(&sql, forms)
                };
                assert_eq!(some(""), some(", now()"));
            }
        };
        same();
        Spi::run("ALTER TABLE stored ADD COLUMN gone int; ALTER TABLE stored DROP COLUMN gone").unwrap();
        same();
        Spi::run("CREATE TEMPORARY TABLE local (LIKE stored); INSERT INTO local TABLE stored; DROP TABLE stored; ALTER TABLE local RENAME TO stored").unwrap();
        same();
    }

    #[pg_test]
    fn times_are_microseconds_since_1970() {
        let sql = "SELECT timestamptz '1970-01-02 00:00:00.000001+00', date '1970-01-02', timestamp 'infinity', date '-infinity'";
        let forms = [Datums::Timestamp, Datums::Date, Datums::Timestamp, Datums::Date].map(|d| (d, Form::Int64));
        let batch = columns(sql, &forms).remove(0);
        let value = |i: usize| batch.column(i).as_primitive::<Int64Type>().value(0);
        assert_eq!((value(0), value(1), value(2), value(3)), (86_400_000_001, 86_400_000_000, i64::MAX, i64::MIN));
        assert_eq!(EPOCH / 86_400_000_000, 10_957);
    }

    #[pg_test]
    fn every_form_holds_what_its_type_holds() {
        let sql = "SELECT i::int2, i, i::bool, (i / 8.0)::float4, i::float8 / 8, i::numeric / 8, \
                   lpad(abs(i)::text, 32, '0')::uuid, CASE WHEN i <> 2 THEN i END, i \
                   FROM unnest('{-3,0,2,7}'::int[]) i";
        let forms = [
            (Datums::Int2, Form::Int16),
            (Datums::Int4, Form::Int32),
            (Datums::Bool, Form::Int8),
            (Datums::Float4, Form::Float32),
            (Datums::Float8, Form::Float32),
            (Datums::Numeric, Form::Float32),
            (Datums::Uuid, Form::Uuid),
            (Datums::Int4, Form::Int32),
            (Datums::Int4, Form::Float64),
        ];
        let batch = columns(sql, &forms).remove(0);
        assert_eq!(batch.column(0).as_primitive::<Int16Type>().values()[..], [-3, 0, 2, 7]);
        assert_eq!(batch.column(1).as_primitive::<Int32Type>().values()[..], [-3, 0, 2, 7]);
        assert_eq!(batch.column(2).as_primitive::<Int8Type>().values()[..], [1, 0, 1, 1]);
        for i in 3..6 {
            assert_eq!(batch.column(i).as_primitive::<Float32Type>().values()[..], [-0.375, 0.0, 0.25, 0.875]);
        }
        assert_eq!(batch.column(6).as_fixed_size_binary().value(3)[15], 7);
        assert_eq!(
            batch.column(7).as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
            [Some(-3), Some(0), None, Some(7)]
        );
        assert_eq!(batch.column(8).as_primitive::<Float64Type>().values()[..], [-3.0, 0.0, 2.0, 7.0]);
    }

    #[pg_test]
    fn much_text_makes_small_batches() {
        let sql = "SELECT CASE WHEN n % 4 > 0 THEN repeat('x', 1 << 20) END FROM generate_series(1, 30) n";
        let batches = columns(sql, &[(Datums::Text, Form::Text)]);
        assert!(batches.len() > 3);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 30);
        assert_eq!(batches.iter().map(|batch| batch.column(0).null_count()).sum::<usize>(), 7);
    }

    #[pg_test]
    fn compressed_and_outlying_text_is_read_whole() {
        Spi::run("CREATE TABLE long (t text)").unwrap();
        Spi::run("INSERT INTO long VALUES (repeat('abc', 100000)), ((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 5000) n))").unwrap();
        let batch = columns("SELECT t FROM long", &[(Datums::Text, Form::Text)]).remove(0);
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
            let row = [Value::Text(&text), Value::Uuid(&[7; 16]), Value::Word(n), Value::Word(float)];
            assert!(bulk.push(&row).is_ok());
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
