-- Who may read the catalog, and what each function is for.
--
-- Reading: the rows of objects whose owner one could act as. Writing: only the extension's code.
GRANT USAGE ON SCHEMA persona TO PUBLIC;
GRANT SELECT ON sources, tracked, positions, previous, attributes, labels, models, versions, weights, metrics, judgements, trials, compressed, aliases, lives, profiles, reductions, set_aside, jobs, job_runs, job_stats, progress, compressions, families TO PUBLIC;

ALTER TABLE sources ENABLE ROW LEVEL SECURITY;
ALTER TABLE tracked ENABLE ROW LEVEL SECURITY;
ALTER TABLE positions ENABLE ROW LEVEL SECURITY;
ALTER TABLE previous ENABLE ROW LEVEL SECURITY;
ALTER TABLE attributes ENABLE ROW LEVEL SECURITY;
ALTER TABLE labels ENABLE ROW LEVEL SECURITY;
ALTER TABLE models ENABLE ROW LEVEL SECURITY;
ALTER TABLE versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE weights ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics ENABLE ROW LEVEL SECURITY;
ALTER TABLE judgements ENABLE ROW LEVEL SECURITY;
ALTER TABLE trials ENABLE ROW LEVEL SECURITY;
ALTER TABLE compressed ENABLE ROW LEVEL SECURITY;
ALTER TABLE aliases ENABLE ROW LEVEL SECURITY;
ALTER TABLE lives ENABLE ROW LEVEL SECURITY;
ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE reductions ENABLE ROW LEVEL SECURITY;
ALTER TABLE set_aside ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_runs ENABLE ROW LEVEL SECURITY;

CREATE POLICY owned ON sources FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON tracked FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON positions FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON previous FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON attributes FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON labels FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON models FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON versions FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON weights FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON metrics FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON judgements FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON trials FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON compressed FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON aliases FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON lives FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON profiles FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON reductions FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON set_aside FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON jobs FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON job_runs FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));

COMMENT ON FUNCTION create_source(text, regclass, text, text, jsonb, jsonb, jsonb, jsonb) IS
    'declares where events are (table, partitioned table or view), whose they are, when, and what their columns mean';
COMMENT ON FUNCTION union_source(text, jsonb) IS
    'makes a view of the events of several tables: entity, at, event (what happened), then the union of their columns';
COMMENT ON FUNCTION check_source(text) IS 'reads a source''s events and reports what is in them and what would make training fail';
COMMENT ON FUNCTION track_changes(text, text, text, jsonb) IS
    'how it is known whose events change: by triggers on the tables, by a column that grows, or not at all';
COMMENT ON FUNCTION note_changes() IS 'the function of the triggers that track_changes makes';
COMMENT ON FUNCTION drop_source(text) IS 'forgets a source that no model uses';
COMMENT ON FUNCTION create_model(text, text, jsonb) IS 'names a specification over a source, checked against its columns';
COMMENT ON PROCEDURE train(text, boolean) IS 'trains a new version of a model and makes it live, on all events or on what is new since the live version was trained; holds no snapshot while epochs run';
COMMENT ON PROCEDURE retrain(text, boolean, boolean) IS
    'trains a new version of a model as train does, builds all of the model''s profiles by it beside the live ones, and changes profiles and alias at once; with keep what they held before is kept for rollback';
COMMENT ON FUNCTION rollback(text) IS 'takes the last retraining of a model back: profiles and alias are at once what they were before; returns the version that is live; again, it goes forward';
COMMENT ON FUNCTION drop_previous(text) IS 'drops what retraining has kept of a model''s profiles; returns how many they were';
COMMENT ON PROCEDURE tune(text, jsonb, integer, text) IS 'tries settings of a model, records each trial, and trains a version by the best';
COMMENT ON PROCEDURE compress(text, jsonb) IS 'makes a smaller version of a model''s version: pruned (prune, scope, epochs) and of less precision (weights); set_alias makes it live';
COMMENT ON FUNCTION evaluate(text) IS 'figures of the live version on the events as they are now, with 95 % intervals';
COMMENT ON FUNCTION evaluate(text, text) IS
    'the same figures of all cases and of those with one value each of a field, an attribute or a label from a table';
COMMENT ON FUNCTION drift(text, timestamptz, jsonb) IS
    'how far what has come since the live version was trained, or since a time, has moved from what came before: fields, activity, vectors, figures';
COMMENT ON FUNCTION rank_features(text, text, text) IS
    'how much each feature tells of a label: by correlation and mutual information over a source, by permutation to a model';
COMMENT ON FUNCTION compare(text[], text) IS
    'figures of the live versions of several models on the same cases, and how much better each is than the first';
COMMENT ON FUNCTION synthesize(text, bigint, text, bigint) IS
    'draws events of n entities that there are not by a model''s live version, into a new table; returns their number';
COMMENT ON FUNCTION set_alias(text, text, integer) IS 'lets a version answer to an alias; profiles use the alias live';
COMMENT ON FUNCTION drop_model(text) IS 'drops a model with its versions, weights and metrics';
COMMENT ON FUNCTION create_profile(text, text, jsonb, text) IS 'makes an empty profile table for a model: with vectors, and the items'' in a table beside it, with lists of items, or both; live ones are kept up to date by themselves';
COMMENT ON FUNCTION alter_profile(regclass, text) IS
    'lets a profile be live, kept up to date by a job of its own, or batch, brought up to date when it is refreshed';
COMMENT ON PROCEDURE refresh(regclass, boolean) IS
    'brings a profile up to the events as they are now: the rows of entities whose events changed, where that is known; all beside the live rows, and swaps, else or if asked';
COMMENT ON FUNCTION verify(regclass, integer) IS 'scores some of a profile''s entities anew, and says where their rows differ';
COMMENT ON FUNCTION score(regclass, bigint, boolean) IS 'an entity''s row as JSON: what is stored, or if fresh what its events say now';
COMMENT ON FUNCTION score(regclass, text, boolean) IS 'an entity''s row as JSON: what is stored, or if fresh what its events say now';
COMMENT ON FUNCTION score(regclass, uuid, boolean) IS 'an entity''s row as JSON: what is stored, or if fresh what its events say now';
COMMENT ON FUNCTION encode(text, jsonb) IS
    'the vector that a model''s live version gives to somebody with these events, which are in no table: rows of the event table as a JSON array';
COMMENT ON FUNCTION profile_as_of(regclass, bigint, timestamptz, integer) IS
    'the row that an entity would have had at a time: by the version live then, or the one that is named, from the events until then';
COMMENT ON FUNCTION profile_as_of(regclass, text, timestamptz, integer) IS
    'the row that an entity would have had at a time: by the version live then, or the one that is named, from the events until then';
COMMENT ON FUNCTION profile_as_of(regclass, uuid, timestamptz, integer) IS
    'the row that an entity would have had at a time: by the version live then, or the one that is named, from the events until then';
COMMENT ON FUNCTION drop_profile(regclass) IS 'drops a profile and its table of item vectors';
COMMENT ON FUNCTION recommend(regclass, bigint, integer, boolean, boolean) IS 'items with the highest scores: of the entity''s list, or by inner products with its vector; if fresh by its events as they are now';
COMMENT ON FUNCTION recommend(regclass, text, integer, boolean, boolean) IS 'items with the highest scores: of the entity''s list, or by inner products with its vector; if fresh by its events as they are now';
COMMENT ON FUNCTION recommend(regclass, uuid, integer, boolean, boolean) IS 'items with the highest scores: of the entity''s list, or by inner products with its vector; if fresh by its events as they are now';
COMMENT ON FUNCTION similar(regclass, bigint, integer) IS 'entities with the largest cosines with the entity''s vector';
COMMENT ON FUNCTION similar(regclass, text, integer) IS 'entities with the largest cosines with the entity''s vector';
COMMENT ON FUNCTION similar(regclass, uuid, integer) IS 'entities with the largest cosines with the entity''s vector';
COMMENT ON FUNCTION submit(text, text, jsonb) IS 'queues a run (train a model, refresh a profile, …) that starts once the transaction has committed';
COMMENT ON FUNCTION wait(bigint) IS 'waits until a run has ended and returns its state';
COMMENT ON FUNCTION cancel(bigint) IS 'cancels a queued or running run; false when there was none';
COMMENT ON FUNCTION add_job(text, text, text, timestamptz, interval, integer, interval, text, jsonb, jsonb, text, boolean) IS
    'schedules a kind of work on an object, by an interval or a cron expression; returns the job''s number';
COMMENT ON FUNCTION alter_job(bigint, text, interval, integer, interval, text, jsonb, jsonb, text, boolean, timestamptz) IS
    'changes what is given of a scheduled job; its next start is reckoned anew';
COMMENT ON FUNCTION drop_job(bigint) IS 'forgets a scheduled job and cancels its queued run; its past runs are kept';
COMMENT ON FUNCTION pause(bigint, boolean) IS 'stops a job from being started by its schedule, or lets it be again; what was missed is not made up for';
COMMENT ON PROCEDURE run_job(bigint, boolean) IS
    'runs a scheduled job now, in this session, and records how it ended; with force whatever its conditions say';
COMMENT ON FUNCTION health() IS 'what is wrong or could be better, and what to do about it';
COMMENT ON FUNCTION clock() IS 'the time that jobs go by: now, unless a test has set it';
COMMENT ON FUNCTION set_clock(timestamptz) IS 'stops the clock that jobs go by at a time, for tests; null lets it go on as the server''s';
COMMENT ON FUNCTION server_findings() IS 'what health() finds about the server';
COMMENT ON FUNCTION known_families() IS 'which families of models there are; use the view families';
COMMENT ON FUNCTION running_jobs() IS 'what running jobs of this database are doing; use the view progress';

-- The clock is everybody's, so only a superuser sets it.
REVOKE EXECUTE ON FUNCTION set_clock(timestamptz) FROM PUBLIC;
