CREATE VIEW progress AS
SELECT p.*
FROM running_jobs() AS p;
COMMENT ON VIEW progress IS 'what running jobs of this database are doing';

CREATE VIEW compressions WITH (security_invoker = true) AS
SELECT c.model, c.version, c.original, c.options, f.split, f.metric, f.before, f.after, c.bytes_before, c.bytes_after, c.zeros,
       c.speed_before, c.speed_after
FROM compressed AS c,
     pg_catalog.jsonb_to_recordset(c.figures) AS f(split text, metric text, before double precision, after double precision);
COMMENT ON VIEW compressions IS 'smaller versions, a row for each metric of the held-out part: the figures, bytes and speed (entities scored in a second) of the version that it was made of, and its own; and the share of zeros in its matrices';

CREATE VIEW families AS
SELECT f.*
FROM known_families() AS f;
COMMENT ON VIEW families IS 'families of models (encoder.kind), and the objectives that each can learn';

CREATE VIEW job_stats WITH (security_invoker = true) AS
SELECT j.job, j.kind, j.object, j.enabled, j.next_start,
       count(r.run) FILTER (WHERE r.state IN ('succeeded', 'failed', 'canceled')) AS runs,
       count(r.run) FILTER (WHERE r.state = 'failed') AS failures,
       count(r.run) FILTER (WHERE r.state = 'skipped') AS skipped,
       max(r.started_at) AS last_start,
       (array_agg(r.state ORDER BY r.run DESC) FILTER (WHERE r.state NOT IN ('queued', 'running')))[1] AS last_state,
       max(r.finished_at) FILTER (WHERE r.state = 'succeeded') AS last_success,
       avg(r.finished_at - r.started_at) FILTER (WHERE r.state = 'succeeded') AS mean_duration
FROM jobs j LEFT JOIN job_runs r ON r.job = j.job
GROUP BY j.job;
COMMENT ON VIEW job_stats IS 'scheduled jobs with the runs that are kept: how many, how they ended, how long they took';

CREATE FUNCTION health(OUT level text, OUT object text, OUT finding text, OUT hint text) RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT f.level, f.object, f.finding, f.hint FROM server_findings() AS f
    UNION ALL
    SELECT 'error', 'extension vector', format('pgvector %s is older than 0.8', e.extversion),
           'Install pgvector 0.8 and run ALTER EXTENSION vector UPDATE.'
    FROM pg_extension e
    WHERE e.extname = 'vector' AND string_to_array(substring(e.extversion FROM '^[0-9]+\.[0-9]+'), '.')::integer[] < ARRAY[0, 8]
    UNION ALL
    SELECT 'error', format('job %s', j.job),
           format('%s of %s failed on attempt %s: %s', j.kind, j.object, r.attempt, r.message),
           coalesce(r.hint, 'The run is in persona.job_runs; try it by CALL persona.run_job.')
    FROM jobs j
    CROSS JOIN LATERAL (
        -- A live job that runs again has got over what ended it.
        SELECT * FROM job_runs r
        WHERE r.job = j.job AND (r.state IN ('succeeded', 'failed') OR (r.kind = 'live' AND r.state = 'running'))
        ORDER BY r.run DESC LIMIT 1
    ) r
    WHERE r.state = 'failed'
    UNION ALL
    SELECT 'warning', format('job %s', j.job), format('%s of %s was due at %s', j.kind, j.object, j.next_start),
           'Jobs are started by the launcher: see what else this view finds, and the server''s log.'
    FROM jobs j
    WHERE j.enabled AND j.next_start < clock() - interval '1 minute'
    UNION ALL
    SELECT 'warning', format('profile %s', p.profile),
           CASE WHEN p.version IS NULL THEN 'it was never filled'
                ELSE format('its rows are of version %s and version %s is live', p.version, a.version) END,
           format('CALL persona.refresh(%L); or schedule it by persona.add_job.', p.profile)
    FROM profiles p LEFT JOIN aliases a ON a.model = p.model AND a.alias = 'live'
    WHERE p.version IS NULL OR p.version <> a.version
    UNION ALL
    SELECT 'notice', format('profile %s', p.profile), format('it was refreshed at %s', p.refreshed_at),
           format('CALL persona.refresh(%L); or schedule it by persona.add_job.', p.profile)
    FROM profiles p LEFT JOIN aliases a ON a.model = p.model AND a.alias = 'live'
    WHERE p.version = a.version AND p.refreshed_at < clock() - interval '1 day'
        AND NOT EXISTS (SELECT FROM jobs j WHERE j.kind = 'live' AND j.profile = p.profile)
    UNION ALL
    SELECT 'warning', format('profile %s', r.object),
           format('it is live and %s behind its events',
                  make_interval(secs => round(extract(epoch FROM clock_timestamp() - r.fresh_at)))),
           'More changes than one worker takes in, as it soon is with an HNSW index: see the option "index" of create_profile. Or another run or a lock that it waits for: see persona.progress and pg_stat_activity.'
    FROM running_jobs() r
    WHERE r.kind = 'live' AND r.fresh_at < clock_timestamp() - interval '10 seconds'
    UNION ALL
    SELECT 'warning', format('profile %s', j.profile),
           format(CASE WHEN j.enabled THEN 'it is live, but its job %s does not run' ELSE 'it is live, but its job %s is paused' END, j.job),
           format('The runs are in persona.job_runs; SELECT persona.pause(%s, false) starts it now.', j.job)
    FROM jobs j
    WHERE j.kind = 'live' AND NOT EXISTS (SELECT FROM job_runs r WHERE r.job = j.job AND r.state = 'running')
    UNION ALL
    SELECT 'warning', format('profile %s', s.profile),
           format('%s of its entities are set aside, the first since %s: %s', count(*), min(s.since),
                  (array_agg(s.message ORDER BY s.since))[1]),
           'They are in persona.set_aside, each with its error, and are tried again when their events change.'
    FROM set_aside s
    GROUP BY s.profile
    UNION ALL
    SELECT 'notice', format('table %s', k.kept),
           format('it keeps %s of a profile that was dropped', pg_size_pretty(pg_total_relation_size(k.kept))),
           'The next retraining, prune, create_profile or drop_model drops it.'
    FROM previous k WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = k.profile)
    UNION ALL
    SELECT 'warning', format('source %s', s.source),
           format('table %s has no index on (%I, %I), so an entity''s events are found by reading all', s.events, s.entity, s.at),
           format('CREATE INDEX ON %s (%I, %I);', s.events, s.entity, s.at)
    FROM sources s JOIN pg_class c ON c.oid = s.events
    WHERE c.relkind IN ('r', 'p', 'm') AND NOT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND (
            SELECT array_agg(a.attname ORDER BY k.place)
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE k.place <= 2
        ) = ARRAY[s.entity, s.at]);
END;
