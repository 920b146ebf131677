-- Complete Journey: the age of a household's head in four bands, and whether the household redeems a coupon within 30
-- days, against a logistic regression on the same counts and the same cases: `dnn` with `dim` 1, which is its wide path.
CREATE VIEW bands AS
SELECT household_id, CASE WHEN age IN ('19-24', '25-34') THEN 'to 34' WHEN age IN ('55-64', '65+') THEN 'from 55' ELSE age END AS age
FROM demographics;
CREATE VIEW mailings AS
SELECT household_id, start_date, campaign_type FROM campaigns JOIN campaign_descriptions USING (campaign_id);
SELECT persona.union_source('activity', '[
    {"table": "transactions", "event": "buy", "entity": "household_id", "at": "transaction_timestamp",
     "columns": {"product_id": "product_id", "sales_value": "sales_value"}},
    {"table": "mailings", "event": "mail", "entity": "household_id", "at": "start_date", "columns": {"campaign": "campaign_type"}},
    {"table": "redemptions", "event": "redeem", "entity": "household_id", "at": "redemption_date", "columns": {}}]');
SELECT persona.create_source('bought', 'transactions', entity => 'household_id', at => 'transaction_timestamp',
    fields => '{"product_id": "category", "sales_value": "number"}', labels => '{"age": {"table": "bands"}}',
    attributes => '[{"table": "products", "on": "product_id",
                     "fields": {"product_type": "category", "product_category": "category"}}]');
SELECT persona.create_source('activity', 'activity', entity => 'entity', at => 'at',
    fields => '{"event": "category", "product_id": "category", "sales_value": "number", "campaign": "category"}',
    labels => '{"redeems": {"event": {"event": "redeem"}, "within": "30 days"}}',
    attributes => '[{"table": "products", "on": "product_id", "fields": {"product_type": "category", "product_category": "category"}}]');

CREATE FUNCTION pg_temp.make(name text, source text, label text, encoder jsonb, training jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT persona.create_model(name, source => source, spec => jsonb_build_object(
        'encoder', '{"kind": "dnn", "length": 5000}'::jsonb || encoder,
        'objective', jsonb_build_object('kind', 'classify', 'label', label),
        'training', '{"warmup": 0, "learning_rate": 0.006}'::jsonb || training))
$$;
SELECT pg_temp.make('age', 'bought', 'age', '{"dim": 64, "members": 4, "event_dropout": 0.3}', folds),
       pg_temp.make('age by regression', 'bought', 'age', '{"dim": 1, "members": 1, "dropout": 0, "event_dropout": 0}', folds),
       pg_temp.make('redeems', 'activity', 'redeems', '{"recent": [90, 45, 20]}', newest),
       pg_temp.make('redeems by regression', 'activity', 'redeems',
                    '{"recent": [90, 45, 20], "dim": 1, "members": 1, "dropout": 0, "event_dropout": 0}', newest)
FROM (SELECT '{"split": "k_fold", "folds": 10, "batch_events": 32768, "epochs": 40, "patience": 5}'::jsonb AS folds,
             '{"split": "temporal", "batch_events": 131072, "epochs": 20, "patience": 3}'::jsonb AS newest) t;

\timing on
CALL persona.train('age');
CALL persona.train('age by regression');
CALL persona.train('redeems');
CALL persona.train('redeems by regression');
\timing off

CREATE TEMP TABLE compared AS
SELECT * FROM persona.compare(ARRAY['age by regression', 'age'])
UNION ALL SELECT * FROM persona.compare(ARRAY['redeems by regression', 'redeems']);
\echo Complete Journey, against logistic regression
SELECT metric, model, round(value::numeric, 4) AS value, round(difference::numeric, 4) AS difference,
       round(difference_low::numeric, 4) AS low, round(difference_high::numeric, 4) AS high, cases
FROM compared WHERE metric ~ 'auc|log_loss|accuracy';

\echo What it must show: less log loss than logistic regression, beyond the interval of the paired differences
DO $$
BEGIN
    IF (SELECT count(*) FROM compared WHERE metric LIKE '%.log_loss' AND difference_high < 0) <> 2 THEN
        RAISE EXCEPTION 'the figures are not reached';
    END IF;
END $$;
\echo reached
