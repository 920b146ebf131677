-- Profiles that are kept up to date by what has changed: triggers and watermark columns say whose events did.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE clicks (visitor bigint, at timestamptz, page text, seen_at timestamptz NOT NULL DEFAULT clock_timestamp())
    PARTITION BY RANGE (at);
CREATE TABLE clicks_2024 PARTITION OF clicks FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE clicks_later PARTITION OF clicks DEFAULT;
CREATE INDEX ON clicks (visitor, at);
INSERT INTO clicks (visitor, at, page)
SELECT v, timestamptz '2024-01-01 00:00+00' + v * interval '1 minute' + n * interval '5 hours', 'page ' || (v * 3 + n) % 20
FROM generate_series(1, 60) v, generate_series(1, 25) n;
CREATE TABLE people (id int PRIMARY KEY, city text);
INSERT INTO people SELECT i, 'city ' || i % 3 FROM generate_series(1, 60) i;
SELECT persona.create_source('clicks', 'clicks', entity => 'visitor', at => 'at', fields => '{"page": "category"}',
         attributes => '[{"table": "people", "key": "id", "fields": {"city": "category"}}]');
SELECT persona.create_model('clicker', source => 'clicks', spec => '{
    "encoder": {"kind": "gru", "dim": 16},
    "objective": {"kind": "next_event", "field": "page"},
    "training": {"epochs": 3, "device": "cpu", "precision": "f32"}}');
CALL persona.train('clicker');
SELECT persona.create_profile('clickers', model => 'clicker');

-- What is wrong is said.
\x on
SELECT * FROM attempt($$SELECT persona.track_changes('clicks', track => 'column')$$);
SELECT * FROM attempt($$SELECT persona.track_changes('clicks', track => 'column', "column" => 'nothing')$$);
SELECT * FROM attempt($$SELECT persona.track_changes('clicks', tables => '[{"name": "clicks"}]')$$);
CREATE VIEW clicks_seen AS SELECT * FROM clicks;
SELECT * FROM attempt($$SELECT persona.track_changes('clicks', tables => '[{"table": "clicks_seen", "entity": "visitor"}]')$$);
SELECT * FROM attempt($$CREATE TRIGGER mine AFTER INSERT ON clicks FOR EACH ROW EXECUTE FUNCTION persona.note_changes('clicks')$$);
SELECT * FROM attempt($$INSERT INTO clicks VALUES (1, '2024-05-05', 'page 1')$$);
DROP TRIGGER IF EXISTS mine ON clicks;
\x off

-- By triggers.
SELECT persona.track_changes('clicks');
SELECT source, track, watermark FROM persona.sources;
SELECT relation, entity FROM persona.tracked ORDER BY relation::text;
CALL persona.refresh('clickers');

-- Which rows a refresh writes, and that they say what a refresh of everything would.
CREATE TABLE before AS SELECT * FROM clickers;
CREATE VIEW rewritten AS
SELECT coalesce(p.visitor, b.visitor) AS visitor, p.visitor IS NULL AS gone, b.visitor IS NULL AS new, p.events - b.events AS more,
       p.embedding <> b.embedding AS moved
FROM clickers p FULL JOIN before b USING (visitor) WHERE p.updated_at IS DISTINCT FROM b.updated_at ORDER BY 1;
CREATE PROCEDURE remember() LANGUAGE sql BEGIN ATOMIC DELETE FROM before; INSERT INTO before SELECT * FROM clickers; END;

-- Nothing has changed.
CALL persona.refresh('clickers');
SELECT * FROM rewritten;
-- New events, late ones, a new entity, one that is moved to another, one without events any more, and what was rolled back.
INSERT INTO clicks VALUES (3, '2024-03-01', 'page 7'), (4, '2023-12-31', 'page 1'), (99, '2024-03-01', 'page 2');
INSERT INTO clicks_2024 VALUES (5, '2024-03-01', 'page 9');
UPDATE clicks SET visitor = 7 WHERE visitor = 6 AND page = 'page 0';
DELETE FROM clicks WHERE visitor = 8;
BEGIN; DELETE FROM clicks WHERE visitor = 9; ROLLBACK;
UPDATE people SET city = 'city 9' WHERE id = 11;
CALL persona.refresh('clickers');
SELECT * FROM rewritten;
SELECT * FROM persona.verify('clickers', 100);
-- A refresh of everything says the same.
CALL remember();
CALL persona.refresh('clickers', everything => true);
SELECT count(*) AS rows, count(*) FILTER (WHERE (p.embedding <-> b.embedding) < .001 AND p.events = b.events) AS same
FROM clickers p JOIN before b USING (visitor);
SELECT count(*) AS noted FROM persona.changes;

-- What a transaction writes after its own refresh is found by the next one.
BEGIN;
INSERT INTO clicks VALUES (20, '2024-03-02', 'page 7');
CALL persona.refresh('clickers');
INSERT INTO clicks VALUES (21, '2024-03-02', 'page 7');
COMMIT;
CALL persona.refresh('clickers');
SELECT * FROM persona.verify('clickers', 100);

-- What is emptied may have been about anybody: everything is read.
TRUNCATE people;
CALL persona.refresh('clickers');
SELECT * FROM persona.verify('clickers', 100);

-- A row that says something else than its events is found.
UPDATE clickers SET events = 1, embedding = (SELECT embedding FROM clickers WHERE visitor = 2) WHERE visitor = 1;
SELECT entity, distance > .001 AS far, columns FROM persona.verify('clickers', 100);
CALL persona.refresh('clickers', everything => true);

-- With a threshold, what has hardly moved stays.
SELECT persona.create_profile('lazy_clickers', model => 'clicker', options => '{"threshold": 1}');
SELECT * FROM attempt($$SELECT persona.create_profile('wrong', model => 'clicker', options => '{"threshold": -1}')$$);
CALL persona.refresh('lazy_clickers');
INSERT INTO clicks VALUES (22, '2024-03-03', 'page 7');
CALL persona.refresh('lazy_clickers');
CALL persona.refresh('clickers');
SELECT p.events - l.events AS more FROM clickers p JOIN lazy_clickers l USING (visitor) WHERE visitor = 22;

-- By a column that only grows.
SELECT persona.track_changes('clicks', track => 'column', "column" => 'seen_at');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'persona%';
CALL persona.refresh('clickers');
INSERT INTO clicks VALUES (23, '2024-03-03', 'page 7'), (100, '2024-03-03', 'page 8');
CALL persona.refresh('clickers');
SELECT * FROM persona.verify('clickers', 100);
SELECT watermarks ? 'floor' AS has_floor FROM persona.positions WHERE profile = 'clickers'::regclass;

-- What a profile would have said: now it is the row, earlier there were fewer events, and before a version lived nobody knows.
SELECT persona.profile_as_of('clickers', 30, now()) - 'embedding' = to_jsonb(c) - '{embedding,updated_at}'::text[] AS same FROM clickers c WHERE visitor = 30;
SELECT persona.profile_as_of('clickers', 30, '2024-01-03', version => 1) -> 'events' AS events;
SELECT persona.profile_as_of('clickers', 30, '2020-01-01', version => 1) AS nobody;
SELECT version, since > '2024-01-01' AS later FROM persona.lives;
SELECT * FROM attempt($$SELECT persona.profile_as_of('clickers', 30, '2024-01-03')$$);
SELECT * FROM attempt($$SELECT persona.profile_as_of('clickers', '30'::text, '2024-01-03', version => 1)$$);

\x on
-- A profile without rows has nothing to verify; nobody's table is no profile.
SELECT persona.create_profile('unfilled', model => 'clicker');
SELECT * FROM attempt($$SELECT * FROM persona.verify('unfilled')$$);
SELECT * FROM attempt($$SELECT * FROM persona.verify('clicks')$$);
\x off

SELECT persona.track_changes('clicks');
DROP PROCEDURE remember;
DROP TABLE before CASCADE;
SELECT persona.drop_profile('unfilled'), persona.drop_profile('lazy_clickers'), persona.drop_profile('clickers');
SELECT persona.drop_model('clicker');
SELECT persona.drop_source('clicks');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'persona%';
SELECT count(*) AS left_behind FROM (SELECT source FROM persona.changes UNION ALL SELECT source FROM persona.tracked
    UNION ALL SELECT profile::text FROM persona.positions) AS t;
DROP TABLE clicks, people CASCADE;
