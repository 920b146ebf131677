-- Rows that are likely mistakes are set aside where a source says so; all of it is counted.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE visits (who int, at timestamptz, item int, price float8);
INSERT INTO visits SELECT n % 20, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour', n % 7, n % 100 FROM generate_series(1, 1000) n;
-- Ten are there twice, five before there was a shop, five after its end; four prices are typing errors.
INSERT INTO visits SELECT * FROM visits WHERE item = 1 ORDER BY at LIMIT 10;
INSERT INTO visits SELECT n, '1970-01-01 00:00+00', 1, n FROM generate_series(1, 5) n;
INSERT INTO visits SELECT n, '9999-12-31 00:00+00', 1, n FROM generate_series(1, 5) n;
INSERT INTO visits VALUES (1, 'infinity', 1, 1), (2, '-infinity', 1, 1);
UPDATE visits SET price = 1e6 WHERE price = 50 AND at < '2024-01-20';
ANALYZE visits;

-- Left alone, they are counted.
SELECT persona.create_source('raw', 'visits', 'who', 'at', '{"item": "category", "price": "number"}');
SELECT cleaning FROM persona.sources WHERE source = 'raw';
SELECT severity, subject, finding, value, hint FROM persona.check_source('raw') WHERE finding IN ('rows', 'events', 'duplicates', 'future', 'infinite', 'span');
SELECT persona.create_source('clean', 'visits', 'who', 'at', '{"item": "category", "price": "number"}',
         cleaning => '{"duplicates": "drop", "earliest": "2000-01-01 00:00+00", "latest": "now", "winsorize": 0.02}');
SELECT cleaning FROM persona.sources WHERE source = 'clean';
SELECT severity, subject, finding, value, hint FROM persona.check_source('clean')
WHERE finding IN ('rows', 'events', 'duplicates', 'dropped', 'early', 'future', 'infinite', 'span', 'outliers');

-- Training and scoring say what they set aside, and draw outliers in to the quantiles of what was trained on.
SELECT persona.create_model('cleaned', 'clean', '{"encoder": {"kind": "gru", "dim": 8}, "objective": {"kind": "next_event", "field": "item"},
    "training": {"epochs": 1, "device": "cpu"}, "evaluation": {"seen": "keep"}}');
CALL persona.train('cleaned');
SELECT unnest(notes) FROM persona.versions WHERE model = 'cleaned';
SELECT events, entities FROM persona.versions WHERE model = 'cleaned';
SELECT persona.drop_model('cleaned'), persona.drop_source('clean'), persona.drop_source('raw');

-- Clocks of every type.
CREATE FUNCTION kept(type text, cleaning jsonb) RETURNS TABLE (finding text, value text) LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS typed CASCADE;
    EXECUTE format('CREATE TABLE typed AS SELECT who, item, %s AS at FROM visits',
        CASE type WHEN 'numeric' THEN 'extract(epoch FROM at)::numeric' ELSE 'at::' || type END);
    PERFORM persona.create_source('typed', 'typed', 'who', 'at', '{"item": "category"}', cleaning => cleaning);
    RETURN QUERY SELECT c.finding, c.value FROM persona.check_source('typed') c WHERE c.finding IN ('early', 'future', 'infinite', 'dropped');
    PERFORM persona.drop_source('typed');
END $$;
SELECT * FROM kept('timestamp', '{"earliest": "2000-01-01", "latest": "now"}');
SELECT * FROM kept('date', '{"earliest": "2000-01-01", "latest": "2024-02-01"}');
SELECT * FROM kept('numeric', '{"earliest": 946684800, "latest": 1706745600.5}');

-- Mistakes.
CREATE FUNCTION refused(cleaning jsonb, at text DEFAULT 'at', OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM persona.create_source('wrong', 'visits', 'who', at, '{"item": "category"}', cleaning => cleaning);
    message := 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;
\x on
SELECT * FROM refused('{"duplicate": "drop"}');
SELECT * FROM refused('{"duplicates": "remove"}');
SELECT * FROM refused('"all"');
SELECT * FROM refused('{"winsorize": 0.5}');
SELECT * FROM refused('{"earliest": 2000}');
SELECT * FROM refused('{"earliest": "the beginning"}');
SELECT * FROM refused('{"earliest": "infinity"}');
SELECT * FROM refused('{"earliest": "2024-02-01", "latest": "2024-01-01"}');
SELECT * FROM refused('{"latest": "now"}', at => 'price');
\x off
DROP TABLE visits CASCADE;
