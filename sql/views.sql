CREATE VIEW progress AS
SELECT p.*
FROM running_jobs() AS p;
COMMENT ON VIEW progress IS 'what running jobs of this database are doing';

CREATE VIEW families AS
SELECT f.*
FROM known_families() AS f;
COMMENT ON VIEW families IS 'families of models (encoder.kind), and the objectives that each can learn';
