-- Whether what has come since a version was trained is like what it knows.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
SET TimeZone = 'UTC';
CREATE TABLE visits (visitor bigint, at timestamptz, page int, price numeric, note text);
-- A visit a day of a hundred visitors, who walk from page to page with a jump now and then.
CREATE FUNCTION visited(first int, last int) RETURNS TABLE (visitor bigint, at timestamptz, page int, price numeric, note text)
LANGUAGE sql AS $$
    SELECT v, timestamptz '2024-01-01 08:00' + n * interval '1 day', (v + n + CASE WHEN h % 5 = 0 THEN h / 5 ELSE 0 END) % 13,
           1 + h % 17, CASE h % 3 WHEN 0 THEN 'fine' WHEN 1 THEN 'good enough' ELSE 'never again' END
    FROM generate_series(1, 100) v, generate_series(first, last) n, abs(hashint8(v * 1000 + n) % 100000) h
$$;
INSERT INTO visits SELECT * FROM visited(1, 30);
SELECT persona.create_source('visits', 'visits', entity => 'visitor', at => 'at',
         fields => '{"page": "category", "price": "number", "note": "text"}');
SELECT persona.create_model('pages', source => 'visits',
         spec => '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "page"}}');
SELECT persona.create_model('tastes', source => 'visits', spec => '{
    "encoder": {"kind": "gru", "dim": 8, "length": 10},
    "objective": {"kind": "next_event", "field": "page"},
    "training": {"epochs": 10, "learning_rate": 0.01, "batch_events": 512, "device": "cpu", "precision": "f32"}}');

-- What is wrong is said.
\x on
SELECT * FROM attempt($$SELECT persona.drift('no_such_model')$$);
SELECT * FROM attempt($$SELECT persona.drift('pages')$$);
CALL persona.train('pages');
SELECT * FROM attempt($$SELECT persona.drift(NULL)$$);
SELECT * FROM attempt($$SELECT persona.drift('pages', bounds => '{}')$$);
SELECT * FROM attempt($$SELECT persona.drift('pages', bounds => '{"psi": -1}')$$);
SELECT * FROM attempt($$SELECT persona.drift('pages', bounds => '{"mood": 1}')$$);
SELECT * FROM attempt($$SELECT persona.drift('pages', bounds => '{"energy": 0}')$$);
SELECT * FROM attempt($$SELECT persona.drift('pages', since => '2024-01-05', bounds => '{"decay": 0}')$$);
SELECT * FROM attempt($$SELECT persona.drift('pages', since => 'infinity')$$);
SELECT * FROM attempt($$SELECT persona.drift('pages', since => '2020-01-01')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 day', conditions => '{"drift": {"kl": 1}}')$$);
\x off

-- The version knows all there is.
SELECT count(*) FROM persona.drift('pages', bounds => '{"psi": 0.2}') \g (format=unaligned tuples_only=on)

-- More of the same is no drift, whatever is measured; nor is a part of what it knows beside the rest.
CALL persona.train('tastes');
INSERT INTO visits SELECT * FROM visited(31, 40);
SELECT what, name, measure, value < threshold AS below, drifted, reference, current FROM persona.drift('tastes') ORDER BY 1, 2, 3;
SELECT DISTINCT what, measure, drifted FROM persona.drift('pages') ORDER BY 1, 2;
SELECT DISTINCT what, measure, drifted FROM persona.drift('pages', since => '2024-01-20') ORDER BY 1, 2;

-- Pages change their places and some are new, prices are raised, some notes are missing, and all come twice as often.
DELETE FROM visits WHERE at > '2024-01-31 12:00';
INSERT INTO visits
SELECT visitor, at + half * interval '12 hours', 10 + page % 5, price + 5, CASE WHEN page > 3 THEN note END
FROM visited(31, 40), generate_series(0, 1) half;
SELECT what, name, measure, value > threshold AS above, drifted, reference, current FROM persona.drift('tastes') ORDER BY 1, 2, 3;

-- Bounds say what is looked at, and what matters.
SELECT name, measure, threshold, drifted FROM persona.drift('pages', bounds => '{"js": 0.9}') ORDER BY name;
SELECT what, name, measure, drifted FROM persona.drift('tastes', bounds => '{"energy": 0.99}');
-- A few visitors tell little: chance alone would move as much.
DELETE FROM visits WHERE at > '2024-01-31 12:00' AND visitor > 4;
SELECT name, threshold > 0.2 AS raised FROM persona.drift('pages', bounds => '{"psi": 0.2}') WHERE name = 'price';

-- A number is a clock too, and then there is no time to say.
CREATE TABLE steps (walker text, step int, place text);
INSERT INTO steps SELECT 'w' || w, n, 'place ' || (w * n + n) % 7 FROM generate_series(1, 40) w, generate_series(1, 20) n;
SELECT persona.create_source('steps', 'steps', entity => 'walker', at => 'step', fields => '{"place": "category"}');
SELECT persona.create_model('places', source => 'steps',
         spec => '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "place"}}');
CALL persona.train('places');
INSERT INTO steps SELECT 'w' || w, n, 'place 1' FROM generate_series(1, 40) w, generate_series(21, 25) n;
SELECT what, name, measure, drifted, reference, current FROM persona.drift('places', bounds => '{"psi": 0.2}') ORDER BY 1, 2;
\x on
SELECT * FROM attempt($$SELECT persona.drift('places', since => '2024-01-20')$$);
-- Other columns than the version knows cannot be compared.
ALTER TABLE steps ALTER place TYPE int USING 1;
SELECT * FROM attempt($$SELECT persona.drift('places')$$);
\x off

SELECT persona.drop_model('pages'), persona.drop_model('tastes'), persona.drop_model('places');
SELECT persona.drop_source('visits'), persona.drop_source('steps');
DROP TABLE visits, steps;
DROP FUNCTION visited;
