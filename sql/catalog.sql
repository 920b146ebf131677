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
    track       text NOT NULL DEFAULT 'none' CHECK (track IN ('none', 'trigger', 'column')),
    watermark   name,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK ((track = 'column') = (watermark IS NOT NULL))
);
SELECT pg_catalog.pg_extension_config_dump('sources', '');
COMMENT ON TABLE sources IS 'where the events are, and what their columns mean';
COMMENT ON COLUMN sources.fields IS 'per field, in order: name, kind and options';
COMMENT ON COLUMN sources.cleaning IS 'what is set aside: duplicates, and events before and after times (in microseconds since 1970, or the number that the clock is); and the quantile that numbers are drawn in to';

COMMENT ON COLUMN sources.track IS 'how it is known which entities'' events have changed';
COMMENT ON COLUMN sources.watermark IS 'a column of the events that only grows; it tells what is new';

CREATE TABLE tracked (
    source      text NOT NULL,
    relation    regclass NOT NULL,
    owner       regrole NOT NULL,
    entity      name,
    PRIMARY KEY (source, relation)
);
SELECT pg_catalog.pg_extension_config_dump('tracked', '');
COMMENT ON TABLE tracked IS 'tables whose triggers note what changes';
COMMENT ON COLUMN tracked.entity IS 'the column of entities; null where any change may be about all of them';

-- Not dumped: transaction numbers belong to the server that gave them.
CREATE TABLE changes (
    source      text NOT NULL,
    relation    oid NOT NULL,
    transaction xid8 NOT NULL,
    integers    bigint[],
    texts       text[],
    since       bigint
);
ALTER TABLE changes ALTER COLUMN integers SET STORAGE EXTERNAL, ALTER COLUMN texts SET STORAGE EXTERNAL;
CREATE INDEX ON changes (source, transaction);
COMMENT ON TABLE changes IS 'whose events changed: a row per statement, kept until every profile has been refreshed; all entities'' where both arrays are null';
COMMENT ON COLUMN changes.since IS 'of rows that were added the earliest time, as Postgres stores it; null where others changed, or it is not known';

CREATE TABLE positions (
    profile     regclass PRIMARY KEY,
    owner       regrole NOT NULL,
    snapshot    pg_snapshot NOT NULL,
    watermarks  jsonb NOT NULL
);
COMMENT ON TABLE positions IS 'what each profile''s last refresh had seen: what is not visible in the snapshot is news to it';
COMMENT ON COLUMN positions.watermarks IS 'with a watermark column: its greatest value at some times, in microseconds since 1970';

-- Not dumped: neither are the tables that it names, which belong to the extension.
CREATE TABLE previous (
    profile      regclass PRIMARY KEY,
    owner        regrole NOT NULL,
    kept         regclass NOT NULL,
    items        regclass,
    version      integer,
    live         integer NOT NULL,
    replaced_by  integer NOT NULL,
    refreshed_at timestamptz,
    snapshot     pg_snapshot,
    watermarks   jsonb
);
COMMENT ON TABLE previous IS 'what profiles held before their model was retrained, kept for persona.rollback';
COMMENT ON COLUMN previous.kept IS 'the table of the rows; that of the items is beside it';
COMMENT ON COLUMN previous.version IS 'the version that filled the rows; null where none had';
COMMENT ON COLUMN previous.live IS 'the version that was live';
COMMENT ON COLUMN previous.replaced_by IS 'the version that is live instead';
COMMENT ON COLUMN previous.snapshot IS 'what had been seen of changes, as in positions; null where the rows must be made anew';

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

CREATE TABLE lives (
    model       text NOT NULL,
    version     integer NOT NULL,
    owner       regrole NOT NULL,
    since       timestamptz NOT NULL DEFAULT clock_timestamp()
);
SELECT pg_catalog.pg_extension_config_dump('lives', '');
COMMENT ON TABLE lives IS 'which version was live from when on';

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

-- Not dumped: what a server could not take in.
CREATE TABLE set_aside (
    profile     regclass NOT NULL,
    entity      text NOT NULL,
    owner       regrole NOT NULL,
    sqlstate    text NOT NULL,
    message     text NOT NULL,
    detail      text,
    since       timestamptz NOT NULL,
    tries       integer NOT NULL,
    tried_at    timestamptz NOT NULL,
    next_try    timestamptz NOT NULL,
    PRIMARY KEY (profile, entity)
);
COMMENT ON TABLE set_aside IS 'entities that a live profile could not take in, each with its error: their rows are as they were, and they are tried again';
COMMENT ON COLUMN set_aside.since IS 'when it failed for the first time';
COMMENT ON COLUMN set_aside.next_try IS 'later each time, up to an hour; sooner where the entity''s events change';

CREATE TABLE jobs (
    job           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL,
    object        text NOT NULL,
    profile       regclass,
    owner         regrole NOT NULL,
    schedule      text NOT NULL,
    time_zone     text NOT NULL,
    initial_start timestamptz NOT NULL,
    config        jsonb NOT NULL,
    conditions    jsonb NOT NULL,
    overlap       text NOT NULL CHECK (overlap IN ('queue', 'skip')),
    max_runtime   interval,
    max_retries   integer NOT NULL CHECK (max_retries BETWEEN 0 AND 1000),
    retry_period  interval NOT NULL CHECK (retry_period > interval '0'),
    enabled       boolean NOT NULL,
    next_start    timestamptz,
    retry         integer NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now()
);
SELECT pg_catalog.pg_extension_config_dump('jobs', '');
SELECT pg_catalog.pg_extension_config_dump('jobs_job_seq', '');
CREATE INDEX ON jobs (next_start) WHERE enabled;
COMMENT ON TABLE jobs IS 'what is done again and again: when, by whom, and what happens when it fails';
COMMENT ON COLUMN jobs.profile IS 'the table of a job that refreshes a profile or keeps it live: the job follows it to another name';
COMMENT ON COLUMN jobs.schedule IS 'an interval, counted from initial_start, or a cron expression in the time zone; always: a live profile''s';
COMMENT ON COLUMN jobs.config IS 'options of the kind of job';
COMMENT ON COLUMN jobs.conditions IS 'of which one must hold for the job to do its work';
COMMENT ON COLUMN jobs.overlap IS 'what happens while another run works on the same object: wait in the queue, or be skipped';
COMMENT ON COLUMN jobs.next_start IS 'when it is due next; null where never';
COMMENT ON COLUMN jobs.retry IS 'which retry next_start is; 0 where it is by the schedule';

-- Not dumped: a run belongs to the server that it was on.
CREATE TABLE job_runs (
    run           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job           bigint,
    kind          text NOT NULL,
    object        text NOT NULL,
    subject       text NOT NULL,
    owner         regrole NOT NULL,
    state         text NOT NULL
                  CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'skipped')),
    scheduled_for timestamptz,
    attempt       integer NOT NULL DEFAULT 1,
    config        jsonb NOT NULL DEFAULT '{}',
    conditions    jsonb NOT NULL DEFAULT '{}',
    max_runtime   interval,
    submitted_at  timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz,
    pid           integer,
    result        jsonb,
    sqlstate      text,
    message       text,
    detail        text,
    hint          text
);
CREATE INDEX ON job_runs (state) WHERE state IN ('queued', 'running');
CREATE INDEX ON job_runs (job, run);
CREATE INDEX ON job_runs (finished_at);
-- One run at a time works on an object, whoever starts it.
CREATE UNIQUE INDEX job_runs_running ON job_runs (subject, object) WHERE state = 'running';
COMMENT ON TABLE job_runs IS 'runs of jobs, and what was submitted without one: queued, running, and how they ended';
COMMENT ON COLUMN job_runs.job IS 'the scheduled job; null where it was submitted by itself';
COMMENT ON COLUMN job_runs.subject IS 'what the object is: a source, a model, a profile, or a profile that is kept live';
COMMENT ON COLUMN job_runs.scheduled_for IS 'when it was due; null where it was not started by a schedule';
COMMENT ON COLUMN job_runs.attempt IS '1, or one more than the retry that it is';
COMMENT ON COLUMN job_runs.result IS 'what a run that succeeded has to say: a version, figures, counts';
COMMENT ON COLUMN job_runs.message IS 'why it failed, was canceled or was skipped';
