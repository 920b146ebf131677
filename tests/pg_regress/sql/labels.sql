-- What is known of entities: learned from tables of labels and from events, judged, and kept in the profile.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE visits (visitor bigint, at timestamptz, page text, seconds real);
CREATE TYPE tier AS ENUM ('bronze', 'gold');
CREATE TABLE visitors (visitor bigint, tier tier, spend numeric, newsletter boolean);
-- Gold visitors read other pages than bronze ones, and stay longer.
INSERT INTO visits
SELECT v, timestamptz '2024-01-01 00:00+00' + n * interval '1 day' + v * interval '1 minute',
       CASE WHEN v % 2 = 0 THEN 'a' ELSE 'b' END || (v + n) % 4, 10 + 20 * (v % 2) + n % 3
FROM generate_series(1, 300) v, generate_series(1, 12) n;
INSERT INTO visitors
SELECT v, (ARRAY['gold', 'bronze'])[1 + v % 2]::tier, 100 * (v % 2) + 5, v % 2 = 1 FROM generate_series(1, 302) v;
ANALYZE visits;

SELECT persona.create_source('visits', 'visits', entity => 'visitor', at => 'at',
         fields => '{"page": "category", "seconds": "number"}',
         labels => '{"tier":   {"table": "visitors"},
                     "spend":  {"table": "visitors", "kind": "number"},
                     "letter": {"table": "visitors", "column": "newsletter"},
                     "a0":     {"event": {"page": "a0"}, "within": "2 days"},
                     "churn":  {"no_event": {}, "within": "2 days"}}');
SELECT label, definition, relation, entity, value, at FROM persona.labels ORDER BY label;
SELECT subject, severity, finding, value FROM persona.check_source('visits')
WHERE subject IN ('tier', 'spend', 'letter', 'a0', 'churn');

-- A network over the bag of events, judged by folds.
SELECT persona.create_model('member', source => 'visits', spec => '{
    "encoder": {"kind": "dnn", "dim": 16, "members": 2, "dropout": 0.1},
    "objective": [{"kind": "classify", "label": "tier"}, {"kind": "regress", "label": "spend"},
                  {"kind": "classify", "label": "letter"}],
    "training": {"split": "k_fold", "folds": 3, "epochs": 20, "patience": 20, "batch_events": 512, "learning_rate": 0.02,
                 "device": "cpu"}}');
CALL persona.train('member');
SELECT metric, value > .95 AS good, low IS NOT NULL AS interval FROM persona.metrics
WHERE model = 'member' AND split = 'test' AND metric IN ('tier.auc', 'tier.accuracy', 'letter.auc', 'spend.r2') ORDER BY metric;
SELECT metric, value FROM persona.metrics
WHERE model = 'member' AND split = 'test' AND metric LIKE 'tier.c%' AND metric NOT LIKE '%error' ORDER BY metric;
SELECT notes FROM persona.versions WHERE model = 'member';

SELECT persona.create_profile('members', model => 'member');
\d members
SELECT a.attname, col_description(a.attrelid, a.attnum) FROM pg_attribute a
WHERE attrelid = 'members'::regclass AND attnum > 7 ORDER BY attnum;
CALL persona.refresh('members');
SELECT count(*), count(*) FILTER (WHERE p.tier = v.tier::text) > 290 AS tiers, count(*) FILTER (WHERE p.letter = v.newsletter) > 290 AS letters,
       avg(abs(p.spend - v.spend)) < 20 AS spends, bool_and(tier_probability BETWEEN .5 AND 1) AS probable
FROM members p JOIN visitors v USING (visitor);
SELECT count(*) FROM persona.similar('members', 1, k => 3);
SELECT * FROM persona.recommend('members', 1);
SELECT profile, items, model, version FROM persona.profiles;

-- A sequence network learns what comes next and a label of the events themselves.
SELECT persona.create_model('reader', source => 'visits', spec => '{
    "encoder": {"kind": "gru", "dim": 16, "dropout": 0},
    "objective": [{"kind": "next_event", "field": "page"}, {"kind": "classify", "label": "a0", "min_examples": 50}],
    "training": {"epochs": 30, "patience": 30, "batch_events": 512, "learning_rate": 0.02, "device": "cpu", "precision": "f32"},
    "evaluation": {"seen": "keep", "k": [1]}}');
CALL persona.train('reader');
SELECT metric, value > .9 AS good FROM persona.evaluate('reader') WHERE split = 'test' AND metric = 'a0.auc';
SELECT persona.create_profile('readers', model => 'reader');
CALL persona.refresh('readers');
SELECT pg_typeof(a0), count(*) FROM readers GROUP BY 1;

-- What each family can learn.
SELECT kind, objectives, vectors FROM persona.families ORDER BY kind;

-- Mistakes.
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"table": "nowhere"}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"table": "visitors"}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"table": "visitors", "column": "tier", "kind": "number"}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"event": {"page": "a0"}}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"event": {"color": "a0"}, "within": "1 day"}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"no_event": {}, "within": "soon"}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"within": "1 day"}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '{"x": {"table": "visitors", "colour": "y"}}');
SELECT persona.create_source('wrong', 'visits', entity => 'visitor', at => 'at', labels => '[]');
SELECT persona.create_model('wrong', source => 'visits', spec => '{"objective": {"kind": "classify", "label": "age"}}');
SELECT persona.create_model('wrong', source => 'visits', spec => '{"objective": {"kind": "regress", "label": "tier"}}');
SELECT persona.create_model('wrong', source => 'visits', spec => '{"encoder": {"kind": "transitions"}, "objective": {"kind": "classify", "label": "tier"}}');
SELECT persona.create_model('wrong', source => 'visits', spec => '{"objective": {"kind": "classify", "label": "tier"}, "training": {"split": "leave_one_out"}}');
SELECT persona.create_model('rare', source => 'visits', spec => '{"encoder": {"kind": "dnn"}, "objective": {"kind": "classify", "label": "churn"}}');
CALL persona.train('rare');
-- A label may have the name of a profile's own column in the source, but not in the profile.
SELECT persona.create_source('clash', 'visits', entity => 'visitor', at => 'at', fields => '{"page": "category"}',
         labels => '{"events": {"table": "visitors", "column": "tier"}}');
SELECT persona.create_model('clash', source => 'clash', spec => '{"encoder": {"kind": "dnn"}, "objective": {"kind": "classify", "label": "events"}}');
SELECT persona.create_profile('clash_profile', model => 'clash');

-- A label's table may go: models that do not need it go on.
ALTER TABLE visitors RENAME tier TO grade;
CALL persona.train('member');
DROP TABLE visitors;
CALL persona.train('reader');
-- The OID is in the detail.
\set VERBOSITY terse
CALL persona.train('member');
SELECT persona.drop_profile('members'), persona.drop_profile('readers');
SELECT persona.drop_model(model) FROM persona.models;
SELECT persona.drop_source(source) FROM persona.sources;
SELECT count(*) FROM persona.labels;
DROP TABLE visits;
DROP TYPE tier;
