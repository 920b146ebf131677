-- Ratings: what an entity will give an item, from what it gave others.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE reviews (reader bigint, at timestamptz, book text, stars real, pages int);
-- Two kinds of readers like two kinds of books; books are better or worse, and readers kinder or harsher.
INSERT INTO reviews
SELECT r, timestamptz '2024-01-01 00:00+00' + n * interval '1 day' + r * interval '1 minute', 'b' || b,
       3 + CASE WHEN b % 2 = r % 2 THEN 1.2 ELSE -1.2 END + (b % 5 - 2) * .2 + (r % 3 - 1) * .3, 100 + b
FROM generate_series(1, 200) r, generate_series(1, 16) n, LATERAL (SELECT (r * 7 + n * 11 + n * n * (r % 5)) % 40 AS b) drawn;
INSERT INTO reviews SELECT r, timestamptz '2024-01-09 12:00+00', 'b1', NULL, 101 FROM generate_series(1, 30) r;
ANALYZE reviews;
SELECT persona.create_source('reviews', 'reviews', entity => 'reader', at => 'at',
         fields => '{"book": "category", "stars": "number"}');

SELECT persona.create_model(name, source => 'reviews', spec => jsonb_build_object(
         'encoder', encoder,
         'objective', '{"kind": "ratings", "field": "book", "value": "stars"}'::jsonb,
         'training', '{"split": "leave_one_out", "epochs": 30, "patience": 30, "batch_events": 256, "learning_rate": 0.01,
                       "warmup": 5, "device": "cpu"}'::jsonb))
FROM (VALUES ('factors', '{"kind": "mf", "loss": "squared", "dim": 4, "epochs": 60}'::jsonb),
             ('items', '{"kind": "knn"}'), ('users', '{"kind": "knn", "by": "user"}'),
             ('network', '{"kind": "ncf", "dim": 8, "dropout": 0.1}')) model (name, encoder);
CALL persona.train('factors');
CALL persona.train('items');
CALL persona.train('users');
CALL persona.train('network');
SELECT model, notes FROM persona.versions ORDER BY model;
SELECT model, split, metric, value < .8 AS near, low < value AND value < high AS interval FROM persona.metrics
WHERE metric = 'rmse' AND epoch IS NULL ORDER BY model, split;
SELECT DISTINCT split, metric FROM persona.metrics WHERE model = 'factors' ORDER BY split, metric;

-- What is stored gives the figures that training gave.
SELECT name, (SELECT bool_and(e.value = m.value AND e.low IS NOT DISTINCT FROM m.low)
              FROM persona.evaluate(name) e JOIN persona.metrics m USING (split, metric)
              WHERE m.model = name AND m.epoch IS NULL) AS same
FROM unnest(ARRAY['factors', 'items', 'users', 'network']) name;

-- On the same cases, the best first: less is better.
SELECT metric, count(*), bool_and(cases = 200) AS cases, count(difference) AS differences,
       array_agg(value ORDER BY place) = array_agg(value ORDER BY CASE metric WHEN 'r2' THEN -value ELSE value END) AS best_first
FROM persona.compare(ARRAY['factors', 'items', 'users', 'network']) WITH ORDINALITY
     AS c (metric, model, value, low, high, difference, difference_low, difference_high, cases, place)
GROUP BY metric ORDER BY metric;

-- A profile's products with items are ratings; the best are recommended.
SELECT persona.create_profile('readers', model => 'factors');
CALL persona.refresh('readers');
SELECT count(*), bool_and(right(item, 1)::int % 2 = 1) AS of_its_kind, bool_and(score BETWEEN 3 AND 6) AS stars
FROM persona.recommend('readers', 1, k => 5);
SELECT count(*) FROM persona.recommend('readers', 1, k => 40, exclude_seen => true);
SELECT reader % 2 AS kind, count(*) FROM persona.similar('readers', 1, k => 10) s JOIN readers ON reader::text = s.entity GROUP BY 1;

-- A network of pairs has no vectors; its profile has lists.
SELECT persona.create_profile('lists', model => 'network');
CALL persona.refresh('lists');
SELECT count(*), bool_and(right(item, 1)::int % 2 = 1) AS of_its_kind, bool_and(score BETWEEN 3 AND 6) AS stars
FROM persona.recommend('lists', 1, k => 5);
SELECT persona.drop_profile('lists');

-- A network of pairs ranks the next event too.
SELECT persona.create_model('pairs', source => 'reviews', spec => '{
    "encoder": {"kind": "ncf", "dim": 8, "negatives": 20}, "objective": {"kind": "next_event", "field": "book"},
    "training": {"epochs": 3, "batch_events": 256, "device": "cpu"}}');
CALL persona.train('pairs');
SELECT count(*) > 0 AS ranked FROM persona.evaluate('pairs') WHERE metric = 'ndcg@10';
SELECT * FROM persona.compare(ARRAY['pairs', 'network']);

-- Mistakes.
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "mf", "loss": "squared"}, "objective": {"kind": "next_event", "field": "book"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "mf"}, "objective": {"kind": "ratings", "field": "book", "value": "stars"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "gru"}, "objective": {"kind": "ratings", "field": "book", "value": "stars"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "knn"}, "objective": {"kind": "ratings", "field": "book"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "knn"}, "objective": {"kind": "ratings", "field": "book", "value": "book"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "knn"}, "objective": {"kind": "ratings", "field": "book", "value": "points"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "knn"}, "objective": {"kind": "ratings", "field": "stars", "value": "stars"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "knn"}, "objective": [{"kind": "ratings", "field": "book", "value": "stars"}, {"kind": "next_event", "field": "book"}]}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "knn"}, "objective": {"kind": "ratings", "field": "book", "value": "stars"}, "training": {"split": "k_fold"}}');
SELECT persona.create_model('wrong', source => 'reviews', spec => '{"encoder": {"kind": "ncf"}, "objective": {"kind": "next_event", "field": "book", "negatives": 50}}');
SELECT persona.create_model('mixed', source => 'reviews', spec => '{"encoder": {"kind": "blend", "models": ["items", "pairs"]}, "objective": {"kind": "next_event", "field": "book"}}');
CALL persona.train('mixed');
UPDATE reviews SET stars = 4;
CALL persona.train('items');
UPDATE reviews SET stars = NULL;
CALL persona.train('items');
SELECT persona.drop_profile('readers');
SELECT persona.drop_model(model) FROM persona.models ORDER BY model;
SELECT persona.drop_source('reviews');
DROP TABLE reviews;
