-- Scheduled jobs as far as no time must pass: what is refused, what is reckoned, and runs by hand.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
SET TimeZone = 'UTC';
SELECT persona.set_clock('2030-01-01 12:00');
SELECT persona.clock();

CREATE TABLE visits (visitor bigint NOT NULL, at timestamptz NOT NULL, page int NOT NULL);
INSERT INTO visits
SELECT v, timestamptz '2024-01-01' + v * interval '1 minute' + n * interval '3 hours', 1 + (v + n) % 12
FROM generate_series(1, 40) v, generate_series(1, 20) n;
SELECT persona.create_source('visits', 'visits', entity => 'visitor', at => 'at', fields => '{"page": "category"}');
SELECT persona.create_model('pages', source => 'visits',
         spec => '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "page"}}');

-- What makes no sense is refused when the job is added.
\x on
SELECT * FROM attempt($$SELECT persona.add_job('dance', 'pages', '1 hour')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'no_such_model', '1 hour')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', 'now and then')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '0 seconds')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '0 25 * * *')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '0 0 30 2 *')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '@daily', time_zone => 'Mars/Olympus')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', initial_start => 'infinity')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', max_retries => -1)$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', retry_period => '0')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', max_runtime => '-1 hour')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', overlap => 'both')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', conditions => '{"mood": "good"}')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', conditions => '{"metric": {"name": "mrr"}}')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', conditions => '{"age": "a while"}')$$);
SELECT * FROM attempt($$SELECT persona.add_job('evaluate', 'pages', '1 hour', conditions => '{"age": "1 day"}')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', '1 hour', config => '{"epochs": 3}')$$);
SELECT * FROM attempt($$SELECT persona.add_job('tune', 'pages', '1 week')$$);
SELECT * FROM attempt($$SELECT persona.add_job('tune', 'pages', '1 week', config => '{"space": {"encoder.dim": []}}')$$);
SELECT * FROM attempt($$SELECT persona.add_job('prune', '*', '1 day', config => '{"keep": -1}')$$);
SELECT * FROM attempt($$SELECT persona.add_job('train', 'pages', NULL)$$);
SELECT * FROM attempt($$SELECT persona.submit('tune', 'pages')$$);
SELECT * FROM attempt($$SELECT persona.alter_job(99)$$);
SELECT * FROM attempt($$SELECT persona.pause(99)$$);
SELECT * FROM attempt($$SELECT persona.drop_job(99)$$);
SELECT * FROM attempt($$CALL persona.run_job(99)$$);
\x off

-- When they are due. A job that is not enabled is reckoned too, and never started.
CREATE FUNCTION due(schedule text, zone text DEFAULT 'UTC', start timestamptz DEFAULT NULL) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE added bigint := persona.add_job('train', 'pages', schedule, initial_start => start, time_zone => zone, enabled => false);
        at timestamptz := (SELECT next_start FROM persona.jobs WHERE job = added);
BEGIN
    PERFORM persona.drop_job(added);
    RETURN at;
END $$;
SELECT due('1 hour'), due('1 month'), due('1 hour', start => '2030-06-01'), due('1 hour', start => '2029-06-01');
SELECT due('30 3 * * *'), due('30 3 * * *', 'Europe/Berlin'), due('@weekly', 'Asia/Tokyo'), due('0 12 1 * *', start => '2030-05-05');

-- A job, altered, paused and run by hand.
SELECT persona.add_job('train', 'pages', '1 day', enabled => false,
         conditions => '{"age": "7 days", "new_events": 10}') AS job \gset
SELECT schedule, next_start, enabled, max_retries, retry_period, overlap FROM persona.jobs WHERE job = :job;
SELECT persona.alter_job(:job, schedule => '0 4 * * 1', time_zone => 'Europe/Berlin', max_runtime => '2 hours', max_retries => 0);
SELECT schedule, time_zone, next_start, max_runtime, max_retries, conditions FROM persona.jobs WHERE job = :job;
SELECT persona.alter_job(:job, max_runtime => '0', next_start => '2030-02-01');
SELECT next_start, max_runtime FROM persona.jobs WHERE job = :job;
SELECT persona.pause(:job, false), persona.pause(:job);
SELECT next_start, enabled FROM persona.jobs WHERE job = :job;
CALL persona.run_job(:job);
-- New events are there to be trained on, but for the version's own age these are none.
SELECT persona.set_clock(now());
CALL persona.run_job(:job);
INSERT INTO visits SELECT 1, '2025-01-01', 1 FROM generate_series(1, 10);
CALL persona.run_job(:job);
CALL persona.run_job(:job, force => true);
SELECT attempt, state, regexp_replace(message, '2024[^;]*', '2024…') AS message, result FROM persona.job_runs WHERE job = :job ORDER BY run;
SELECT runs, failures, skipped, last_state, mean_duration IS NOT NULL AS timed FROM persona.job_stats;

-- An error is the session's and the run's.
SELECT persona.add_job('check', 'visits', '1 day', enabled => false) AS checks \gset
CALL persona.run_job(:checks);
ALTER TABLE visits RENAME at TO happened;
CALL persona.run_job(:checks);
SELECT state, sqlstate, message, jsonb_array_length(result->'findings') > 3 AS found FROM persona.job_runs WHERE job = :checks ORDER BY run;
ALTER TABLE visits RENAME happened TO at;

-- What health() says of all this, apart from the machine and of other tests' objects.
SELECT persona.create_profile('page_profile', model => 'pages');
SELECT level, object, finding, hint FROM persona.health()
WHERE object IN (format('job %s', :checks), 'profile page_profile', 'source visits') ORDER BY object;
CREATE INDEX ON visits (visitor, at);
CALL persona.run_job(:checks);
CALL persona.refresh('page_profile');
SELECT object, finding FROM persona.health() WHERE object IN (format('job %s', :checks), 'profile page_profile', 'source visits');
SELECT persona.set_clock(now() + interval '2 days');
SELECT level, object FROM persona.health() WHERE object = 'profile page_profile';

SELECT persona.set_clock(NULL);
SELECT persona.drop_job(:job), persona.drop_job(:checks);
SELECT count(*) FROM persona.jobs;
SELECT persona.drop_profile('page_profile');
SELECT persona.drop_model('pages');
SELECT persona.drop_source('visits');
DROP FUNCTION due;
DROP TABLE visits;
