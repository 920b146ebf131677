-- Every type of key, of time and of field; names that need quotes; tables, partitions and views.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TYPE mood AS ENUM ('glad', 'mixed', 'cross');
CREATE DOMAIN shop_id AS int CHECK (VALUE >= 0);
CREATE SCHEMA "Läden & Co";
CREATE TABLE "Läden & Co"."it's ""the"" 表" (
    "wer'""ш" text, "wann" timestamptz, id8 bigint, id2 smallint, t text, vc varchar(20), yes boolean, m mood, u uuid,
    shop shop_id, f4 real, f8 double precision, n numeric(12,3), d date, ts timestamp, nothing int
) PARTITION BY RANGE ("wann");
CREATE TABLE part_1 PARTITION OF "Läden & Co"."it's ""the"" 表" FOR VALUES FROM (MINVALUE) TO ('2024-01-04');
CREATE TABLE part_2 PARTITION OF "Läden & Co"."it's ""the"" 表" FOR VALUES FROM ('2024-01-04') TO (MAXVALUE);
INSERT INTO "Läden & Co"."it's ""the"" 表"
SELECT CASE n % 12 WHEN 0 THEN 'o''neil "x" \' WHEN 1 THEN '名前' ELSE 'user ' || n % 12 END,
       timestamptz '2024-01-01 00:00+00' + n * interval '17 minutes',
       (n % 9) * 10000000000, n % 9, 'item ' || n % 9, 'v' || n % 9, n % 2 = 0, (enum_range(NULL::mood))[1 + n % 3],
       ('00000000-0000-0000-0000-00000000000' || n % 9)::uuid, n % 4, n / 3.0, n / 7.0, n / 11.0,
       date '2024-01-01' + n / 90, timestamp '2024-01-01' + n * interval '17 minutes', NULL
FROM generate_series(1, 600) n;
ANALYZE "Läden & Co"."it's ""the"" 表";

-- Inferred fields, from types and statistics.
SELECT persona.create_source('inferred', '"Läden & Co"."it''s ""the"" 表"', 'wer''"ш', 'wann');
SELECT f->>'name' AS name, f->>'kind' AS kind FROM persona.sources, jsonb_array_elements(fields) f WHERE source = 'inferred';
SELECT subject, finding, value FROM persona.check_source('inferred');

-- Each target type gives an item table of its type.
CREATE FUNCTION profile_of(target text) RETURNS TABLE (item_type text, items bigint, recommended bigint, seen_left_out bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM persona.create_model('typed', 'inferred', jsonb_build_object(
        'encoder', '{"kind": "gru", "dim": 8}'::jsonb,
        'objective', jsonb_build_object('kind', 'next_event', 'field', target),
        'training', '{"epochs": 1, "device": "cpu"}'::jsonb, 'evaluation', '{"seen": "keep"}'::jsonb));
    CALL persona.train('typed');
    PERFORM persona.create_profile('typed_profile', 'typed');
    CALL persona.refresh('typed_profile');
    RETURN QUERY SELECT format_type(atttypid, atttypmod), (SELECT count(*) FROM typed_profile_items),
        (SELECT count(*) FROM persona.recommend('typed_profile', 'o''neil "x" \', k => 2)),
        (SELECT count(*) FROM persona.recommend('typed_profile', '名前', k => 2, exclude_seen => true))
    FROM pg_attribute WHERE attrelid = 'typed_profile_items'::regclass AND attname = 'item';
    PERFORM persona.drop_profile('typed_profile'), persona.drop_model('typed');
END $$;
SELECT target, p.* FROM unnest('{id8,id2,t,vc,yes,m,u,shop}'::text[]) target, profile_of(target) p;

-- Keys and times of the other types, through a view.
CREATE VIEW others AS SELECT id8 AS big, id2::int AS small, u, f8, n, d, ts, f4, t FROM "Läden & Co"."it's ""the"" 表";
CREATE FUNCTION profile_by(key text, at text) RETURNS TABLE (key_type text, time_type text, entities bigint, alike bigint) LANGUAGE plpgsql AS $$
DECLARE
    entity text;
BEGIN
    PERFORM persona.create_source('keyed', 'others', key, at, '{"t": "category", "f8": "number"}'::jsonb - at);
    PERFORM persona.create_model('keyed', 'keyed', '{"encoder": {"kind": "transformer", "dim": 8}, "objective": {"kind": "next_event", "field": "t"},
        "training": {"epochs": 1, "device": "cpu"}, "evaluation": {"seen": "keep"}}');
    CALL persona.train('keyed');
    PERFORM persona.create_profile('keyed_profile', 'keyed');
    CALL persona.refresh('keyed_profile');
    EXECUTE format('SELECT %I::text FROM keyed_profile LIMIT 1', key) INTO entity;
    RETURN QUERY EXECUTE format('SELECT (SELECT pg_typeof(%I)::text FROM keyed_profile LIMIT 1), (SELECT pg_typeof(first_event)::text FROM keyed_profile LIMIT 1),
        count(*), (SELECT count(*) FROM persona.similar(''keyed_profile'', $1, k => 3)) FROM keyed_profile p
        JOIN (SELECT %I AS k, count(*) AS n, min(%I) AS first, max(%I) AS last FROM others GROUP BY 1) e
          ON e.k = p.%I AND (e.n, e.first, e.last) = (p.events, p.first_event, p.last_event)', key, key, at, at, key) USING entity;
    PERFORM persona.drop_profile('keyed_profile'), persona.drop_model('keyed'), persona.drop_source('keyed');
END $$;
SELECT key, at, p.* FROM (VALUES ('big', 'ts'), ('small', 'd'), ('u', 'f8'), ('big', 'n'), ('small', 'f4')) k (key, at), profile_by(key, at) p;

-- Overloads: literals find their way without casts.
SELECT persona.create_source('u', 'others', 'u', 'ts', '{"t": "category"}');
SELECT persona.create_model('u', 'u', '{"encoder": {"kind": "gru", "dim": 8}, "objective": {"kind": "next_event", "field": "t"}, "training": {"epochs": 1, "device": "cpu"}, "evaluation": {"seen": "keep"}}');
CALL persona.train('u');
SELECT persona.create_profile('"Läden & Co"."Pröfil ''x''"', 'u');
CALL persona.refresh('"Läden & Co"."Pröfil ''x''"');
SELECT count(*) FROM persona.recommend('"Läden & Co"."Pröfil ''x''"', '00000000-0000-0000-0000-000000000003');
SELECT count(*) FROM persona.recommend('"Läden & Co"."Pröfil ''x''"', uuid '00000000-0000-0000-0000-000000000003');
SELECT count(*) FROM persona.similar('"Läden & Co"."Pröfil ''x''"', '00000000-0000-0000-0000-000000000003');

SELECT persona.drop_profile('"Läden & Co"."Pröfil ''x''"');
SELECT persona.drop_model('u'), persona.drop_source('u'), persona.drop_source('inferred');
