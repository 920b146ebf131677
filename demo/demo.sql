-- What persona does, from an event table to queries over profiles. `make demo` runs this file and
-- shows each command; run again, it reuses the model and the profile that are there.

\timing on

\echo
\echo === The event table
SELECT count(*) AS lines, count(DISTINCT household_id) AS households,
       min(transaction_timestamp), max(transaction_timestamp)
FROM transactions;

\echo
\echo === A source says where the events are and what their columns mean
CREATE EXTENSION IF NOT EXISTS persona CASCADE;

SELECT NOT EXISTS (SELECT FROM persona.sources WHERE source = 'purchases') AS no_source \gset
\if :no_source
SELECT persona.create_source('purchases', 'transactions',
         entity => 'household_id', at => 'transaction_timestamp',
         fields => '{"product_id": "category", "sales_value": "number", "quantity": "number"}');
\endif

\echo
\echo === What persona finds in it, before anything is trained
SELECT * FROM persona.check_source('purchases');

\echo
\echo === A model is a specification; training makes a version of it
SELECT NOT EXISTS (SELECT FROM persona.models WHERE model = 'shoppers') AS no_model \gset
\if :no_model
SELECT persona.create_model('shoppers', source => 'purchases',
         spec => '{"encoder": {"kind": "transformer", "dim": 64},
                   "objective": {"kind": "next_event", "field": "product_id"}}');
\endif

SELECT NOT EXISTS (SELECT FROM persona.versions WHERE model = 'shoppers') AS no_version \gset
\if :no_version
CALL persona.train('shoppers');
\endif

\echo
\echo === The floor: decayed counts of what follows what, which learn nothing
SELECT NOT EXISTS (SELECT FROM persona.models WHERE model = 'counts') AS no_floor \gset
\if :no_floor
SELECT persona.create_model('counts', source => 'purchases',
         spec => '{"encoder": {"kind": "transitions"},
                   "objective": {"kind": "next_event", "field": "product_id"}}');
CALL persona.train('counts');
\endif

\echo
\echo === A profile is a table with a row per household
SELECT to_regclass('household_profile') IS NULL AS no_profile \gset
\if :no_profile
SELECT persona.create_profile('household_profile', model => 'shoppers');
CALL persona.refresh('household_profile');
\endif

\d household_profile

\echo
\echo === The application: what to recommend to household 42
SELECT r.score, r.item, p.department, p.product_type, p.package_size
FROM persona.recommend('household_profile', 42, k => 10) r
LEFT JOIN products p ON p.product_id = r.item::bigint
ORDER BY r.score DESC;

\echo
\echo === ... and only what it has not bought before
SELECT r.score, r.item, p.department, p.product_type
FROM persona.recommend('household_profile', 42, k => 5, exclude_seen => true) r
LEFT JOIN products p ON p.product_id = r.item::bigint
ORDER BY r.score DESC;

\echo
\echo === What household 42 buys most, to compare
SELECT count(*) AS lines, p.department, p.product_type
FROM transactions t JOIN products p USING (product_id)
WHERE t.household_id = 42
GROUP BY p.department, p.product_type
ORDER BY lines DESC LIMIT 5;

\echo
\echo === Which households are most like it
SELECT s.entity, s.similarity, d.age, d.income, d.household_comp
FROM persona.similar('household_profile', 42, k => 10) s
LEFT JOIN demographics d ON d.household_id = s.entity::bigint
ORDER BY s.similarity DESC;

\echo
\echo === The analyst: the profile is a table that joins
SELECT d.age, p.household_id, p.events, p.last_event, p.model_version
FROM demographics d JOIN household_profile p USING (household_id)
ORDER BY p.events DESC LIMIT 5;

\echo
\echo === ... and whose vectors can be averaged: how alike are the age bands
WITH band AS (
    SELECT d.age, avg(p.embedding::vector) AS centre
    FROM demographics d JOIN household_profile p USING (household_id)
    GROUP BY d.age
)
SELECT a.age, b.age AS nearest, round((1 - (a.centre <=> b.centre))::numeric, 4) AS cosine
FROM band a
CROSS JOIN LATERAL (SELECT * FROM band b WHERE b.age <> a.age ORDER BY b.centre <=> a.centre LIMIT 1) b
ORDER BY a.age;

\echo
\echo === The DBA: versions, figures, sizes
SELECT model, version, as_of, events, entities, items, parameters, device, precision, seconds FROM persona.versions;

SELECT 'shoppers' AS model, * FROM persona.evaluate('shoppers') WHERE metric IN ('hr@10', 'ndcg@10', 'mrr')
UNION ALL
SELECT 'counts', * FROM persona.evaluate('counts') WHERE metric IN ('hr@10', 'ndcg@10', 'mrr')
ORDER BY split, metric, model;

SELECT model, version, epoch, split, metric, value FROM persona.metrics WHERE metric IN ('loss', 'ndcg@10') AND epoch IS NOT NULL
ORDER BY model, version, epoch, split DESC;

SELECT relname, pg_size_pretty(pg_total_relation_size(oid)) AS size
FROM pg_class
WHERE relkind = 'r' AND (relname LIKE 'household\_profile%' OR relnamespace = 'persona'::regnamespace)
ORDER BY pg_total_relation_size(oid) DESC LIMIT 5;

\echo
\echo === Live: the profile follows the till
SELECT persona.track_changes('purchases')
WHERE (SELECT track FROM persona.sources WHERE source = 'purchases') = 'none';
SELECT persona.alter_profile('household_profile', mode => 'live');

-- Waits until all that was committed before is in the profile.
CREATE OR REPLACE PROCEDURE settle() LANGUAGE plpgsql AS $$
DECLARE since timestamptz := clock_timestamp();
BEGIN
    COMMIT;
    WHILE NOT EXISTS (SELECT FROM persona.progress WHERE kind = 'live' AND fresh_at > since) LOOP
        IF clock_timestamp() > since + interval '5 minutes' THEN
            RAISE EXCEPTION 'the profile does not follow' USING HINT = 'SELECT * FROM persona.health() says why.';
        END IF;
        PERFORM pg_sleep(0.02);
        COMMIT;
    END LOOP;
END $$;
CALL settle();

\echo
\echo === Household 42, and what to recommend to it, before ...
SELECT household_id, events, last_event, updated_at FROM household_profile WHERE household_id = 42;
CREATE TEMP TABLE recommended AS
SELECT row_number() OVER (ORDER BY r.score DESC) AS place, r.item FROM persona.recommend('household_profile', 42, k => 10) r;

\echo
\echo === ... it buys for its new dog: one receipt, as any till writes it
SELECT max(basket_id) + 1 AS receipt FROM transactions \gset
INSERT INTO transactions
SELECT 42, 1, :receipt, product_id, 2, 9.99, 0, 0, 0, 53,
       (SELECT max(transaction_timestamp) + interval '1 hour' FROM transactions)
FROM (SELECT t.product_id FROM transactions t JOIN products p USING (product_id)
      WHERE p.product_category = 'DOG FOODS' GROUP BY t.product_id ORDER BY count(*) DESC LIMIT 4) AS bought;
CALL settle();

\echo
\echo === ... and after: nobody has called refresh
SELECT household_id, events, last_event, updated_at FROM household_profile WHERE household_id = 42;
SELECT row_number() OVER (ORDER BY r.score DESC) AS place, b.place AS before, r.score, r.item, p.department, p.product_type
FROM persona.recommend('household_profile', 42, k => 10) r
LEFT JOIN recommended b USING (item) LEFT JOIN products p ON p.product_id = r.item::bigint
ORDER BY r.score DESC;
SELECT object, fresh_at FROM persona.progress WHERE kind = 'live';
SELECT * FROM persona.set_aside;

\echo
\echo === What is taken back is forgotten as soon, and the demo can be run again
DELETE FROM transactions WHERE basket_id = :receipt;
CALL settle();
SELECT household_id, events, last_event, updated_at FROM household_profile WHERE household_id = 42;
