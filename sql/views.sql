CREATE VIEW progress AS
SELECT p.*
FROM running_jobs() AS p;
COMMENT ON VIEW progress IS 'what running jobs of this database are doing';
