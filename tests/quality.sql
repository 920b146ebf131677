-- Amazon Beauty 5-core in the published protocol, and the published figures beside ours.
CREATE EXTENSION persona CASCADE;
SELECT persona.create_source('beauty', 'beauty', entity => 'user_id', at => 'seq', fields => '{"item_id": "category"}');

SELECT persona.create_model('transitions', source => 'beauty', spec => '{
    "encoder":   {"kind": "transitions"},
    "objective": {"kind": "next_event", "field": "item_id"},
    "training":  {"split": "leave_one_out"}}');
SELECT persona.create_model('transformer', source => 'beauty', spec => '{
    "encoder":   {"kind": "transformer", "dim": 64, "layers": 1, "heads": 1, "length": 50,
                  "positions": "learned", "time_gaps": false, "dropout": 0.3},
    "objective": {"kind": "next_event", "field": "item_id", "softmax": "full", "label_smoothing": 0.1},
    "training":  {"split": "leave_one_out", "epochs": 50, "patience": 8, "batch_events": 4096,
                  "learning_rate": 0.002, "average": 0.99, "augment": {"reorder": 0.5}}}');

\timing on
CALL persona.train('transitions');
CALL persona.train('transformer');
\timing off

CREATE TEMP TABLE published (model text, hr real, ndcg real);
INSERT INTO published VALUES
    ('popularity', .0152, .0068), ('SASRec (S3-Rec''s table)', .0605, .0318), ('TIGER', .0648, .0384),
    ('ActionPiece', .0775, .0424), ('HSTU', .0788, .0439), ('DuoRec', .0845, .0443),
    ('decayed transitions', .0848, .0525), ('eSASRec', .0928, .0523),
    ('SASRec + sampled softmax (256)', .0921, .0531), ('BSARec (best found)', .1008, .0611);

CREATE TEMP TABLE ours AS
SELECT model, max(value) FILTER (WHERE metric = 'hr@10') AS hr, max(value) FILTER (WHERE metric = 'ndcg@10') AS ndcg
FROM (SELECT 'persona: transitions' AS model, * FROM persona.evaluate('transitions')
      UNION ALL
      SELECT 'persona: transformer', * FROM persona.evaluate('transformer')) e
WHERE split = 'test'
GROUP BY model;

\echo Amazon Beauty, leave-one-out, all items ranked, seen items removed
SELECT model, to_char(hr, 'FM0.0000') AS "HR@10", to_char(ndcg, 'FM0.0000') AS "NDCG@10"
FROM (SELECT model, hr, ndcg FROM published UNION ALL SELECT model, hr, ndcg FROM ours) t
ORDER BY ndcg;

\echo What it must show: transitions within .001 of .0848 / .0525, transformer at least .095 / .0575
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM ours WHERE model LIKE '%transitions' AND abs(hr - .0848) <= .001 AND abs(ndcg - .0525) <= .001)
       OR NOT EXISTS (SELECT FROM ours WHERE model LIKE '%transformer' AND hr >= .095 AND ndcg >= .0575) THEN
        RAISE EXCEPTION 'the figures are not reached';
    END IF;
END $$;
\echo reached
