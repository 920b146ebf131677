-- Every kind of field beside categories and plain numbers: paths into JSON, times, vectors; and a union of event tables.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;

-- Paths into JSON. What has another type than the field's kind is missing, and counted.
CREATE TABLE clicks (who int, at timestamptz, payload jsonb, raw json);
INSERT INTO clicks
SELECT n % 40, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour',
       jsonb_build_object('page', jsonb_build_object('name', 'page "' || n % 5 || '" \ é', 'words', n % 50), 'tags', jsonb_build_array('t' || n % 3, n % 2), 'paid', n % 4 = 0, 'code', n % 6),
       json_build_object('note', 'fine day ' || n % 4)
FROM generate_series(1, 600) n;
UPDATE clicks SET payload = payload || '{"page": {"name": {"de": "Seite"}, "words": "many"}, "tags": "t1"}' WHERE at < '2024-01-01 10:30+00';
UPDATE clicks SET payload = payload || '{"page": null}', raw = '{"note": 7}' WHERE at > '2024-01-25 20:30+00';
ANALYZE clicks;
SELECT persona.create_source('clicks', 'clicks', 'who', 'at', '{
    "page": {"kind": "category", "column": "payload", "path": "$.page.name"},
    "words": {"kind": "number", "column": "payload", "path": "$.page.words", "scale": "quantile"},
    "paid": {"kind": "number", "column": "payload", "path": "$.paid"},
    "code": {"kind": "category", "column": "payload", "path": "$.code"},
    "tags": {"kind": "tags", "column": "payload", "path": "$.tags"},
    "note": {"kind": "text", "column": "raw", "path": "$.note"}}');
SELECT f->>'name' AS name, f->>'kind' AS kind, f->>'column' AS "column", f->>'path' AS path, f->>'scale' AS scale
FROM persona.sources, jsonb_array_elements(fields) f WHERE source = 'clicks';
SELECT severity, subject, finding, value FROM persona.check_source('clicks') WHERE finding IN ('nulls', 'distinct', 'mistyped') ORDER BY subject, finding;
SELECT persona.create_model('pages', 'clicks', '{"encoder": {"kind": "gru", "dim": 8}, "objective": {"kind": "next_event", "field": "page"},
    "training": {"epochs": 1, "device": "cpu"}, "evaluation": {"seen": "keep"}}');
CALL persona.train('pages');
SELECT unnest(notes) FROM persona.versions WHERE model = 'pages';
SELECT persona.create_profile('readers', 'pages');
CALL persona.refresh('readers');
SELECT item, events FROM readers_items ORDER BY item;
SELECT count(*) AS all_pages FROM persona.recommend('readers', 1, k => 10);
SELECT count(*) AS new_pages FROM persona.recommend('readers', 1, k => 10, exclude_seen => true);
SELECT 5 - count(DISTINCT payload #>> '{page,name}') AS new_pages FROM clicks WHERE who = 1 AND jsonb_typeof(payload #> '{page,name}') = 'string';
SELECT persona.drop_profile('readers'), persona.drop_model('pages'), persona.drop_source('clicks');

-- A field can have another name than its column.
SELECT persona.create_source('named', 'clicks', 'who', 'at', '{"note": {"kind": "tags", "column": "payload", "path": "$.tags"}, "body": {"kind": "category", "column": "raw", "path": "$.note"}}');
SELECT subject, value FROM persona.check_source('named') WHERE finding = 'distinct';
SELECT persona.drop_source('named');

-- Events of several tables.
CREATE SCHEMA "Der Laden";
CREATE TABLE "Der Laden"."käufe" (kunde int, am timestamptz, ware varchar(20), betrag numeric(8,2));
CREATE TABLE views (customer bigint, seen timestamptz, product text, seconds int);
CREATE TABLE searches (customer bigint, seen timestamptz, words text, seconds real);
INSERT INTO "Der Laden"."käufe" SELECT n % 30, timestamptz '2024-01-01 00:00+00' + n * interval '3 hours', 'p' || n % 9, n % 7 FROM generate_series(1, 200) n;
INSERT INTO views SELECT n % 30, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour', 'p' || (n + 1) % 9, n % 60 FROM generate_series(1, 600) n;
INSERT INTO searches SELECT n % 30, timestamptz '2024-01-01 00:00+00' + n * interval '2 hours', 'looking for p' || n % 9, NULL FROM generate_series(1, 300) n;
ANALYZE "Der Laden"."käufe", views, searches;
SELECT persona.union_source('activity', '[
    {"table": "\"Der Laden\".\"käufe\"", "event": "it''s bought", "entity": "kunde", "at": "am", "columns": {"product": "ware", "The Amount": "betrag"}},
    {"table": "views", "event": "view", "entity": "customer", "at": "seen", "columns": {"product": "product", "seconds": "seconds"}},
    {"table": "searches", "entity": "customer", "at": "seen", "columns": {"words": "words", "seconds": "seconds"}}]');
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'activity'::regclass ORDER BY attnum;
SELECT event, count(*), count(product) AS products, count("The Amount") AS amounts, count(words) AS words, count(seconds) AS seconds FROM activity GROUP BY event ORDER BY event;
-- The planner reads the tables themselves, and leaves out those of other events.
EXPLAIN (COSTS OFF) SELECT entity, at, event, product FROM activity;
EXPLAIN (COSTS OFF) SELECT count(*) FROM activity WHERE event = 'view';
SELECT persona.create_source('activity', 'activity', 'entity', 'at', '{"event": "category", "product": "category", "seconds": "number", "The Amount": "number", "words": "text"}');
SELECT subject, finding, value FROM persona.check_source('activity') WHERE finding IN ('events', 'entities', 'nulls', 'distinct');
SELECT persona.create_model('active', 'activity', '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "event"}}');
CALL persona.train('active');
SELECT persona.drop_model('active'), persona.drop_source('activity');

-- Times: the loan is repaid where it is due after the last payment. Infinite times are missing.
CREATE TABLE payments (loan int, at date, amount real);
CREATE TABLE loans (loan int, due timestamptz, signed date, repaid boolean);
INSERT INTO payments SELECT n % 300, date '2024-01-01' + n / 300 * 7, n % 5 FROM generate_series(0, 1499) n;
INSERT INTO loans SELECT n, timestamptz '2024-01-01 00:00+00' + CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END * (40 + n * 7 % 90) * interval '1 day',
                         date '2023-01-01' + n % 200, n % 2 = 0 FROM generate_series(0, 299) n;
UPDATE loans SET due = 'infinity' WHERE loan < 10;
SELECT persona.create_source('loans', 'payments', 'loan', 'at', '{"amount": "number"}',
         attributes => '{"table": "loans", "fields": {"until": {"kind": "time", "column": "due"}, "signed": "time"}}', labels => '{"repaid": {"table": "loans"}}');
SELECT severity, subject, finding, value FROM persona.check_source('loans') WHERE subject IN ('until', 'signed') ORDER BY subject, finding;
SELECT persona.create_model('repaying', 'loans', '{"encoder": {"kind": "dnn", "dim": 8, "members": 1}, "objective": {"kind": "classify", "label": "repaid"},
    "training": {"split": "random", "valid": 0.2, "test": 0.3, "epochs": 15, "batch_events": 128, "learning_rate": 0.02, "device": "cpu"}}');
CALL persona.train('repaying');
SELECT value > .9 AS good FROM persona.evaluate('repaying') WHERE split = 'test' AND metric = 'repaid.auc';
SELECT unnest(notes) FROM persona.versions WHERE model = 'repaying';
SELECT persona.drop_model('repaying'), persona.drop_source('loans');

-- Vectors: of the events and of what they name. Nothing else tells who likes what is bright.
CREATE TABLE looks (item int PRIMARY KEY, look vector(4), small halfvec(3), free vector);
CREATE TABLE likes (who int, at timestamptz, item int, mood vector(2));
INSERT INTO looks SELECT n, CASE WHEN n % 11 > 0 THEN ARRAY[n % 7, (n % 240 / 6 % 2) * 4 + n % 3, n % 5, 0.5]::vector END, ARRAY[n % 3, 1, n % 4]::halfvec, ARRAY[n % 5, n % 7]::vector
FROM generate_series(0, 1439) n;
INSERT INTO likes SELECT n / 6, timestamptz '2024-01-01 00:00+00' + n % 6 * interval '1 day', n, ARRAY[n % 3, n % 2]::vector FROM generate_series(0, 1439) n;
CREATE TABLE people (who int, bright boolean);
INSERT INTO people SELECT n, n % 2 = 1 FROM generate_series(0, 239) n;
SELECT persona.create_source('likes', 'likes', 'who', 'at', '{"item": "category", "mood": "vector"}',
         attributes => '{"table": "looks", "on": "item", "fields": {"look": "vector", "small": "vector", "any": {"kind": "vector", "column": "free"}}}',
         labels => '{"bright": {"table": "people"}}');
SELECT f->>'name' AS name, f->'value' AS value FROM persona.attributes, jsonb_array_elements(definition #> '{attributes,fields}') f;
SELECT severity, subject, finding, value FROM persona.check_source('likes') WHERE subject IN ('look', 'small', 'mood', 'any') ORDER BY subject, finding;
SELECT persona.create_model('liking', 'likes', '{"encoder": {"kind": "transformer", "dim": 16, "length": 8}, "objective": {"kind": "classify", "label": "bright"},
    "training": {"split": "random", "valid": 0.2, "test": 0.3, "epochs": 20, "batch_events": 128, "learning_rate": 0.01, "device": "cpu"}}');
CALL persona.train('liking');
SELECT value > .95 AS good FROM persona.evaluate('liking') WHERE split = 'test' AND metric = 'bright.auc';
SELECT persona.create_profile('tastes', 'liking');
CALL persona.refresh('tastes');
SELECT count(*) > 220 AS right FROM tastes JOIN people USING (who) WHERE tastes.bright = people.bright;
-- Vectors of another dimension are another source.
ALTER TABLE looks ALTER COLUMN small TYPE halfvec(2) USING subvector(small, 1, 2);
CALL persona.refresh('tastes');
SELECT persona.drop_profile('tastes'), persona.drop_model('liking'), persona.drop_source('likes');

\x on
-- Mistakes.
INSERT INTO looks (item, free) VALUES (-1, '[1,2,3]');
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'likes', 'who', 'at', '{"item": "category"}', attributes => '{"table": "looks", "on": "item", "fields": {"free": "vector"}}')$$);
DELETE FROM looks;
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'likes', 'who', 'at', '{"item": "category"}', attributes => '{"table": "looks", "on": "item", "fields": {"free": "vector"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'likes', 'who', 'at', '{"item": "vector"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'likes', 'who', 'at', '{"item": "time"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'likes', 'who', 'item', '{"mood": "vector", "day": {"kind": "time", "column": "at"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'clicks', 'who', 'at', '{"born": {"kind": "time", "column": "payload", "path": "$.born"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'likes', 'who', 'at', '{"mood": {"kind": "vector", "min_count": 2}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'clicks', 'who', 'at', '{"page": {"kind": "category", "column": "payload", "path": "page.name"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'clicks', 'who', 'at', '{"page": {"kind": "category", "column": "at", "path": "$.name"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'clicks', 'who', 'at', '{"page": {"kind": "category", "column": "who", "path": "$.name"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'clicks', 'who', 'at', '{"payload": {"kind": "category", "path": "$.code", "scale": "log"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'clicks', 'who', 'at', '{"payload": {"kind": "number", "path": "$.code", "min_count": 3}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('wrong', 'clicks', 'who', 'at', '{"payload": {"kind": "number", "path": "$.code", "scale": "linear"}}')$$);
SELECT * FROM attempt($$SELECT persona.union_source('activity', '[{"table": "views", "entity": "customer", "at": "seen"}]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '[{"table": "views", "entity": "customer", "at": "seen", "columns": {"x": "seconds"}}, {"table": "clicks", "entity": "who", "at": "at", "columns": {"x": "payload"}}]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '[{"table": "views", "entity": "customer", "at": "seen"}, {"table": "searches", "entity": "words", "at": "seen"}]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '[{"table": "views", "entity": "customer", "at": "seen"}, {"table": "searches", "entity": "customer", "at": "customer"}]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '[{"table": "views", "entity": "customer", "at": "seen", "columns": {"event": "product"}}]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '[{"table": "views", "entity": "customer", "at": "seen", "columns": {"price": "price"}}]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '[{"table": "gone", "entity": "customer", "at": "seen"}]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '[]')$$);
SELECT * FROM attempt($$SELECT persona.union_source('more', '{"table": "views"}')$$);
SELECT * FROM attempt($$SELECT persona.union_source('a.b.c', '[{"table": "views", "entity": "customer", "at": "seen"}]')$$);
\x off
-- Only what one may read.
CREATE ROLE reader;
GRANT CREATE ON SCHEMA public TO reader;
GRANT SELECT (customer, seen) ON views TO reader;
SET ROLE reader;
SELECT persona.union_source('mine', '[{"table": "views", "entity": "customer", "at": "seen"}]');
SELECT pg_get_userbyid(relowner) AS owner FROM pg_class WHERE relname = 'mine';
SELECT message FROM public.attempt($$SELECT persona.union_source('more', '[{"table": "views", "entity": "customer", "at": "seen", "columns": {"product": "product"}}]')$$);
RESET ROLE;
DROP VIEW mine;
REVOKE ALL ON SCHEMA public FROM reader;
REVOKE ALL ON views FROM reader;
DROP ROLE reader;
DROP TABLE clicks, views, searches, payments, loans, looks, likes, people CASCADE;
DROP SCHEMA "Der Laden" CASCADE;
