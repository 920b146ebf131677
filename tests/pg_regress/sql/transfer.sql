-- Beginning with what was learned before: transfer, and training that goes on.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE streams (listener bigint, at timestamptz, song int, seconds real);
CREATE TABLE genders (listener bigint, gender text);
INSERT INTO streams
SELECT l, timestamptz '2024-01-01 00:00+00' + n * interval '5 hours' + l * interval '1 minute', (l % 2 * 10) + (l + n) % 10, 60 + n
FROM generate_series(1, 80) l, generate_series(1, 20) n;
INSERT INTO genders SELECT l, CASE WHEN l % 2 = 0 THEN 'f' ELSE 'm' END FROM generate_series(1, 80) l;
ANALYZE streams;
SELECT persona.create_source('streams', 'streams', entity => 'listener', at => 'at',
         fields => '{"song": "category", "seconds": "number"}', labels => '{"gender": {"table": "genders"}}');
CREATE FUNCTION spec(objective jsonb, training jsonb, encoder jsonb DEFAULT '{"kind": "gru", "dim": 16, "dropout": 0}') RETURNS jsonb
LANGUAGE sql AS $$
    SELECT jsonb_build_object('encoder', encoder, 'objective', objective, 'training',
        '{"epochs": 8, "patience": 8, "batch_events": 256, "learning_rate": 0.02, "warmup": 5, "device": "cpu", "precision": "f32"}'
        || training, 'evaluation', '{"seen": "keep", "k": [1, 5]}'::jsonb)
$$;
SELECT persona.create_model('next_song', 'streams', spec('{"kind": "next_event", "field": "song"}', '{}'));
SELECT persona.create_model('counted', 'streams', '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "song"}}');

-- There must be something to begin with, and it must fit.
\x on
SELECT * FROM attempt($$CALL persona.train('next_song', incremental => true)$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"init_from": "nothing"}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"init_from": "next_song"}'))$$);
\x off
CALL persona.train('next_song');
CALL persona.train('counted');
\x on
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"init_from": "next_song@2"}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"init_from": "counted"}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"init_from": "next_song", "freeze": ["body"]}'))$$);
SELECT * FROM attempt($$CALL persona.train('next_song', incremental => true)$$);
\x off

-- What was learned of songs serves a label; what is frozen stays.
SELECT persona.create_model('listener', 'streams', spec('{"kind": "classify", "label": "gender", "min_examples": 20}',
         '{"split": "random", "valid": 0.2, "test": 0.2, "init_from": "next_song", "freeze": ["embeddings"]}'));
CALL persona.train('listener');
SELECT spec #> '{training,init_from}' AS init_from, spec #> '{training,freeze}' AS freeze, notes FROM persona.versions WHERE model = 'listener';
SELECT metric, value > .9 AS good FROM persona.evaluate('listener') WHERE split = 'test' AND metric = 'gender.auc';

-- Other fields are another matter.
CREATE VIEW named AS SELECT listener, at, 'song ' || song AS song FROM streams;
CREATE VIEW others AS SELECT listener, at, song AS track FROM streams;
SELECT persona.create_source('named', 'named', 'listener', 'at', '{"song": "category"}');
SELECT persona.create_source('others', 'others', 'listener', 'at', '{"track": "category"}');
\x on
SELECT * FROM attempt($$SELECT persona.create_model('x', 'named', spec('{"kind": "next_event", "field": "song"}', '{"init_from": "next_song"}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'others', spec('{"kind": "next_event", "field": "track"}', '{"init_from": "next_song"}'))$$);
\x off

-- A new song and new listeners.
INSERT INTO streams
SELECT l, timestamptz '2024-01-01 00:00+00' + n * interval '5 hours' + l * interval '1 minute',
       CASE WHEN (l + n) % 10 = 3 THEN 77 ELSE (l % 2 * 10) + (l + n) % 10 END, 60 + n
FROM generate_series(41, 120) l, generate_series(21, 40) n;
CALL persona.train('next_song', incremental => true);
SELECT version, spec #> '{training,init_from}' AS init_from, events, items, notes FROM persona.versions WHERE model = 'next_song' ORDER BY version;
SELECT min(epoch) AS begins FROM persona.metrics WHERE model = 'next_song' AND version = 2;
SELECT metric, value > .9 AS good FROM persona.evaluate('next_song') WHERE split = 'test' AND metric = 'hr@1';
SELECT persona.create_profile('listeners', 'next_song');
CALL persona.refresh('listeners');
SELECT count(*) AS listeners, min(model_version) AS version, (SELECT count(*) FROM listeners_items WHERE item = 77) AS new_song FROM listeners;
CALL persona.train('counted', incremental => true);
SELECT persona.submit('train', 'counted', '{"incremental": true}') AS run \gset
SELECT persona.wait(:run);
SELECT max(version) AS version FROM persona.versions WHERE model = 'counted';

-- Smaller versions are not live until somebody says so.
CALL persona.compress('next_song', '{"prune": 0.5, "epochs": 2, "weights": "int8"}');
SELECT version, original, options, split, metric, after > .5 AS good, bytes_after < bytes_before AS smaller, round(zeros::numeric, 2) AS zeros,
       speed_before > 0 AND speed_after > 0 AS timed
FROM persona.compressions WHERE metric = 'hr@1';
SELECT a.version AS live, (SELECT max(v.version) FROM persona.versions v WHERE v.model = 'next_song') AS newest
FROM persona.aliases a WHERE a.model = 'next_song' AND alias = 'live';
SELECT sum(length(bytes)) FILTER (WHERE version = 3) = (SELECT bytes_after FROM persona.compressions LIMIT 1) AS as_told
FROM persona.weights WHERE model = 'next_song';
SELECT persona.set_alias('next_song', 'live', 3);
SELECT metric, value > .5 AS good FROM persona.evaluate('next_song') WHERE split = 'test' AND metric = 'hr@1';
CALL persona.refresh('listeners');
SELECT DISTINCT model_version FROM listeners;
\x on
SELECT * FROM attempt($$CALL persona.compress('counted', '{"prune": 0.5}')$$);
SELECT * FROM attempt($$CALL persona.compress('next_song', '{}')$$);
SELECT * FROM attempt($$CALL persona.compress('next_song', '{"prune": 1}')$$);
SELECT * FROM attempt($$CALL persona.compress('next_song', '{"weights": "int4"}')$$);
SELECT * FROM attempt($$CALL persona.compress('next_song@9', '{"weights": "half"}')$$);

-- A student needs a teacher that predicts the same.
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"teacher": {"model": "listener"}}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"teacher": {"model": "counted"}}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'named', spec('{"kind": "next_event", "field": "song"}', '{"teacher": {"model": "next_song"}}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "reconstruct", "field": "song"}', '{"split": "random", "teacher": {"model": "next_song"}}'))$$);
SELECT * FROM attempt($$SELECT persona.create_model('x', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"teacher": {"model": "next_song", "weight": 2}}'))$$);
\x off
SELECT persona.create_model('student', 'streams', spec('{"kind": "next_event", "field": "song"}', '{"teacher": {"model": "next_song@2"}}',
         '{"kind": "gru", "dim": 4, "dropout": 0}'));
CALL persona.train('student');
SELECT original, options, split, bytes_after < bytes_before AS smaller, before > 0 AS judged FROM persona.compressions
WHERE model = 'student' AND metric = 'hr@1';

SELECT persona.drop_model('student');
SELECT persona.drop_profile('listeners'), persona.drop_model('listener'), persona.drop_model('counted'), persona.drop_model('next_song');
SELECT persona.drop_source('named'), persona.drop_source('others'), persona.drop_source('streams');
DROP VIEW named, others;
DROP TABLE streams, genders;
DROP FUNCTION spec;
