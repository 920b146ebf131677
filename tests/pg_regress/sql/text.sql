-- Texts of any language and lists of tags are fields like others.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE reviews (review bigint, at timestamptz, body text, tags jsonb, good boolean);
INSERT INTO reviews
SELECT n, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour',
       (ARRAY['送餐很快，味道好极了', '太难吃了，等了两个小时', 'Great food, friendly!', 'Cold soup and rude staff'])[1 + n % 4] || ' ' || n % 7,
       CASE WHEN n % 5 = 0 THEN NULL ELSE jsonb_build_array('city ' || n % 3, CASE WHEN n % 2 = 0 THEN 'fast' ELSE 'slow' END) END,
       n % 2 = 0
FROM generate_series(1, 500) n;
UPDATE reviews SET body = '' WHERE review = 7;
ANALYZE reviews;
SELECT persona.create_source('reviews', 'reviews', entity => 'review', at => 'at',
         fields => '{"body": {"kind": "text", "min_count": 3}}',
         labels => '{"good": {"table": "reviews"}}');
SELECT persona.create_model('sentiment', source => 'reviews', spec => '{
    "encoder": {"kind": "dnn", "dim": 16, "members": 2},
    "objective": {"kind": "classify", "label": "good"},
    "training": {"split": "k_fold", "folds": 4, "valid": 0, "epochs": 10, "batch_events": 64, "learning_rate": 0.02, "device": "cpu"}}');
CALL persona.train('sentiment');
SELECT metric, value > .95 AS good FROM persona.metrics WHERE split = 'test' AND metric IN ('good.accuracy', 'good.auc') ORDER BY metric;
SELECT persona.create_profile('moods', model => 'sentiment');
CALL persona.refresh('moods');
SELECT count(*) > 480 AS right FROM moods p JOIN reviews r USING (review) WHERE p.good = r.good;

SELECT persona.create_source('tagged', 'reviews', entity => 'review', at => 'at', fields => '{"tags": "tags"}',
         labels => '{"good": {"table": "reviews"}}');
SELECT persona.create_model('tagger', source => 'tagged', spec => '{
    "encoder": {"kind": "dnn", "dim": 8, "members": 1}, "objective": {"kind": "classify", "label": "good"},
    "training": {"split": "random", "valid": 0.2, "test": 0.2, "epochs": 20, "batch_events": 64, "learning_rate": 0.02, "device": "cpu"}}');
CALL persona.train('tagger');
SELECT value > .75 AS good FROM persona.evaluate('tagger') WHERE split = 'test' AND metric = 'good.accuracy';

-- Mistakes.
SELECT persona.create_source('wrong', 'reviews', entity => 'review', at => 'at', fields => '{"good": "text"}');
SELECT persona.create_source('wrong', 'reviews', entity => 'review', at => 'at', fields => '{"body": "tags"}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"objective": {"kind": "next_event", "field": "body"}}');
UPDATE reviews SET tags = '{"not": "a list"}' WHERE review = 8;
CALL persona.train('tagger');
SELECT persona.drop_profile('moods');
SELECT persona.drop_model(model) FROM persona.models;
SELECT persona.drop_source(source) FROM persona.sources;
DROP TABLE reviews;
