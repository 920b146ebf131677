-- Profiles of families that rank without vectors: lists of items, made by the same refresh.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;

-- Every visitor walks along a ring of 40 items, with some steps to the side, and never comes back.
CREATE TABLE walks (visitor bigint, at timestamptz, item int);
INSERT INTO walks
SELECT v, timestamptz '2024-01-01 00:00+00' + v * interval '1 minute' + n * interval '5 hours',
       (v * 7 + n + CASE WHEN (v * n) % 5 = 0 THEN 13 ELSE 0 END) % 40
FROM generate_series(1, 80) v, generate_series(1, 8 + v % 4) n;
SELECT persona.create_source('walks', 'walks', entity => 'visitor', at => 'at', fields => '{"item": "category"}');
CREATE FUNCTION model(name text, encoder jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT persona.create_model(name, source => 'walks', spec => jsonb_build_object(
        'encoder', encoder, 'objective', jsonb_build_object('kind', 'next_event', 'field', 'item'),
        'training', '{"split": "leave_one_out", "epochs": 20, "patience": 20, "batch_events": 256,
                      "learning_rate": 0.01, "warmup": 5, "device": "cpu", "precision": "f32"}'::jsonb,
        'evaluation', '{"seen": "remove", "k": [5, 10]}'::jsonb)) $$;
SELECT model('popular', '{"kind": "popularity"}'), model('counts', '{"kind": "transitions"}'),
       model('alike', '{"kind": "knn"}'), model('network', '{"kind": "transformer", "dim": 16, "dropout": 0}'),
       model('blended', '{"kind": "blend", "models": ["popular", "counts", "alike", "network"]}');
CALL persona.train('popular');
CALL persona.train('counts');
CALL persona.train('alike');
CALL persona.train('network');
CALL persona.train('blended');

-- A family without vectors has lists, of 100 items where nothing else is said; one with vectors can have both.
SELECT persona.create_profile('popular_profile', model => 'popular');
SELECT persona.create_profile('counts_profile', model => 'counts', options => '{"recommendations": 40}');
SELECT persona.create_profile('alike_profile', model => 'alike', options => '{"recommendations": 40}');
SELECT persona.create_profile('network_profile', model => 'network', options => '{"recommendations": 40}');
SELECT persona.create_profile('blended_profile', model => 'blended', options => '{"recommendations": 40}');
\d popular_profile
\d network_profile
SELECT profile, items, model, options FROM persona.profiles ORDER BY profile::text;
SELECT a.attname, col_description(a.attrelid, a.attnum) FROM pg_attribute a
WHERE attrelid = 'counts_profile'::regclass AND attnum > 0 ORDER BY attnum;
SELECT * FROM attempt($$SELECT * FROM persona.recommend('popular_profile', 1)$$);

-- The lists are what evaluate judges: without its last event, each visitor's list ranks that event as the
-- test did, whatever the family. All items are listed, so every figure can be had from the lists.
CREATE TABLE last_events AS SELECT DISTINCT ON (visitor) * FROM walks ORDER BY visitor, at DESC;
DELETE FROM walks w USING last_events l WHERE (w.visitor, w.at) = (l.visitor, l.at);
CALL persona.refresh('popular_profile');
CALL persona.refresh('counts_profile');
CALL persona.refresh('alike_profile');
CALL persona.refresh('network_profile');
CALL persona.refresh('blended_profile');
-- What is computed at the moment of the question is the same, whatever the family, with and without what was seen.
SELECT model, bool_and((SELECT array_agg(item) FROM persona.recommend(profile, visitor, 5, seen))
                       = (SELECT array_agg(item) FROM persona.recommend(profile, visitor, 5, seen, fresh => true))) AS same
FROM persona.profiles, generate_series(1, 3) visitor, unnest(ARRAY[false, true]) seen
WHERE model IN ('popular', 'counts', 'alike', 'network', 'blended') GROUP BY model ORDER BY model;
SELECT * FROM attempt($$SELECT * FROM persona.recommend('popular_profile', 1000, fresh => true)$$);
CREATE VIEW listed AS
SELECT p.model, p.visitor, i.* FROM (
    SELECT 'popular' AS model, visitor, items, scores FROM popular_profile
    UNION ALL SELECT 'counts', visitor, items, scores FROM counts_profile
    UNION ALL SELECT 'alike', visitor, items, scores FROM alike_profile
    UNION ALL SELECT 'network', visitor, items, scores FROM network_profile
    UNION ALL SELECT 'blended', visitor, items, scores FROM blended_profile) p,
    unnest(p.items, p.scores) WITH ORDINALITY AS i (item, score, place);
CREATE VIEW judged AS
WITH fresh AS (
    SELECT * FROM listed l WHERE NOT EXISTS (SELECT FROM walks w WHERE (w.visitor, w.item) = (l.visitor, l.item))),
ranks AS (
    SELECT t.model, 1 + count(*) FILTER (WHERE o.score > t.score) + (count(*) FILTER (WHERE o.score = t.score) - 1) / 2.0 AS rank
    FROM last_events l JOIN fresh t USING (visitor, item) JOIN fresh o USING (model, visitor) GROUP BY t.model, l.visitor)
SELECT model, f.* FROM (
    SELECT model, avg((rank <= 5)::int) AS hr5, avg((rank <= 10)::int) AS hr10,
           avg(CASE WHEN rank <= 10 THEN 1 / log(2, rank + 1) ELSE 0 END) AS ndcg10, avg(1 / rank) AS mrr, count(*) AS cases
    FROM ranks GROUP BY model) r,
    LATERAL (VALUES ('hr@5', hr5), ('hr@10', hr10), ('ndcg@10', ndcg10), ('mrr', mrr), ('cases', cases)) AS f (metric, value);
SELECT model, count(*) AS figures, bool_and(abs(j.value - m.value) < 1e-6) AS same
FROM judged j JOIN persona.metrics m USING (model, metric) WHERE m.epoch IS NULL AND m.split = 'test'
GROUP BY model ORDER BY model;
-- By a peer of its own: the popular items are those of the training events, which are all but two of a visitor's.
SELECT count(*) AS listed, bool_and(l.score = e.events) AS popular FROM listed l JOIN (
    SELECT item, count(*) AS events FROM (
        SELECT item, row_number() OVER (PARTITION BY visitor ORDER BY at DESC) AS n FROM walks) w
    WHERE n > 1 GROUP BY item) e USING (item) WHERE l.model = 'popular';

-- recommend answers from the list, and leaves out what was seen as of now.
SELECT count(*) AS visitors, bool_and(answer = items[1:7]) AS items_agree, bool_and(answer_scores = scores[1:7]) AS scores_agree
FROM counts_profile p, LATERAL (
    SELECT array_agg(item::int) AS answer, array_agg(score) AS answer_scores FROM persona.recommend('counts_profile', p.visitor, k => 7)) a;
SELECT bool_and(answer = ARRAY(
    SELECT l.item FROM listed l WHERE l.model = 'blended' AND l.visitor = p.visitor AND NOT EXISTS (
        SELECT FROM walks w WHERE (w.visitor, w.item) = (l.visitor, l.item)) ORDER BY place LIMIT 7)) AS unseen_agree
FROM blended_profile p, LATERAL (
    SELECT array_agg(item::int) AS answer FROM persona.recommend('blended_profile', p.visitor, k => 7, exclude_seen => true)) a;
SELECT count(*) FROM persona.recommend('popular_profile', 1, k => 100);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('popular_profile', 1, k => 101)$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('popular_profile', 999)$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('popular_profile', gen_random_uuid())$$);
SELECT * FROM attempt($$SELECT * FROM persona.similar('popular_profile', 1)$$);

-- Short lists: so many that as many are new to the visitor as are asked for, but no more.
SELECT persona.create_profile('short_profile', model => 'blended', options => '{"recommendations": 4}');
SELECT persona.create_profile('short_both', model => 'network', options => '{"recommendations": 4}');
CALL persona.refresh('short_profile');
CALL persona.refresh('short_both');
SELECT bool_and(cardinality(items) BETWEEN 4 AND 8 AND cardinality(items) = cardinality(scores)) AS bounded,
       bool_and(items[1:4] = (SELECT b.items[1:4] FROM blended_profile b WHERE b.visitor = s.visitor)) AS best
FROM short_profile s;
SELECT bool_and(unseen = 4) AS enough FROM short_profile p, LATERAL (
    SELECT count(*) AS unseen FROM persona.recommend('short_profile', p.visitor, k => 4, exclude_seen => true)) a;
SELECT * FROM attempt($$SELECT * FROM persona.recommend('short_profile', 1, k => 5)$$);
-- What was bought since the refresh is missing in a list; vectors have more.
INSERT INTO walks SELECT 1, now(), item::int FROM persona.recommend('short_profile', 1, k => 1, exclude_seen => true);
INSERT INTO walks SELECT 1, now(), item::int FROM persona.recommend('short_both', 1, k => 1, exclude_seen => true);
SELECT count(*) < 4 AS fewer FROM persona.recommend('short_profile', 1, k => 4, exclude_seen => true);
SELECT count(*) FROM persona.recommend('short_both', 1, k => 4, exclude_seen => true);
SELECT count(*) FROM persona.recommend('short_both', 1, k => 40);
SELECT count(*) FROM persona.similar('short_both', 1, k => 3);

-- Where profiles change all the time, an index that is quick to change finds the near ones as well.
SELECT persona.create_profile('flat_profile', model => 'network', options => '{"index": "ivfflat"}');
SELECT indexdef FROM pg_indexes WHERE tablename IN ('flat_profile', 'flat_profile_items') ORDER BY 1;
CALL persona.refresh('flat_profile');
SET enable_seqscan = off;
SELECT count(*) >= 5 AS mostly_the_same
FROM persona.similar('flat_profile', 2, k => 10) a JOIN persona.similar('network_profile', 2, k => 10) b USING (entity);
SELECT count(*), bool_and(ordered) FROM (
    SELECT similarity <= lag(similarity, 1, similarity) OVER () AS ordered FROM persona.similar('flat_profile', 1, k => 79)) a;
RESET enable_seqscan;
SELECT persona.drop_profile('flat_profile');
SELECT persona.create_profile('flat_profile', model => 'network', options => '{"index": "ivfflat", "lists": 3}');
SELECT indexdef FROM pg_indexes WHERE tablename = 'flat_profile' AND indexdef LIKE '%ivfflat%';
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'network', options => '{"lists": 3}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'network', options => '{"index": "ivfflat", "lists": 0}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'counts', options => '{"index": "ivfflat"}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'network', options => '{"index": "flat"}')$$);

-- Another version fills it anew.
CALL persona.train('counts');
CALL persona.refresh('counts_profile');
SELECT DISTINCT model_version FROM counts_profile;

-- But not one with other vectors than the profile was made for.
CALL persona.tune('network', '{"encoder.dim": [8], "training.epochs": [1]}', trials => 1, method => 'grid');
SELECT * FROM attempt($$CALL persona.refresh('network_profile')$$);
SELECT count(*), min(model_version), max(model_version) FROM network_profile;

-- Privileges are those of the table; what was seen is asked of the events.
CREATE ROLE regress_lists;
SET ROLE regress_lists;
SELECT * FROM attempt($$SELECT * FROM persona.recommend('counts_profile', 1)$$);
SELECT * FROM attempt($$CALL persona.refresh('counts_profile')$$);
RESET ROLE;
GRANT SELECT ON counts_profile TO regress_lists;
SET ROLE regress_lists;
SELECT count(*) FROM persona.recommend('counts_profile', 1);
SELECT state, message FROM attempt($$SELECT * FROM persona.recommend('counts_profile', 1, exclude_seen => true)$$);
RESET ROLE;

-- Options that cannot be.
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'counts', options => '{"recommendations": 0}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'counts', options => '{"recommendations": 502}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'network', options => '{"recommendations": 502}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'counts', options => '{"recommendations": "many"}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'counts', options => '{"m": 16}')$$);
SELECT persona.create_model('slices', source => 'walks', spec => '{"encoder": {"kind": "gru", "dim": 8}, "objective": {"kind": "contrastive"}}');
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'slices', options => '{"recommendations": 10}')$$);
CREATE VIEW ours AS SELECT visitor AS items, at, item FROM walks;
SELECT persona.create_source('ours', 'ours', entity => 'items', at => 'at', fields => '{"item": "category"}');
SELECT persona.create_model('ours', source => 'ours', spec => '{"encoder": {"kind": "popularity"}, "objective": {"kind": "next_event", "field": "item"}}');
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'ours')$$);

-- Lists of every type that a category can have, by entities of every type.
CREATE TYPE kind AS ENUM ('a', 'b', 'c');
CREATE FUNCTION first_of(name text, item text, visitor text) RETURNS TABLE (of regtype, list text, recommended text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE VIEW %I AS SELECT %s AS visitor, at, %s AS item FROM walks', name, visitor, item);
    PERFORM persona.create_source(name, name::regclass, entity => 'visitor', at => 'at', fields => '{"item": "category"}');
    PERFORM persona.create_model(name, source => name, spec => '{"encoder": {"kind": "popularity"},
        "objective": {"kind": "next_event", "field": "item"}, "training": {"split": "leave_one_out"}}');
    CALL persona.train(name);
    PERFORM persona.create_profile(name || '_profile', model => name, options => '{"recommendations": 3}');
    EXECUTE format('CALL persona.refresh(%L)', name || '_profile');
    RETURN QUERY EXECUTE format('SELECT pg_typeof(p.items), p.items[1:3]::text,
        (SELECT string_agg(r.item, '','') FROM persona.recommend(%1$L, p.visitor, k => 3) r) FROM %1$I p ORDER BY p.visitor LIMIT 1',
        name || '_profile');
END $$;
SELECT * FROM first_of('small', 'item::smallint', 'visitor');
SELECT * FROM first_of('large', 'item::bigint', 'visitor::text');
SELECT * FROM first_of('texts', $$repeat('é', item) || ' ' || item$$, 'md5(visitor::text)::uuid');
SELECT * FROM first_of('uuids', 'md5(item::text)::uuid', 'visitor::int');
SELECT * FROM first_of('flags', 'item % 3 = 0', 'visitor');
SELECT * FROM first_of('kinds', $$(ARRAY['a', 'b', 'c'])[1 + item % 3]::kind$$, 'visitor');

-- The longest list that is let through fits a page, even twice; texts show at the refresh.
CREATE TABLE wide (who bigint, at timestamptz, item int);
INSERT INTO wide SELECT w, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour', (w * 300 + n) % 1100
FROM generate_series(1, 3) w, generate_series(1, 900) n;
SELECT persona.create_source('wide', 'wide', entity => 'who', at => 'at', fields => '{"item": "category"}');
SELECT persona.create_model('wide', source => 'wide', spec => '{"encoder": {"kind": "transitions"},
    "objective": {"kind": "next_event", "field": "item"}, "training": {"split": "leave_one_out"}}');
CALL persona.train('wide');
SELECT persona.create_profile('wide_profile', model => 'wide', options => '{"recommendations": 501}');
CALL persona.refresh('wide_profile');
SELECT who, cardinality(items) BETWEEN 502 AND 1002 AS longer FROM wide_profile ORDER BY who;
SELECT count(*) FROM persona.recommend('wide_profile', 1, k => 501);
CREATE VIEW words AS SELECT who, at, item || repeat('x', 100) AS item FROM wide;
SELECT persona.create_source('words', 'words', entity => 'who', at => 'at', fields => '{"item": "category"}');
SELECT persona.create_model('words', source => 'words', spec => '{"encoder": {"kind": "popularity"},
    "objective": {"kind": "next_event", "field": "item"}, "training": {"split": "leave_one_out"}}');
CALL persona.train('words');
SELECT persona.create_profile('words_profile', model => 'words');
SELECT * FROM attempt($$CALL persona.refresh('words_profile')$$);
SELECT persona.drop_profile('words_profile'), persona.create_profile('words_profile', model => 'words', options => '{"recommendations": 32}');
CALL persona.refresh('words_profile');
SELECT who, cardinality(items) FROM words_profile ORDER BY who;

-- Where vectors fill the page there is no room.
SELECT persona.create_model('broad', source => 'walks', spec => '{"encoder": {"kind": "gru", "dim": 4000}, "objective": {"kind": "next_event", "field": "item"}}');
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'broad', options => '{"recommendations": 10}')$$);

-- All of it can be dropped.
DROP VIEW judged, listed;
SELECT persona.drop_profile(profile) FROM persona.profiles ORDER BY profile::text;
SELECT count(*) AS profiles FROM persona.profiles;
SELECT count(*) AS tables FROM pg_class WHERE relname ~ '_profile|^short_|persona_refresh' AND relkind = 'r';
SELECT persona.drop_model(model) FROM persona.models ORDER BY model;
SELECT persona.drop_source(source) FROM persona.sources ORDER BY source;
DROP VIEW small, large, texts, uuids, flags, kinds, words, ours;
DROP TABLE walks, last_events, wide;
DROP TYPE kind;
DROP FUNCTION model, first_of;
DROP ROLE regress_lists;
