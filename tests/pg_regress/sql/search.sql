-- Trials of settings, recorded; the best becomes a version.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE plays (listener bigint, at timestamptz, song int);
INSERT INTO plays
SELECT l, timestamptz '2024-01-01 00:00+00' + n * interval '5 hours' + l * interval '1 minute', (l * 3 + n) % 20
FROM generate_series(1, 60) l, generate_series(1, 25) n;
ANALYZE plays;
SELECT persona.create_source('plays', 'plays', entity => 'listener', at => 'at', fields => '{"song": "category"}');
SELECT persona.create_model('next', source => 'plays', spec => '{
    "encoder": {"kind": "gru", "dim": 16, "dropout": 0, "time_gaps": false},
    "objective": {"kind": "next_event", "field": "song"},
    "training": {"epochs": 9, "patience": 9, "batch_events": 256, "warmup": 5, "device": "cpu", "precision": "f32"},
    "evaluation": {"seen": "keep", "k": [1, 5]}}');

CALL persona.tune('next', '{"training.learning_rate": [0.00001, 0.02], "encoder.dim": [8, 16]}', method => 'grid');
SELECT search, trial, settings, epochs, metric, value IS NOT NULL AS judged, message FROM persona.trials ORDER BY search, trial;
-- Who hardly moves learns nothing.
SELECT version, spec #>> '{training,learning_rate}' AS learning_rate FROM persona.versions WHERE model = 'next';
SELECT (SELECT settings #>> '{training.learning_rate}' FROM persona.trials WHERE search = 1 ORDER BY value DESC LIMIT 1) AS best;

CALL persona.tune('next', '{"training.learning_rate": {"low": 0.0001, "high": 0.05, "log": true}}', 3, method => 'random');
CALL persona.tune('next', '{"training.learning_rate": {"low": 0.0001, "high": 0.05, "log": true}}', 3, method => 'tpe');
CALL persona.tune('next', '{"training.learning_rate": {"low": 0.0001, "high": 0.05, "log": true}}', 9, method => 'halving');
SELECT search, epochs, count(*) FROM persona.trials WHERE search > 1 GROUP BY search, epochs ORDER BY search, epochs;
SELECT count(*) AS versions FROM persona.versions;
-- The same seed searches the same settings.
SELECT a.settings = b.settings AS same FROM persona.trials a JOIN persona.trials b USING (trial) WHERE a.search = 2 AND b.search = 3;

-- A combination that cannot be is a failed trial; a value that cannot be stops the search before it begins.
CALL persona.tune('next', '{"encoder.kind": ["transitions", "gru"]}', method => 'grid');
CALL persona.tune('next', '{"encoder.dim": [8, 0]}', method => 'grid');
CALL persona.tune('next', '{"encoder.heads": [1]}', method => 'grid');
CALL persona.tune('next', '{"encoder.dim.more": [1]}', method => 'grid');
CALL persona.tune('next', '{"encoder.dim": []}');
CALL persona.tune('next', '[]');
CALL persona.tune('next', '{"encoder.dim": [8]}', 0);
CALL persona.tune('next', '{"encoder.dim": [8]}', method => 'magic');
CALL persona.tune('nothing', '{"encoder.dim": [8]}');
SELECT persona.drop_model('next'), persona.drop_source('plays');
SELECT count(*) FROM persona.trials;
DROP TABLE plays;
