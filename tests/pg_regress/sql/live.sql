-- Live profiles as far as no worker must run: modes, what is refused, their jobs, and what a refresh does with entities set aside.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE visits (visitor bigint NOT NULL, at timestamptz NOT NULL, page int NOT NULL);
INSERT INTO visits
SELECT v, timestamptz '2024-01-01' + v * interval '1 minute' + n * interval '3 hours', 1 + (v + n) % 12
FROM generate_series(1, 40) v, generate_series(1, 20) n;
SELECT persona.create_source('visits', 'visits', entity => 'visitor', at => 'at', fields => '{"page": "category"}');
SELECT persona.create_model('pages', source => 'visits',
         spec => '{"encoder": {"kind": "transitions"}, "objective": {"kind": "next_event", "field": "page"}}');
CALL persona.train('pages');

-- What makes no sense is refused, and leaves nothing behind.
\x on
SELECT * FROM attempt($$SELECT persona.create_profile('pagers', model => 'pages', mode => 'fast')$$);
SELECT * FROM attempt($$SELECT persona.create_profile('pagers', model => 'pages', mode => NULL)$$);
SELECT * FROM attempt($$SELECT persona.create_profile('pagers', model => 'pages', mode => 'live')$$);
SELECT to_regclass('pagers');
SELECT persona.create_profile('pagers', model => 'pages');
SELECT * FROM attempt($$SELECT persona.alter_profile('pagers', 'live')$$);
SELECT * FROM attempt($$SELECT persona.alter_profile('visits', 'live')$$);
SELECT * FROM attempt($$SELECT persona.add_job('live', 'pagers', '1 second')$$);
SELECT * FROM attempt($$SELECT persona.submit('live', 'pagers')$$);
CREATE ROLE stranger;
SET ROLE stranger;
SELECT * FROM attempt($$SELECT persona.alter_profile('pagers', 'live')$$);
RESET ROLE;
\x off

-- A live profile has a job of its own, which is paused here before anything runs.
SELECT persona.track_changes('visits');
BEGIN;
SELECT persona.alter_profile('pagers', mode => 'live');
SELECT persona.alter_profile('pagers', mode => 'live');
SELECT persona.pause(job) FROM persona.jobs WHERE kind = 'live';
COMMIT;
SELECT kind, object, owner, schedule, enabled, max_retries FROM persona.jobs WHERE kind = 'live';
SELECT job FROM persona.jobs WHERE kind = 'live' \gset
\x on
SELECT * FROM attempt(format('SELECT persona.alter_job(%s, schedule => ''1 hour'')', :job));
SELECT level, object, regexp_replace(finding, '\d+', 'N') AS finding, regexp_replace(hint, '\d+', 'N') AS hint
FROM persona.health() WHERE object = 'profile pagers' ORDER BY finding;
\x off

-- By hand it is a refresh.
CALL persona.run_job(:job);
SELECT count(*) FROM pagers;
SELECT kind, subject, state FROM persona.job_runs WHERE job = :job;

-- Entities that are set aside are tried by a refresh, whether their events have changed or not.
INSERT INTO persona.set_aside SELECT 'pagers', v, current_user::regrole, '22012', 'division by zero', NULL, now(), 1, now(), now()
FROM unnest(ARRAY['3', 'nobody']) v;
UPDATE pagers SET events = 0 WHERE visitor IN (3, 4);
SET ROLE stranger;
SELECT count(*) FROM persona.set_aside;
RESET ROLE;
SELECT level, regexp_replace(finding, 'since .*: ', 'since …: ') AS finding FROM persona.health() WHERE object = 'profile pagers' AND finding LIKE '%aside%';
CALL persona.refresh('pagers');
SELECT visitor, events FROM pagers WHERE visitor IN (3, 4) ORDER BY visitor;
SELECT count(*) FROM persona.set_aside;

SELECT persona.alter_profile('pagers', mode => 'batch');
SELECT count(*) FROM persona.jobs WHERE kind = 'live';
SELECT persona.drop_profile('pagers'), persona.drop_model('pages'), persona.drop_source('visits');
DROP TABLE visits;
DROP ROLE stranger;
