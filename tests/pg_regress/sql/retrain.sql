-- Retraining: alias and profiles change together, what they were is kept, and comes back by one call.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE visits (visitor bigint NOT NULL, at timestamptz NOT NULL, page int NOT NULL);
INSERT INTO visits
SELECT v, timestamptz '2024-01-01' + v * interval '1 minute' + n * interval '3 hours', 1 + (v + n) % 12
FROM generate_series(1, 40) v, generate_series(1, 20) n;
SELECT persona.create_source('visits', 'visits', entity => 'visitor', at => 'at', fields => '{"page": "category"}');
SELECT persona.create_model('pages', source => 'visits', spec => '{
    "encoder": {"kind": "gru", "dim": 8},
    "objective": {"kind": "next_event", "field": "page"},
    "training": {"epochs": 2, "device": "cpu", "precision": "f32"}}');
CREATE VIEW state AS
SELECT (SELECT version FROM persona.aliases WHERE model = 'pages' AND alias = 'live') AS live, p.profile, p.version, k.version AS kept, k.live AS kept_live,
       k.items IS NOT NULL AS with_items
FROM persona.profiles p LEFT JOIN persona.previous k USING (profile) WHERE p.model = 'pages' ORDER BY p.profile::text;

-- A model without profiles is trained, and there is nothing to roll back.
CALL persona.retrain('pages');
\x on
SELECT * FROM attempt($$SELECT persona.rollback('pages')$$);
SELECT * FROM attempt($$SELECT persona.rollback('nobody')$$);
SELECT * FROM attempt($$SELECT persona.rollback(NULL)$$);
SELECT * FROM attempt($$CALL persona.retrain('nobody')$$);
SELECT * FROM attempt($$CALL persona.retrain('pages', keep => NULL)$$);
SELECT * FROM attempt($$SELECT persona.submit('retrain', 'pages', '{"keep": "yes"}')$$);

-- A profile that was filled otherwise keeps nothing.
SELECT persona.create_profile('page_visitors', model => 'pages');
SELECT persona.create_profile('page_lists', model => 'pages', options => '{"recommendations": 5}');
CALL persona.refresh('page_visitors');
CALL persona.refresh('page_lists');
SELECT * FROM attempt($$SELECT persona.rollback('pages')$$);
\x off
SELECT * FROM state;

-- All profiles change with the alias, and back, and forward.
CALL persona.retrain('pages');
SELECT * FROM state;
SELECT DISTINCT model_version FROM page_visitors UNION ALL SELECT DISTINCT model_version FROM page_lists;
SELECT persona.rollback('pages');
SELECT * FROM state;
SELECT DISTINCT model_version FROM page_visitors UNION ALL SELECT DISTINCT model_version FROM page_lists;
SELECT count(*) FROM persona.recommend('page_visitors', 7, k => 3);
SELECT persona.rollback('pages');
SELECT * FROM state;
SELECT version FROM persona.lives WHERE model = 'pages' ORDER BY since;
-- What is kept has the indexes of what is live.
SELECT (SELECT string_agg(amname, ', ' ORDER BY amname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = t) AS indexes
FROM persona.previous, LATERAL (VALUES (kept), (items)) v (t) ORDER BY profile::text, t = items;

-- No version is pruned that a profile is kept of.
CALL persona.run_job(persona.add_job('prune', 'pages', '1 day', enabled => false, config => '{"keep": 0}'));
SELECT version FROM persona.versions WHERE model = 'pages' ORDER BY version;

-- What stands in the way of a rollback.
\x on
SELECT persona.set_alias('pages', 'live', 1);
SELECT * FROM attempt($$SELECT persona.rollback('pages')$$);
SELECT persona.set_alias('pages', 'live', 2);
CREATE INDEX by_events ON page_visitors (events);
SELECT * FROM attempt($$SELECT persona.rollback('pages')$$);
DROP INDEX by_events;
ALTER TABLE page_visitors ADD remark text;
SELECT * FROM attempt($$SELECT persona.rollback('pages')$$);
SELECT * FROM attempt($$CALL persona.retrain('pages')$$);
\x off

-- What is kept of a profile that DROP TABLE has taken is named, and goes with the next prune.
DROP TABLE page_visitors, page_visitors_items;
SELECT level, regexp_replace(object, '\d+', 'N') AS object, regexp_replace(finding, '\d+ kB', 'N kB') AS finding, hint
FROM persona.health() WHERE object LIKE 'table %';
SELECT job FROM persona.jobs WHERE object = 'pages' \gset
CALL persona.run_job(:job);
SELECT count(*) FROM persona.health() WHERE object LIKE 'table %';
SELECT * FROM state;

-- A version with other vectors is refused before it is trained.
CALL persona.tune('pages', '{"encoder.dim": [16]}', trials => 1, method => 'grid');
\x on
SELECT * FROM attempt($$CALL persona.retrain('pages', incremental => true)$$);
\x off
SELECT persona.set_alias('pages', 'live', 2);

-- Incrementally, and without keeping.
INSERT INTO visits
SELECT v, timestamptz '2024-02-01' + v * interval '1 minute' + n * interval '3 hours', 1 + (v + n) % 12
FROM generate_series(1, 40) v, generate_series(1, 20) n;
CALL persona.retrain('pages', incremental => true, keep => false);
SELECT * FROM state;
CALL persona.retrain('pages');
SELECT * FROM state;
SELECT persona.drop_previous('pages'), persona.drop_previous('pages');

-- A profile that another version fills has no version before it.
CALL persona.retrain('pages');
SELECT persona.set_alias('pages', 'live', 1);
CALL persona.refresh('page_lists');
SELECT * FROM state;

-- In a transaction block all of it is one transaction.
BEGIN;
CALL persona.retrain('pages');
SELECT persona.rollback('pages');
SELECT persona.rollback('pages');
ROLLBACK;
SELECT * FROM state;

SELECT persona.drop_profile('page_lists');
SELECT persona.drop_model('pages');
SELECT persona.drop_source('visits');
SELECT count(*) FROM persona.previous;
DROP VIEW state;
DROP TABLE visits;
