-- Reading: the rows of objects whose owner one could act as. Writing: only the extension's code.
GRANT USAGE ON SCHEMA persona TO PUBLIC;
GRANT SELECT ON sources, models, versions, weights, metrics, aliases, profiles, jobs, progress TO PUBLIC;

ALTER TABLE sources ENABLE ROW LEVEL SECURITY;
ALTER TABLE models ENABLE ROW LEVEL SECURITY;
ALTER TABLE versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE weights ENABLE ROW LEVEL SECURITY;
ALTER TABLE metrics ENABLE ROW LEVEL SECURITY;
ALTER TABLE aliases ENABLE ROW LEVEL SECURITY;
ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;

CREATE POLICY owned ON sources FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON models FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON versions FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON weights FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON metrics FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON aliases FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON profiles FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
CREATE POLICY owned ON jobs FOR SELECT USING (pg_catalog.pg_has_role(owner, 'USAGE'));
