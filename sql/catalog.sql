-- The catalog: what persona knows, as ordinary tables. The extension's own code writes them, after
-- checking who asks; everybody reads the rows of objects whose owner they could act as.
--
-- No foreign keys: a parallel pg_restore loads an extension's tables in any order. The code locks what
-- a new row points to, and drops what points to an old one.

CREATE TABLE sources (
    source      text PRIMARY KEY,
    owner       regrole NOT NULL,
    events      regclass NOT NULL,
    entity      name NOT NULL,
    at          name NOT NULL,
    fields      jsonb NOT NULL,
    cleaning    jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
SELECT pg_catalog.pg_extension_config_dump('sources', '');
COMMENT ON TABLE sources IS 'where the events are, and what their columns mean';
COMMENT ON COLUMN sources.fields IS 'per field, in order: name, kind and options';
COMMENT ON COLUMN sources.cleaning IS 'what is set aside: duplicates, and events before and after times (in microseconds since 1970, or the number that the clock is); and the quantile that numbers are drawn in to';

CREATE TABLE attributes (
    source      text NOT NULL,
    place       integer NOT NULL,
    owner       regrole NOT NULL,
    relation    regclass NOT NULL,
    key         name NOT NULL,
    definition  jsonb NOT NULL,
    PRIMARY KEY (source, place)
);
SELECT pg_catalog.pg_extension_config_dump('attributes', '');
COMMENT ON TABLE attributes IS 'tables about a source''s entities or about the values of its fields, joined to the events by key';
COMMENT ON COLUMN attributes.definition IS 'on (the field whose values are the keys; null where the entities are) and fields';

CREATE TABLE labels (
    source      text NOT NULL,
    label       text NOT NULL,
    owner       regrole NOT NULL,
    definition  jsonb NOT NULL,
    relation    regclass,
    entity      name,
    value       name,
    at          name,
    PRIMARY KEY (source, label)
);
SELECT pg_catalog.pg_extension_config_dump('labels', '');
COMMENT ON TABLE labels IS 'what is known of a source''s entities, for models to predict';
COMMENT ON COLUMN labels.definition IS 'kind (class or number), and what a label of the events themselves asks for';
COMMENT ON COLUMN labels.relation IS 'the table of labels; null where the events themselves say';

CREATE TABLE models (
    model       text PRIMARY KEY,
    owner       regrole NOT NULL,
    source      text NOT NULL,
    spec        jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
SELECT pg_catalog.pg_extension_config_dump('models', '');
COMMENT ON TABLE models IS 'named specifications; what training makes of them are versions';
COMMENT ON COLUMN models.spec IS 'the specification with every default written out';

CREATE TABLE versions (
    model       text NOT NULL,
    version     integer NOT NULL,
    owner       regrole NOT NULL,
    spec        jsonb NOT NULL,
    fields      jsonb NOT NULL,
    fingerprint text NOT NULL,
    as_of       text,
    seed        bigint NOT NULL,
    events      bigint NOT NULL,
    entities    bigint NOT NULL,
    items       bigint NOT NULL,
    parameters  bigint NOT NULL,
    device      text NOT NULL,
    "precision" text NOT NULL,
    libraries   jsonb NOT NULL,
    seconds     jsonb NOT NULL,
    notes       text[] NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, version)
);
SELECT pg_catalog.pg_extension_config_dump('versions', '');
COMMENT ON TABLE versions IS 'trained results; a version never changes';
COMMENT ON COLUMN versions.fields IS 'the source''s columns as they were when the version was trained';
COMMENT ON COLUMN versions.fingerprint IS 'hash of the events trained on';
COMMENT ON COLUMN versions.as_of IS 'time of the newest event trained on';
COMMENT ON COLUMN versions.seconds IS 'seconds by phase, in order';

CREATE TABLE weights (
    model       text NOT NULL,
    version     integer NOT NULL,
    chunk       integer NOT NULL,
    owner       regrole NOT NULL,
    bytes       bytea NOT NULL,
    PRIMARY KEY (model, version, chunk)
);
ALTER TABLE weights ALTER COLUMN bytes SET STORAGE EXTERNAL;
SELECT pg_catalog.pg_extension_config_dump('weights', '');
COMMENT ON TABLE weights IS 'each version as one safetensors file, cut into chunks';

CREATE TABLE metrics (
    model       text NOT NULL,
    version     integer NOT NULL,
    owner       regrole NOT NULL,
    epoch       integer,
    split       text NOT NULL,
    metric      text NOT NULL,
    value       double precision NOT NULL,
    low         double precision,
    high        double precision,
    UNIQUE NULLS NOT DISTINCT (model, version, epoch, split, metric)
);
SELECT pg_catalog.pg_extension_config_dump('metrics', '');
COMMENT ON TABLE metrics IS 'figures of every epoch, and of the version as a whole where epoch is null';
COMMENT ON COLUMN metrics.low IS 'lower bound of the 95 % interval';
COMMENT ON COLUMN metrics.high IS 'upper bound of the 95 % interval';

CREATE TABLE judgements (
    model       text NOT NULL,
    version     integer NOT NULL,
    split       text NOT NULL,
    subject     text NOT NULL,
    owner       regrole NOT NULL,
    bytes       bytea NOT NULL,
    PRIMARY KEY (model, version, split, subject)
);
ALTER TABLE judgements ALTER COLUMN bytes SET STORAGE EXTERNAL;
SELECT pg_catalog.pg_extension_config_dump('judgements', '');
COMMENT ON TABLE judgements IS 'what was predicted of each judged case, for persona.compare: of the ranking, of the ratings, or of the label that subject names';

CREATE TABLE trials (
    model       text NOT NULL,
    search      integer NOT NULL,
    trial       integer NOT NULL,
    owner       regrole NOT NULL,
    settings    jsonb NOT NULL,
    epochs      integer NOT NULL,
    metric      text,
    value       double precision,
    seconds     double precision NOT NULL,
    message     text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, search, trial)
);
SELECT pg_catalog.pg_extension_config_dump('trials', '');
COMMENT ON TABLE trials IS 'settings that persona.tune has tried, and the validation figure of each';
COMMENT ON COLUMN trials.message IS 'why there is no figure';

CREATE TABLE compressed (
    model        text NOT NULL,
    version      integer NOT NULL,
    owner        regrole NOT NULL,
    original     text NOT NULL,
    options      jsonb NOT NULL,
    figures      jsonb NOT NULL,
    bytes_before bigint NOT NULL,
    bytes_after  bigint NOT NULL,
    zeros        double precision NOT NULL,
    speed_before double precision NOT NULL,
    speed_after  double precision NOT NULL,
    PRIMARY KEY (model, version)
);
SELECT pg_catalog.pg_extension_config_dump('compressed', '');
COMMENT ON TABLE compressed IS 'smaller versions, and what each lost and gained; use the view compressions';
COMMENT ON COLUMN compressed.original IS 'the version that it was made of, or learned from, as model@version';
COMMENT ON COLUMN compressed.figures IS 'per metric of the held-out part: split, metric, before, after';

CREATE TABLE aliases (
    model       text NOT NULL,
    alias       text NOT NULL,
    version     integer NOT NULL,
    owner       regrole NOT NULL,
    PRIMARY KEY (model, alias)
);
SELECT pg_catalog.pg_extension_config_dump('aliases', '');
COMMENT ON TABLE aliases IS 'which version answers to a name; live is the one that profiles use';

CREATE TABLE profiles (
    profile      regclass PRIMARY KEY,
    items        regclass,
    model        text NOT NULL,
    owner        regrole NOT NULL,
    options      jsonb NOT NULL,
    version      integer,
    created_at   timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz
);
SELECT pg_catalog.pg_extension_config_dump('profiles', '');
COMMENT ON COLUMN profiles.options IS 'of the index where there are vectors (m, ef_construction), and how many recommendations each list has';
COMMENT ON TABLE profiles IS 'profile tables, their item tables (where the model has items and vectors), and the version that filled them';

CREATE TABLE reductions (
    profile     regclass NOT NULL,
    version     integer NOT NULL,
    owner       regrole NOT NULL,
    bytes       bytea NOT NULL,
    PRIMARY KEY (profile, version)
);
ALTER TABLE reductions ALTER COLUMN bytes SET STORAGE EXTERNAL;
SELECT pg_catalog.pg_extension_config_dump('reductions', '');
COMMENT ON TABLE reductions IS 'how the vectors of a version were given fewer dimensions in a profile, so that its next refresh does the same';

-- Not dumped: a job belongs to the server that it was submitted to.
CREATE TABLE jobs (
    job          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL,
    object       text NOT NULL,
    owner        regrole NOT NULL,
    state        text NOT NULL DEFAULT 'queued'
                 CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    submitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at   timestamptz,
    finished_at  timestamptz,
    sqlstate     text,
    message      text,
    detail       text,
    hint         text
);
CREATE INDEX ON jobs (state) WHERE state IN ('queued', 'running');
COMMENT ON TABLE jobs IS 'background jobs: queued, running, and how they ended';
