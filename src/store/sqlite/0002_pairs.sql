-- Schema version 2: paired sessions, noise models of testbeds, acceptances of known changes.

-- A run that is one arm of a paired session; the pair with index i is launch i of the base and the head arm, and
-- launches 2i and 2i + 1 of the control arm.
ALTER TABLE runs ADD COLUMN session TEXT;
ALTER TABLE runs ADD COLUMN arm TEXT CHECK (arm IN ('base', 'head', 'control'));
CREATE INDEX runs_by_session ON runs (session) WHERE session IS NOT NULL;

-- What `calibrate` learnt of a metric on a testbed; the newest replaces the one before.
CREATE TABLE noise_models (
    testbed             TEXT    NOT NULL,
    suite               TEXT    NOT NULL,
    case_id             TEXT    NOT NULL,
    metric              TEXT    NOT NULL,
    measured_ns         INTEGER NOT NULL,
    statistic           TEXT    NOT NULL,
    pair_spread         REAL    NOT NULL, -- log units
    pair_deviation      REAL    NOT NULL, -- log units
    pairs               INTEGER NOT NULL,
    false_alarms        INTEGER NOT NULL,
    trials              INTEGER NOT NULL,
    smallest_detectable REAL,             -- a fraction; NULL: none within the pairs allowed
    unchanged_pairs     REAL    NOT NULL,
    PRIMARY KEY (testbed, suite, case_id, metric)
) STRICT, WITHOUT ROWID;

-- Changes that a person accepted: the level of a metric from then on.
CREATE TABLE acceptances (
    key       INTEGER PRIMARY KEY,
    suite     TEXT    NOT NULL,
    case_id   TEXT    NOT NULL,
    metric    TEXT    NOT NULL,
    change    REAL    NOT NULL, -- a fraction of the level before, in the metric's own direction
    reason    TEXT    NOT NULL,
    who       TEXT    NOT NULL,
    since_ns  INTEGER NOT NULL,
    until_ns  INTEGER,
    commit_hash TEXT,
    UNIQUE (suite, case_id, metric, since_ns)
) STRICT;
