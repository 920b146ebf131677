-- A generator of events, and a table of events that it draws.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE DOMAIN price AS numeric(6,2) CHECK (VALUE > 0);
CREATE TYPE way AS ENUM ('web', 'shop');
-- Everybody walks around a ring of six items; one in seven entities has an item of its own, which is too rare to be told.
CREATE TABLE visits (who text, "when" timestamptz, "the item" int, paid price, via way, back boolean, nothing int, note text);
INSERT INTO visits
SELECT 'visitor ' || v, timestamptz '2024-01-01 00:00+00' + v * interval '1 hour' + n * interval '1 day',
       CASE WHEN v % 7 = 0 AND n = 2 THEN 1000 + v ELSE (v + n) % 6 END,
       1.99 + (v + n) % 6, (enum_range(NULL::way))[1 + (v + n) % 2], n > 1 AND v % 2 = 0, 1, 'text'
FROM generate_series(1, 140) v, generate_series(1, 3 + v % 4) n;
SELECT persona.create_source('visits', 'visits', 'who', 'when', '{"the item": {"kind": "category", "min_count": 2},
    "paid": "number", "via": "category", "back": "category", "nothing": "number"}');

SELECT kind, objectives, vectors FROM persona.families WHERE kind = 'gan';
SELECT persona.create_model('walker', 'visits', '{
    "encoder": {"kind": "gan", "dim": 12, "width": 24, "noise": 4, "length": 10, "pretrain": 20},
    "objective": {"kind": "adversarial", "field": "the item"},
    "training": {"split": "random", "valid": 0.2, "test": 0.2, "epochs": 5, "batch_events": 128, "learning_rate": 0.01,
                 "warmup": 5, "device": "cpu", "precision": "f32"}}');
SELECT spec->'encoder' AS encoder, spec->'objective' AS objective FROM persona.models WHERE model = 'walker';
SELECT persona.synthesize('walker', 10, 'early');
CALL persona.train('walker');
-- Every figure of the version; likelihood alone for 20 epochs, and after another one the figures of that.
SELECT split, metric, value BETWEEN 0 AND 1 OR metric = 'nll' AS in_bounds FROM persona.metrics
WHERE epoch IS NULL ORDER BY split, metric;
SELECT min(epoch) FILTER (WHERE metric = 'auc') AS first_judged, bool_or(metric = 'nll' AND epoch = 1) AS likelihood
FROM persona.metrics WHERE epoch IS NOT NULL;
SELECT count(*) AS different FROM persona.evaluate('walker') e
LEFT JOIN persona.metrics m ON m.epoch IS NULL AND (m.split, m.metric, m.value) = (e.split, e.metric, e.value) WHERE m.model IS NULL;

-- The discriminator's states are profiles; there are no vectors of items.
SELECT persona.create_profile('walker_profile', 'walker');
CALL persona.refresh('walker_profile');
SELECT count(*) AS rows, to_regclass('walker_profile_items') AS items FROM walker_profile;
SELECT count(*) FROM persona.similar('walker_profile', 'visitor 1', k => 5);
SELECT * FROM persona.recommend('walker_profile', 'visitor 1');

RESET client_min_messages;
SELECT persona.synthesize('walker', 1000, 'drawn', seed => 3) AS events \gset
SET client_min_messages = warning;
\d drawn
SELECT count(*) = :events AS counted, count(DISTINCT who) AS entities, min(who::int) AS first, max(who::int) AS last,
       max(n) <= 10 AS short FROM (SELECT *, count(*) OVER (PARTITION BY who) AS n FROM drawn) d;
SELECT DISTINCT "the item" FROM drawn ORDER BY 1;
SELECT DISTINCT paid FROM drawn ORDER BY 1;
SELECT DISTINCT via FROM drawn ORDER BY 1;
SELECT DISTINCT back FROM drawn ORDER BY 1;
SELECT count(nothing) AS nothing, bool_and("when" BETWEEN '2024-01-01' AND '2024-02-01') AS in_time,
       bool_and(extract(minute FROM "when") = 0) AS whole_hours FROM drawn;
-- Of six items one is right; by chance one in six would be.
SELECT avg((next = ("the item" + 1) % 6)::int) > .8 AS in_order, avg((paid = 1.99 + "the item")::int) > .8 AS priced,
       avg((later - "when" = interval '1 day')::int) > .9 AS daily
FROM (SELECT *, lead("the item") OVER w AS next, lead("when") OVER w AS later FROM drawn WHERE "the item" IS NOT NULL
      WINDOW w AS (PARTITION BY who ORDER BY "when")) d;
-- The same seed, the same events; another one, others.
SELECT persona.synthesize('walker', 1000, 'again', seed => 3) = :events AS same;
SELECT count(*) FROM (TABLE drawn EXCEPT ALL TABLE again) d;
SELECT persona.synthesize('walker', 1000, 'other') > 0 AS some;
SELECT count(*) > 0 AS different FROM (TABLE drawn EXCEPT ALL TABLE other) d;

-- What is drawn is a source like any other: other kinds of keys and clocks.
CREATE VIEW keyed AS SELECT ('00000000-0000-0000-0000-' || lpad(substr(who, 9), 12, '0'))::uuid AS u, substr(who, 9)::int AS number,
    "when"::date AS day, "when"::timestamp AS at, extract(epoch FROM "when")::float8 / 3600 AS hours, "the item" AS item FROM visits;
CREATE FUNCTION drawn_by(key text, at text) RETURNS TABLE (key_type text, time_type text, entities bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM persona.create_source('keyed', 'keyed', key, at, '{"item": "category"}');
    PERFORM persona.create_model('keyed', 'keyed', '{"encoder": {"kind": "gan", "dim": 4, "width": 8, "pretrain": 2, "length": 8},
        "objective": {"kind": "adversarial", "field": "item"}, "training": {"epochs": 2, "device": "cpu"}}');
    CALL persona.train('keyed');
    PERFORM persona.synthesize('keyed', 50, 'typed_drawn');
    RETURN QUERY EXECUTE format('SELECT min(pg_typeof(%I)::text), min(pg_typeof(%I)::text), count(DISTINCT %I) FROM typed_drawn', key, at, key);
    DROP TABLE typed_drawn;
    PERFORM persona.drop_model('keyed'), persona.drop_source('keyed');
END $$;
SELECT key, at, d.* FROM (VALUES ('u', 'day'), ('number', 'at'), ('u', 'hours')) k (key, at), drawn_by(key, at) d;

-- Errors.
SELECT persona.synthesize('walker', 10, 'drawn');
SELECT persona.synthesize('walker', 0, 'none');
SELECT persona.synthesize('walker', NULL, 'none');
SELECT persona.synthesize('walker', 10, 'a.b.c');
SELECT persona.synthesize('walker', 10, 'nowhere.none');
SELECT persona.synthesize('nobody', 10, 'none');
SELECT persona.create_model('counts', 'visits', '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "the item"}}');
CALL persona.train('counts');
SELECT persona.synthesize('counts', 10, 'none');
SELECT persona.create_model('m', 'visits', '{"encoder": {"kind": "gan"}, "objective": {"kind": "next_event", "field": "the item"}}');
SELECT persona.create_model('m', 'visits', '{"encoder": {"kind": "gru"}, "objective": {"kind": "adversarial", "field": "the item"}}');
SELECT persona.create_model('m', 'visits', '{"encoder": {"kind": "gan"}, "objective": {"kind": "adversarial", "field": "the item"},
    "training": {"split": "leave_one_out"}}');
SELECT persona.create_model('m', 'visits', '{"encoder": {"kind": "gan", "bins": 1000}, "objective": {"kind": "adversarial", "field": "the item"}}');
SELECT persona.create_source('noted', 'visits', 'who', 'when', '{"the item": "category", "note": "text"}');
SELECT persona.create_model('m', 'noted', '{"encoder": {"kind": "gan"}, "objective": {"kind": "adversarial", "field": "the item"}}');
SELECT persona.create_source('told', 'visits', 'who', 'when', '{"the item": "category"}',
    attributes => '[{"table": "visits", "on": "the item", "fields": {"via": "category"}}]');
SELECT persona.create_model('m', 'told', '{"encoder": {"kind": "gan"}, "objective": {"kind": "adversarial", "field": "the item"}}');
-- Who may not use the model, and who may not create tables where they should be.
CREATE ROLE drawer;
CREATE SCHEMA drawer AUTHORIZATION drawer;
GRANT SELECT ON visits TO drawer;
SET ROLE drawer;
SELECT persona.synthesize('walker', 10, 'drawer.none');
SELECT persona.create_source('theirs', 'visits', 'who', 'when', '{"the item": "category"}');
SELECT persona.create_model('theirs', 'theirs', '{"encoder": {"kind": "gan", "dim": 4, "width": 8, "pretrain": 1, "length": 8},
    "objective": {"kind": "adversarial", "field": "the item"}, "training": {"epochs": 1, "device": "cpu"}}');
CALL persona.train('theirs');
SELECT persona.synthesize('theirs', 10, 'public.none');
SELECT persona.synthesize('theirs', 10, 'drawer.own') > 0 AS some;
SELECT tableowner FROM pg_tables WHERE schemaname = 'drawer';
SELECT persona.drop_model('theirs'), persona.drop_source('theirs');
RESET ROLE;
DROP SCHEMA drawer CASCADE;
REVOKE SELECT ON visits FROM drawer;
DROP ROLE drawer;

SELECT persona.drop_profile('walker_profile');
SELECT persona.drop_model('walker'), persona.drop_model('counts'), persona.drop_source('visits'), persona.drop_source('noted'),
       persona.drop_source('told');
DROP TABLE drawn, again, other;
DROP VIEW keyed;
DROP TABLE visits;
DROP FUNCTION drawn_by;
DROP TYPE way;
DROP DOMAIN price;
