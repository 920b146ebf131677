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
