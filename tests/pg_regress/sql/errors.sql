-- Every mistake has a SQLSTATE, a message, and a detail or a hint that says what to do.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE shop (who int, at timestamptz, item int, price float8, note text, tags text[], born date);
INSERT INTO shop SELECT n % 10, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour', n % 7, n, 'n' || n % 3, '{}', '2000-01-01'
FROM generate_series(1, 200) n;
\x on

-- Sources.
SELECT * FROM attempt($$SELECT persona.create_source('s', 'nowhere', 'who', 'at')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'whom', 'at')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'when')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{"itm": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'price', 'at', '{"item": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'note', '{"item": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{"item": "kategory"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{"price": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{"note": "number"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{"tags": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '["item"]')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{"item": {"kind": "category", "min": 3}}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'at', '{"who": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'shop', 'who', 'who', '{"item": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('', 'shop', 'who', 'at', '{"item": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source(NULL, 'shop', 'who', 'at', '{"item": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.create_source('s', 'pg_class_oid_index', 'who', 'at', '{"item": "category"}')$$);
SELECT persona.create_source('shop', 'shop', 'who', 'at', '{"item": "category", "price": "number"}');
SELECT * FROM attempt($$SELECT persona.create_source('shop', 'shop', 'who', 'at', '{"item": "category"}')$$);
SELECT * FROM attempt($$SELECT persona.check_source('shup')$$);
SELECT * FROM attempt($$SELECT persona.drop_source('shup')$$);

-- Specifications.
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shup', '{"objective": {"kind": "next_event", "field": "item"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objectives": {}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_evnt", "field": "item"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event", "field": "itm"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event", "field": "price"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"encoder": {"kind": "lstn"}, "objective": {"kind": "next_event", "field": "item"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"encoder": {"kind": "gru", "heads": 2}, "objective": {"kind": "next_event", "field": "item"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"encoder": {"kind": "transformer", "dim": 0}, "objective": {"kind": "next_event", "field": "item"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"encoder": {"kind": "transformer", "dim": 64, "heads": 3}, "objective": {"kind": "next_event", "field": "item"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"encoder": {"kind": "transformer", "dim": "wide"}, "objective": {"kind": "next_event", "field": "item"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event", "field": "item"}, "training": {"device": "tpu"}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event", "field": "item"}, "training": {"valid": 0.5, "test": 0.5}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event", "field": "item"}, "training": {"learning_rate": -1}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event", "field": "item"}, "evaluation": {"k": []}}')$$);
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', NULL)$$);
SELECT persona.create_model('m', 'shop', '{"encoder": {"kind": "gru", "dim": 8}, "objective": {"kind": "next_event", "field": "item"}, "training": {"epochs": 1, "device": "cpu"}}');
SELECT * FROM attempt($$SELECT persona.create_model('m', 'shop', '{"objective": {"kind": "next_event", "field": "item"}}')$$);

-- Training and what needs it.
SELECT * FROM attempt($$CALL persona.train('n')$$);
SELECT * FROM attempt($$CALL persona.train(NULL)$$);
SELECT * FROM attempt($$SELECT * FROM persona.evaluate('m')$$);
SELECT * FROM attempt($$SELECT persona.set_alias('m', 'live', 7)$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'n')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('shop', model => 'm')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('nowhere.p', model => 'm')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('a.b.c', model => 'm')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'm', options => '{"n": 1}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'm', options => '{"m": 1}')$$);
SELECT persona.create_profile('p', model => 'm');
SELECT * FROM attempt($$SELECT persona.create_profile('p', model => 'm')$$);
SELECT * FROM attempt($$CALL persona.refresh('p')$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('p', 1)$$);
CALL persona.train('m');
CALL persona.refresh('p');
SELECT * FROM attempt($$CALL persona.refresh('shop')$$);
SELECT * FROM attempt($$CALL persona.refresh('nowhere')$$);
SELECT * FROM attempt($$CALL persona.refresh(NULL)$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('p', 99)$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('p', 1, k => 0)$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('p', 'one')$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('p', gen_random_uuid())$$);
SELECT * FROM attempt($$SELECT * FROM persona.recommend('shop', 1)$$);
SELECT * FROM attempt($$SELECT * FROM persona.similar('p', 99)$$);
SELECT persona.create_model('counts', 'shop', '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "item"}}');
SELECT * FROM attempt($$SELECT persona.create_profile('q', model => 'counts', options => '{"m": 8}')$$);

-- Devices that are not there.
SELECT persona.create_model('gpu', 'shop', '{"encoder": {"kind": "gru", "dim": 8}, "objective": {"kind": "next_event", "field": "item"}, "training": {"device": "cuda:63"}}');
SELECT state, message LIKE '%cuda%' AS names_it, hint IS NOT NULL AS hinted FROM attempt($$CALL persona.train('gpu')$$);

-- The engine is not where it should be.
SET persona.engine = '/nowhere/persona-engine';
SELECT * FROM attempt($$CALL persona.train('m')$$);
RESET persona.engine;

-- Jobs.
SELECT * FROM attempt($$SELECT persona.submit('fly', 'm')$$);
SELECT * FROM attempt($$SELECT persona.submit('train', 'n')$$);
SELECT * FROM attempt($$SELECT persona.submit('refresh', 'shop')$$);
SELECT * FROM attempt($$SELECT persona.wait(0)$$);
SELECT * FROM attempt($$SELECT persona.cancel(0)$$);

-- Data that cannot carry a model: all known before anything is trained, and nothing is left behind.
CREATE FUNCTION train_on(rows text) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
    DROP TABLE IF EXISTS few CASCADE;
    EXECUTE 'CREATE TABLE few (who int, at timestamptz, item int, price float8)';
    EXECUTE 'INSERT INTO few ' || rows;
    PERFORM persona.create_source('few', 'few', 'who', 'at', '{"item": "category", "price": "number"}');
    PERFORM persona.create_model('few', 'few', '{"encoder": {"kind": "gru", "dim": 8}, "objective": {"kind": "next_event", "field": "item"}, "training": {"epochs": 1, "device": "cpu"}}');
    RETURN QUERY SELECT * FROM attempt('CALL persona.train(''few'')');
    PERFORM persona.drop_model('few'), persona.drop_source('few');
END $$;
SELECT * FROM train_on('SELECT 1, now(), 1, 1 WHERE false');
SELECT * FROM train_on('SELECT n, timestamptz ''2024-01-01 00:00+00'' + n * interval ''1 hour'', n % 5, n FROM generate_series(1, 50) n');
SELECT * FROM train_on('SELECT n % 5, timestamptz ''2024-01-01 00:00+00'' + n * interval ''1 hour'', NULL, n FROM generate_series(1, 50) n');
SELECT * FROM train_on('SELECT n % 5, timestamptz ''2024-01-01 00:00+00'' + n * interval ''1 hour'', 7, n FROM generate_series(1, 50) n');
SELECT * FROM train_on('SELECT NULL, timestamptz ''2024-01-01 00:00+00'' + n * interval ''1 hour'', n % 5, n FROM generate_series(1, 50) n');
SELECT * FROM train_on('SELECT n % 5, NULL, n % 5, n FROM generate_series(1, 50) n');
SELECT * FROM train_on('SELECT n % 5, timestamptz ''infinity'', n % 5, n FROM generate_series(1, 50) n');
-- A number that is all NULL is left out, with a word.
SELECT * FROM train_on('SELECT n % 5, timestamptz ''2024-01-01 00:00+00'' + n * interval ''1 hour'', n % 5, NULL FROM generate_series(1, 100) n');

-- The table changes or goes between creation and training.
ALTER TABLE shop RENAME COLUMN price TO cost;
SELECT * FROM attempt($$CALL persona.train('m')$$);
ALTER TABLE shop RENAME COLUMN cost TO price;
ALTER TABLE shop ALTER COLUMN item TYPE text;
SELECT * FROM attempt($$CALL persona.refresh('p')$$);
SELECT * FROM attempt($$SELECT * FROM persona.evaluate('m')$$);
ALTER TABLE p ADD COLUMN mine int;
ALTER TABLE shop ALTER COLUMN item TYPE int USING item::int;
SELECT * FROM attempt($$CALL persona.refresh('p')$$);
ALTER TABLE p DROP COLUMN mine;
SELECT * FROM attempt($$CALL persona.refresh('p')$$);
DROP TABLE shop;
SELECT state, message, detail LIKE 'No relation has OID %' AS detailed FROM attempt($$CALL persona.train('m')$$);

-- Nothing was left behind by all that.
SELECT model, version FROM persona.versions ORDER BY 1, 2;
SELECT count(*) AS weights_without_version FROM persona.weights w
WHERE NOT EXISTS (SELECT FROM persona.versions v WHERE (v.model, v.version) = (w.model, w.version));
SELECT relname FROM pg_class WHERE relname LIKE 'persona\_refresh%';
-- A table that was dropped by DROP TABLE is forgotten when its model is dropped.
DROP TABLE p, p_items;
SELECT persona.drop_model('m'), persona.drop_model('gpu'), persona.drop_model('counts'), persona.drop_source('shop');
