-- The whole story on a small table with a pattern: every visitor walks around a ring of 20 items.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
RESET client_min_messages;
CREATE TABLE walks (visitor bigint, at timestamptz, item int, paid numeric(8,2));
INSERT INTO walks
SELECT v, timestamptz '2024-01-01 00:00+00' + v * interval '1 minute' + n * interval '5 hours', (v * 3 + n) % 20, n % 7
FROM generate_series(1, 60) v, generate_series(1, 25) n;
ANALYZE walks;

SELECT persona.create_source('walks', 'walks', entity => 'visitor', at => 'at',
         fields => '{"item": "category", "paid": "number"}');
SET client_min_messages = warning;
SELECT * FROM persona.check_source('walks');

SELECT persona.create_model('ring', source => 'walks', spec => '{
    "encoder": {"kind": "gru", "dim": 16, "dropout": 0},
    "objective": {"kind": "next_event", "field": "item"},
    "training": {"epochs": 80, "patience": 80, "batch_events": 256, "learning_rate": 0.02, "warmup": 5,
                 "device": "cpu", "precision": "f32"},
    "evaluation": {"seen": "keep", "k": [1, 5]}}');
-- Every default is written out.
SELECT jsonb_pretty(spec) FROM persona.models WHERE model = 'ring';

CALL persona.train('ring');
SELECT model, version, as_of, events, entities, items, device, precision, jsonb_object_keys(seconds) AS phase
FROM persona.versions;
SELECT split, metric, value > .9 AS good FROM persona.metrics
WHERE epoch IS NULL AND metric IN ('hr@5', 'ndcg@5') ORDER BY split, metric;
SELECT count(DISTINCT epoch) AS epochs, bool_and(value > 0) AS positive FROM persona.metrics WHERE metric = 'loss';
SELECT alias, version FROM persona.aliases;

-- The same seed and the same data: the same weights, bit for bit.
CALL persona.train('ring');
SELECT count(*) AS chunks, count(DISTINCT md5(bytes)) AS distinct_weights FROM persona.weights WHERE chunk = 0;
SELECT count(DISTINCT fingerprint) AS fingerprints FROM persona.versions;
SELECT alias, version FROM persona.aliases;

-- The figures can be had again from the events as they are now.
SELECT split, metric, value > .9 AS good FROM persona.evaluate('ring') WHERE metric IN ('hr@5', 'ndcg@5') ORDER BY split, metric;

SELECT persona.create_profile('ring_profile', model => 'ring');
\d ring_profile
\d ring_profile_items
SELECT a.attname, col_description(a.attrelid, a.attnum) FROM pg_attribute a
WHERE attrelid = 'ring_profile'::regclass AND attnum > 0 ORDER BY attnum;
CREATE VIEW dependent AS SELECT visitor, events FROM ring_profile;
GRANT SELECT ON ring_profile TO PUBLIC;

CALL persona.refresh('ring_profile');
SELECT count(*), min(events), max(events), min(first_event), max(last_event), min(model_version), max(model_version)
FROM ring_profile;
SELECT count(*), min(events), max(events) FROM ring_profile_items;
-- Visitor 1 is at 1 * 3 + 25 = 28, so at item 8; next is 9.
SELECT item, score > 0 AS positive FROM persona.recommend('ring_profile', 1, k => 1);
SELECT count(*), bool_and(score IS NOT NULL) FROM persona.recommend('ring_profile', 1, k => 20);
SELECT count(*) FROM persona.recommend('ring_profile', 1, k => 100);
-- Everybody has had everything.
SELECT count(*) FROM persona.recommend('ring_profile', 1, k => 5, exclude_seen => true);
-- Who stands at the same item (20 visitors further, 60 steps on) is most alike.
SELECT entity::int % 20 AS same_place FROM persona.similar('ring_profile', 1, k => 2) ORDER BY 1;
SELECT count(*) FROM persona.similar('ring_profile', 1, k => 100);

-- Both answers are index scans over vectors.
CREATE FUNCTION indexes_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan;
    RETURN QUERY SELECT DISTINCT x #>> '{}' FROM jsonb_path_query(plan::jsonb, '$.**."Index Name"') x ORDER BY 1;
END $$;
SET enable_seqscan = off;
SELECT indexes_of('SELECT visitor FROM ring_profile ORDER BY embedding <=> (SELECT embedding FROM ring_profile WHERE visitor = 1) LIMIT 10');
SELECT indexes_of('SELECT item FROM ring_profile_items ORDER BY embedding <#> (SELECT embedding FROM ring_profile WHERE visitor = 1) LIMIT 10');
RESET enable_seqscan;

-- A second refresh replaces the rows; view, grants and comments stay.
DELETE FROM walks WHERE visitor > 50;
CALL persona.refresh('ring_profile');
SELECT count(*) FROM dependent;
SELECT has_table_privilege('public', 'ring_profile', 'SELECT') AS granted, obj_description('ring_profile'::regclass) AS comment;
SELECT count(*) AS leftovers FROM pg_class WHERE relname LIKE 'persona\_refresh%';
SELECT profile, items, model, version FROM persona.profiles;

-- An earlier version can be live again.
SELECT persona.set_alias('ring', 'live', 1);
CALL persona.refresh('ring_profile');
SELECT DISTINCT model_version FROM ring_profile;

-- In a transaction block a job runs in that one transaction, and can be undone with it.
BEGIN;
CALL persona.train('ring');
SELECT count(*) FROM persona.versions;
ROLLBACK;
SELECT count(*) FROM persona.versions;

-- The floor.
SELECT persona.create_model('counts', source => 'walks', spec => '{
    "encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "item"},
    "evaluation": {"seen": "keep"}}');
CALL persona.train('counts');
SELECT split, metric, value > .9 AS good FROM persona.evaluate('counts') WHERE metric = 'hr@10' ORDER BY split;

-- Models beside each other, on the same cases.
SELECT metric, model, value > .9 AS good, low IS NOT NULL AS interval, difference IS NOT NULL AS difference, cases
FROM persona.compare(ARRAY['counts', 'ring']) WHERE metric = 'hr@5' ORDER BY model;
SELECT * FROM persona.compare(ARRAY['counts', 'nothing']);
SELECT * FROM persona.compare(ARRAY[]::text[]);
SELECT * FROM persona.compare(ARRAY['counts'], split => 'training');

-- What is in use cannot be dropped; then all of it can.
SELECT persona.drop_source('walks');
SELECT persona.drop_model('ring');
DROP VIEW dependent;
SELECT persona.drop_profile('ring_profile');
SELECT persona.drop_model('ring'), persona.drop_model('counts'), persona.drop_source('walks');
SELECT (SELECT count(*) FROM persona.models) AS models, (SELECT count(*) FROM persona.versions) AS versions,
       (SELECT count(*) FROM persona.weights) AS weights, (SELECT count(*) FROM persona.profiles) AS profiles;
DROP TABLE walks;
