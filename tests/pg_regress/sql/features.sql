-- What tells how much of a label: ranked, kept, permuted; figures of groups, novelty, and vectors of fewer dimensions.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE sales (customer bigint, at timestamptz, product int, shop text, price real);
CREATE TABLE buyers (customer bigint, tier text, spend int, region text);
-- Gold customers buy other products; shops, prices and regions are noise.
INSERT INTO sales
SELECT c, timestamptz '2024-01-01 00:00+00' + n * interval '1 day' + c * interval '1 minute',
       c % 2 * 4 + (c / 2 + n) % 4, (ARRAY['x', 'y', 'z'])[1 + abs(hashint4((c * 100 + n)::int) % 3)],
       abs(hashint4((c * 1000 + n)::int) % 100)
FROM generate_series(1, 300) c, generate_series(1, 10) n;
INSERT INTO buyers
SELECT c, (ARRAY['silver', 'gold'])[1 + c % 2], 50 * (c % 2) + c % 3, (ARRAY['north', 'south', 'west'])[1 + abs(hashint4(c) % 3)]
FROM generate_series(1, 300) c;
ANALYZE sales;

SELECT persona.create_source('sales', 'sales', entity => 'customer', at => 'at',
         fields => '{"product": "category", "shop": "category", "price": "number"}',
         labels => '{"tier": {"table": "buyers"}, "spend": {"table": "buyers", "kind": "number"}, "area": {"table": "buyers", "column": "region"},
                     "again": {"event": {"product": "0"}, "within": "2 days"}}');

-- Over a source: by correlation and by mutual information.
SELECT feature, method, round(value::numeric, 2) AS value, rank, low <= value AND value <= high AS interval
FROM persona.rank_features('sales', 'tier') WHERE rank <= 3 ORDER BY method, rank;
SELECT method, min(rank) > 8 AS noise_is_last, max(abs(value)) < .3 AS weak FROM persona.rank_features('sales', 'tier')
WHERE feature ~ '^(shop|price|activity)' GROUP BY method ORDER BY method;
SELECT feature, round(value::numeric, 2) AS value FROM persona.rank_features('sales', 'spend', of => 'source')
WHERE method = 'correlation' AND rank = 1;
SELECT count(*) > 10 AS features, bool_and(value BETWEEN -1 AND 1.1) AS bounded FROM persona.rank_features('sales', 'again');

-- A model that keeps what tells most.
SELECT persona.create_model('few', source => 'sales', spec => '{
    "encoder": {"kind": "dnn", "dim": 16, "members": 2, "dropout": 0.1},
    "objective": {"kind": "classify", "label": "tier"},
    "training": {"split": "random", "valid": 0.2, "test": 0.2, "epochs": 20, "patience": 20, "batch_events": 512, "learning_rate": 0.02,
                 "device": "cpu", "select": {"keep": 8}}}');
SELECT spec #> '{training,select}' AS "select" FROM persona.models WHERE model = 'few';
CALL persona.train('few');
SELECT unnest(notes) AS note FROM persona.versions WHERE model = 'few';
SELECT metric, value > .95 AS good FROM persona.evaluate('few') WHERE split = 'test' AND metric = 'tier.auc';
SELECT feature, method, value > .1 AS matters, rank, low <= value AND value <= high AS interval
FROM persona.rank_features('few', 'tier') ORDER BY method, rank;

-- Figures of groups: of a label's classes, of a field's last values.
SELECT segment, cases, metric, value > .9 AS good, low IS NOT NULL AS interval FROM persona.evaluate('few', by => 'area')
WHERE split = 'test' AND metric = 'tier.accuracy' ORDER BY segment;
SELECT sum(cases) FILTER (WHERE segment <> '(all)') = max(cases) FILTER (WHERE segment = '(all)') AS complete, count(DISTINCT segment) AS segments
FROM persona.evaluate('few', by => 'shop') WHERE split = 'test' AND metric = 'tier.accuracy';

-- Folds choose by what they train on.
SELECT persona.create_model('folded', source => 'sales', spec => '{
    "encoder": {"kind": "dnn", "dim": 16, "members": 2, "dropout": 0.1},
    "objective": [{"kind": "classify", "label": "tier"}, {"kind": "regress", "label": "spend"}],
    "training": {"split": "k_fold", "folds": 3, "epochs": 15, "patience": 15, "batch_events": 512, "learning_rate": 0.02, "device": "cpu",
                 "select": {"keep": 8, "by": "correlation"}}}');
CALL persona.train('folded');
SELECT metric, value > .95 AS good FROM persona.metrics WHERE model = 'folded' AND split = 'test' AND metric = 'tier.auc';

SELECT segment, cases, metric FROM persona.evaluate('folded', by => 'tier') WHERE metric = 'spend.mae' ORDER BY segment;

-- Items that few have bought are news.
SELECT persona.create_model('next', source => 'sales', spec => '{
    "encoder": {"kind": "gru", "dim": 16, "dropout": 0},
    "objective": {"kind": "next_event", "field": "product"},
    "training": {"split": "random", "valid": 0.2, "test": 0.2, "epochs": 15, "batch_events": 512, "learning_rate": 0.02, "device": "cpu", "precision": "f32"},
    "evaluation": {"seen": "keep", "k": [1, 8]}}');
CALL persona.train('next');
-- All eight products are equally often bought: three bits each.
SELECT metric, round(value::numeric, 2) AS value, low IS NOT NULL AS interval FROM persona.evaluate('next')
WHERE split = 'test' AND metric IN ('coverage@8', 'novelty@1', 'novelty@8') ORDER BY metric;
SELECT segment, metric, value > .9 AS good FROM persona.evaluate('next', by => 'tier') WHERE split = 'test' AND metric = 'hr@1' ORDER BY segment;

-- Profiles of fewer dimensions.
SELECT persona.create_profile('whole', model => 'next');
SELECT persona.create_profile('components', model => 'next', options => '{"reduce": {"method": "pca", "dim": 8}}');
SELECT persona.create_profile('discriminants', model => 'few', options => '{"reduce": {"method": "lda", "label": "area"}}');
SELECT attrelid::regclass AS "table", format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attname = 'embedding' AND attrelid IN ('whole'::regclass, 'components'::regclass, 'components_items'::regclass, 'discriminants'::regclass)
ORDER BY 1;
SELECT profile, items, options -> 'reduce' AS reduce FROM persona.profiles ORDER BY profile::text;
CALL persona.refresh('whole');
CALL persona.refresh('components');
CALL persona.refresh('discriminants');
SELECT count(*) > 270 AS same FROM generate_series(1, 300) c
WHERE (SELECT item FROM persona.recommend('whole', c, k => 1)) = (SELECT item FROM persona.recommend('components', c, k => 1));
SELECT count(*) FROM persona.similar('components', 1, k => 3);
SELECT count(*) FROM persona.similar('discriminants', 1, k => 3);
SELECT * FROM persona.recommend('discriminants', 1);
-- A later refresh of the same version maps as the first did, whatever is there now.
SELECT embedding AS before FROM components WHERE customer = 7 \gset
SELECT profile, version, length(bytes) > 500 AS kept FROM persona.reductions ORDER BY profile::text;
DELETE FROM sales WHERE customer > 240;
CALL persona.refresh('components');
SELECT embedding = :'before' AS same FROM components WHERE customer = 7;
SELECT count(*) FROM persona.reductions;

-- Mistakes.
SELECT * FROM persona.rank_features('nothing', 'tier');
SELECT * FROM persona.rank_features('sales', 'color');
SELECT * FROM persona.rank_features('few', 'area');
SELECT * FROM persona.rank_features('folded', 'tier');
SELECT * FROM persona.rank_features('few', 'tier', of => 'profile');
SELECT persona.create_model('sales', source => 'sales', spec => '{"encoder": {"kind": "dnn"}, "objective": {"kind": "classify", "label": "tier"}}');
SELECT * FROM persona.rank_features('sales', 'tier');
SELECT * FROM persona.rank_features('sales', 'tier', of => 'model');
SELECT * FROM persona.rank_features('few', NULL);
SELECT persona.create_model('wrong', source => 'sales', spec => '{"objective": {"kind": "next_event", "field": "product"}, "training": {"select": {"keep": 5}}}');
SELECT persona.create_model('wrong', source => 'sales', spec => '{"encoder": {"kind": "dnn"}, "objective": {"kind": "classify", "label": "tier"}, "training": {"select": {"keep": 0}}}');
SELECT persona.create_model('wrong', source => 'sales', spec => '{"encoder": {"kind": "dnn"}, "objective": {"kind": "classify", "label": "tier"}, "training": {"select": {"keep": 5, "by": "luck"}}}');
SELECT * FROM persona.evaluate('few', by => 'price');
SELECT * FROM persona.evaluate('few', by => 'spend');
SELECT * FROM persona.evaluate('few', by => 'color');
SELECT persona.create_profile('wrong', model => 'next', options => '{"reduce": {"method": "pca", "dim": 17}}');
SELECT persona.create_profile('wrong', model => 'next', options => '{"reduce": {"method": "tsne"}}');
SELECT persona.create_profile('wrong', model => 'next', options => '{"reduce": {"method": "lda", "label": "tier", "dim": 2}}');
SELECT persona.create_profile('wrong', model => 'next', options => '{"reduce": {"method": "lda", "label": "spend"}}');
SELECT persona.create_profile('wrong', model => 'next', options => '{"reduce": {"method": "lda", "label": "color"}}');
SELECT persona.create_profile('wrong', model => 'next', options => '{"reduce": {"method": "lda", "label": "tier"}, "recommendations": 5}');
SELECT persona.create_model('counts', source => 'sales', spec => '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "product"}}');
SELECT persona.create_profile('wrong', model => 'counts', options => '{"reduce": {"method": "pca", "dim": 2}}');
SELECT persona.drop_profile(profile) FROM persona.profiles;
SELECT count(*) FROM persona.reductions;
SELECT persona.drop_model(model) FROM persona.models;
SELECT persona.drop_source('sales');
DROP TABLE sales, buyers;
