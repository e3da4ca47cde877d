-- Schema version 1. Never edit a committed migration: add the next one.
--
-- Times are nanoseconds since 1970 (UTC): datetime(started_ns / 1000000000, 'unixepoch') reads them.
-- A NaN is stored as NULL in summary columns, because SQLite has no NaN; the sample vectors keep every bit.

-- Long texts that most runs share, stored once: suite texts, testbed facts (JSON), case definitions (JSON).
CREATE TABLE texts (
    key    INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    text   TEXT NOT NULL
) STRICT;

CREATE TABLE runs (
    key               INTEGER PRIMARY KEY,
    id                TEXT    NOT NULL UNIQUE,
    suite_name        TEXT    NOT NULL,
    suite_description TEXT    NOT NULL,
    suite_gate        TEXT    NOT NULL,
    suite_budget_s    REAL,
    suite_launches    INTEGER NOT NULL,
    suite_hash        TEXT    NOT NULL,
    suite_text        INTEGER NOT NULL REFERENCES texts (key),
    commit_hash       TEXT,
    branch            TEXT,
    dirty             INTEGER NOT NULL,
    testbed_key       TEXT    NOT NULL,
    testbed_facts     INTEGER NOT NULL REFERENCES texts (key),
    toolchain         TEXT    NOT NULL,
    regrade_version   TEXT    NOT NULL,
    command_line      TEXT    NOT NULL,
    seed              INTEGER NOT NULL, -- 64 bits, read as unsigned
    started_ns        INTEGER NOT NULL,
    finished_ns       INTEGER,
    status            TEXT    NOT NULL CHECK (status IN ('running', 'complete', 'interrupted')),
    synthetic         TEXT,
    debug_build       INTEGER NOT NULL,
    -- The process that measures it now: set while status is 'running'.
    owner_boot        TEXT,
    owner_pid         INTEGER,
    owner_start       INTEGER
) STRICT;

CREATE INDEX runs_by_age ON runs (started_ns, id);
CREATE INDEX runs_by_group ON runs (suite_name, testbed_key, branch, started_ns, id);
CREATE INDEX runs_by_commit ON runs (commit_hash);
CREATE INDEX runs_by_suite_text ON runs (suite_text);
CREATE INDEX runs_by_testbed_facts ON runs (testbed_facts);

CREATE TABLE cases (
    run            INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    ordinal        INTEGER NOT NULL,
    definition     INTEGER NOT NULL REFERENCES texts (key),
    skipped_kind   TEXT,
    skipped_reason TEXT,
    PRIMARY KEY (run, ordinal)
) STRICT, WITHOUT ROWID;

CREATE INDEX cases_by_definition ON cases (definition);

-- Narrow on purpose: comparing reads every row of two runs.
CREATE TABLE launches (
    key            INTEGER PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,
    run            INTEGER NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    case_id        TEXT    NOT NULL,
    launch_index   INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    started_ns     INTEGER NOT NULL,
    finished_ns    INTEGER NOT NULL,
    outcome        TEXT    NOT NULL,
    outcome_reason TEXT
) STRICT;

CREATE INDEX launches_by_run ON launches (run, case_id);

-- The wide part of a launch, read only when a whole launch is.
CREATE TABLE launch_details (
    launch            INTEGER PRIMARY KEY REFERENCES launches (key) ON DELETE CASCADE,
    warmup_iterations INTEGER, -- NULL: no warm-up was told of
    warmup_seconds    REAL,
    warmup_settled    INTEGER,
    stop              TEXT,
    device            TEXT,          -- JSON
    evidence          TEXT NOT NULL, -- JSON
    unknown           TEXT NOT NULL, -- JSON
    log               TEXT NOT NULL
) STRICT;

CREATE TABLE checks (
    launch    INTEGER NOT NULL REFERENCES launches (key) ON DELETE CASCADE,
    ordinal   INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    reference TEXT    NOT NULL,
    error     REAL,
    tolerance REAL,
    pass      INTEGER NOT NULL,
    PRIMARY KEY (launch, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE metrics (
    launch     INTEGER NOT NULL REFERENCES launches (key) ON DELETE CASCADE,
    ordinal    INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    unit       TEXT    NOT NULL,
    direction  TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    exact      INTEGER NOT NULL,
    derived    INTEGER NOT NULL,
    sampled    INTEGER NOT NULL, -- 0: a single value
    iterations INTEGER NOT NULL, -- 64 bits, read as unsigned
    clock      TEXT,
    n          INTEGER NOT NULL,
    median     REAL,
    q25        REAL, -- the good side, whichever way is better
    best       REAL,
    q75        REAL, -- the bad side
    PRIMARY KEY (launch, ordinal)
) STRICT, WITHOUT ROWID;

-- Every sample; see blob.rs for the encoding. Apart from `metrics`, so that reading summaries touches none of it.
CREATE TABLE vectors (
    key     INTEGER PRIMARY KEY,
    launch  INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    data    BLOB    NOT NULL,
    UNIQUE (launch, ordinal),
    FOREIGN KEY (launch, ordinal) REFERENCES metrics (launch, ordinal) ON DELETE CASCADE
) STRICT;

-- A named run cannot be deleted: the reference has no ON DELETE action.
CREATE TABLE baselines (
    name     TEXT PRIMARY KEY,
    run      INTEGER NOT NULL REFERENCES runs (key),
    since_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX baselines_by_run ON baselines (run);
