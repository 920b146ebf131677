-- Hidden states: where only newer events have come, a refresh goes on from what a recurrent encoder has carried.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE plays (listener bigint, at timestamptz, song text, seconds real);
CREATE INDEX ON plays (listener, at);
INSERT INTO plays
SELECT v, timestamptz '2024-01-01 00:00+00' + v * interval '1 minute' + n * interval '5 hours', 'song ' || (v * 3 + n) % 20, n % 7
FROM generate_series(1, 60) v, generate_series(1, 10 + v % 3) n;
SELECT persona.create_source('plays', 'plays', entity => 'listener', at => 'at', fields => '{"song": "category", "seconds": "number"}');
CREATE FUNCTION twins(kind text, layers int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM persona.create_model(kind, source => 'plays', spec => jsonb_build_object(
        'encoder', jsonb_build_object('kind', kind, 'dim', 12, 'layers', layers, 'length', 20),
        'objective', '{"kind": "next_event", "field": "song"}'::jsonb,
        'training', '{"epochs": 2, "device": "cpu", "precision": "f32"}'::jsonb));
    PERFORM persona.create_profile(kind || '_going', model => kind, options => '{"hidden_states": true}');
    PERFORM persona.create_profile(kind || '_anew', model => kind, options => '{"hidden_states": true}');
END $$;
SELECT twins('rnn', 1), twins('gru', 2), twins('lstm', 2);
CALL persona.train('rnn');
CALL persona.train('gru');
CALL persona.train('lstm');
SELECT persona.track_changes('plays');
CREATE PROCEDURE refresh(all_of text) LANGUAGE plpgsql AS $$
DECLARE p text;
BEGIN
    FOR p IN SELECT profile::text FROM persona.profiles WHERE profile::text ~ all_of ORDER BY 1 LOOP
        CALL persona.refresh(p::regclass, all_of <> '_going$');
    END LOOP;
END $$;
-- How far what went on is from what was read anew: in vectors, in states, in anything else.
CREATE FUNCTION differences(OUT model text, OUT entities bigint, OUT vectors boolean, OUT states boolean, OUT rest boolean)
RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    FOREACH model IN ARRAY ARRAY['rnn', 'gru', 'lstm'] LOOP
        EXECUTE format(
            'SELECT count(*), max(g.embedding <-> a.embedding) < 1e-3 * max(l2_norm(a.embedding)),
                    max(g.hidden_state <-> a.hidden_state) < 1e-3 * max(vector_norm(a.hidden_state)),
                    bool_and((g.events, g.first_event, g.last_event) = (a.events, a.first_event, a.last_event))
             FROM %I g FULL JOIN %I a USING (listener)', model || '_going', model || '_anew')
        INTO entities, vectors, states, rest;
        RETURN NEXT;
    END LOOP;
END $$;
CALL refresh('.');
\d gru_going
SELECT col_description('gru_going'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'gru_going'::regclass AND attname = 'hidden_state';
SELECT * FROM differences();

-- New events alone.
SET client_min_messages = notice;
INSERT INTO plays SELECT v, timestamptz '2024-02-01 00:00+00' + n * interval '1 hour', 'song ' || (v + n) % 20, n
FROM generate_series(1, 20) v, generate_series(1, 1 + v % 3) n;
CALL refresh('_going$');
SET client_min_messages = warning;
CALL refresh('_anew$');
SELECT * FROM differences();
SELECT * FROM persona.verify('lstm_going', 60);

-- Read anew: who has a late event, one at the time of the last, one fewer, one that is another now, more than the model
-- looks at, or none before. Of the others there are three.
INSERT INTO plays VALUES (1, '2024-01-03 00:00+00', 'song 1', 1);
INSERT INTO plays SELECT listener, max(at), 'song 2', 2 FROM plays WHERE listener = 2 GROUP BY listener;
DELETE FROM plays WHERE listener = 3 AND at < '2024-01-02';
UPDATE plays SET song = 'song 4' WHERE listener = 4 AND at < '2024-01-02';
INSERT INTO plays SELECT 5, timestamptz '2024-03-01 00:00+00' + n * interval '1 hour', 'song 5', n FROM generate_series(1, 30) n;
INSERT INTO plays VALUES (1000, '2024-03-01 00:00+00', 'song 6', 1);
INSERT INTO plays SELECT v, '2024-03-01 00:00+00', 'song 7', 1 FROM generate_series(31, 33) v;
SET client_min_messages = notice;
CALL refresh('_going$');
SET client_min_messages = warning;
CALL refresh('_anew$');
SELECT * FROM differences();
-- Nor does anybody go on where both happened, or it is not told what was.
INSERT INTO plays VALUES (31, '2024-04-01 00:00+00', 'song 8', 1);
DELETE FROM plays WHERE listener = 31 AND at < '2024-01-02';
SET client_min_messages = notice;
CALL refresh('_going$');
SET client_min_messages = warning;
CALL refresh('_anew$');
SELECT * FROM differences();

-- What no state is kept of, and what nobody is told.
SELECT persona.score('gru_going', 7) - 'embedding' AS stored, persona.score('gru_going', 7, fresh => true) ? 'hidden_state' AS told;
\x on
SELECT persona.create_model('bag', source => 'plays', spec => '{"encoder": {"kind": "transformer", "dim": 16},
    "objective": {"kind": "next_event", "field": "song"}}');
SELECT * FROM attempt($$SELECT persona.create_profile('bags', model => 'bag', options => '{"hidden_states": true}')$$);
SELECT persona.create_model('wide', source => 'plays', spec => '{"encoder": {"kind": "lstm", "dim": 512, "layers": 2},
    "objective": {"kind": "next_event", "field": "song"}}');
SELECT * FROM attempt($$SELECT persona.create_profile('lists', model => 'gru', options => '{"hidden_states": true, "recommendations": 5}')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('wides', model => 'wide', options => '{"hidden_states": true}')$$);
\x off
DROP TABLE rnn_going, rnn_anew, gru_going, gru_anew, lstm_going, lstm_anew;
SELECT persona.drop_model(model) FROM persona.models WHERE source = 'plays';
SELECT persona.drop_source('plays');
DROP TABLE plays;
