-- The search, its workers, the tickets of its budget and every attempt ever made.
-- Optuna's tables are in the same database; no statement here changes them.
-- Times are timestamptz and come from the database's clock.

CREATE TABLE nkat_schema (
    version    integer     PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE nkat_search (
    study_name   text PRIMARY KEY,
    study_id     integer     NOT NULL,
    search_text  text        NOT NULL,
    search_hash  text        NOT NULL,
    versions     jsonb       NOT NULL,
    created_at   timestamptz NOT NULL,
    command      text        NOT NULL DEFAULT 'run' CHECK (command IN ('run', 'pause', 'stop')),
    reason       text        NOT NULL DEFAULT '',
    -- The failure rate looks at attempts that ended after this moment.
    rate_from    timestamptz NOT NULL
);

CREATE TABLE nkat_worker (
    worker_id     uuid PRIMARY KEY,
    study_name    text        NOT NULL REFERENCES nkat_search ON DELETE CASCADE,
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    device        text        NOT NULL,
    note          text        NOT NULL,
    registered_at timestamptz NOT NULL,
    beat_at       timestamptz NOT NULL,
    state         text        NOT NULL CHECK (state IN ('alive', 'lost', 'retired')),
    reason        text        NOT NULL DEFAULT ''
);
CREATE INDEX nkat_worker_study ON nkat_worker (study_name, state);

-- One row per unit of the budget.  An open ticket with a trial_id is reserved for the
-- retry of that trial, so a retry always finds a ticket.
CREATE TABLE nkat_ticket (
    ticket_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    study_name text NOT NULL REFERENCES nkat_search ON DELETE CASCADE,
    state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'leased', 'done')),
    trial_id   integer,
    token      uuid,
    worker_id  uuid REFERENCES nkat_worker ON DELETE SET NULL,
    CHECK (state <> 'leased' OR (trial_id IS NOT NULL AND token IS NOT NULL)),
    CHECK (state <> 'done' OR trial_id IS NOT NULL),
    UNIQUE (study_name, trial_id)
);
-- The order of PICK_TICKET: reserved ones first.
CREATE INDEX nkat_ticket_open ON nkat_ticket (study_name, (trial_id IS NULL), ticket_id)
    WHERE state = 'open';
CREATE INDEX nkat_ticket_leased ON nkat_ticket (study_name, worker_id) WHERE state = 'leased';

CREATE TABLE nkat_attempt (
    token         uuid PRIMARY KEY,
    study_name    text        NOT NULL REFERENCES nkat_search ON DELETE CASCADE,
    trial_id      integer     NOT NULL,
    trial_number  integer     NOT NULL,
    attempt       integer     NOT NULL CHECK (attempt >= 1),
    ticket_id     bigint      NOT NULL,
    worker_id     uuid REFERENCES nkat_worker ON DELETE SET NULL,
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    outcome       text        NOT NULL DEFAULT 'running' CHECK (outcome IN
        ('running', 'complete', 'pruned', 'handed_back', 'failed', 'lost', 'closed')),
    reason        text        NOT NULL DEFAULT '',
    signature     text,
    gave_up       boolean     NOT NULL DEFAULT false,
    first_stage   text,         -- of its first sign of progress
    stage         text,
    dataset       text,
    epoch         integer,
    checkpoint_at timestamptz,
    last_seen_at  timestamptz,  -- its worker's last beat before it ended
    late_at       timestamptz,
    late_summary  text,  -- JSON, NaN allowed
    CHECK ((outcome = 'running') = (ended_at IS NULL)),
    UNIQUE (study_name, trial_id, attempt)
);
CREATE INDEX nkat_attempt_worker ON nkat_attempt (worker_id);

-- Trials that are RUNNING in Optuna without a ticket (a `study.ask` of another program).
CREATE TABLE nkat_orphan (
    study_name text        NOT NULL REFERENCES nkat_search ON DELETE CASCADE,
    trial_id   integer     NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (study_name, trial_id)
);
