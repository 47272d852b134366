"""Every statement on our own tables, named and explained.

Optuna's tables are reached through Optuna, or in `storage.optuna_internals`.

`{now}` is the database's clock, or the time given as :now (tests).  Locks are always
taken in the order search, ticket, Optuna's trial, so that callers cannot deadlock.
"""

from __future__ import annotations

import sqlalchemy as sa

from storage.states import ENDINGS, Attempt

# Advisory locks of this project; other applications in the database use other keys.
TABLES_KEY = 0x6E6B6174  # "nkat": who makes tables
SEARCHES_KEY = 7236841  # who makes or resizes searches
REAPER_KEY = 7236842  # with the study's hash: who reaps it

NOW = "COALESCE(CAST(:now AS timestamptz), clock_timestamp())"

_FAILURES = ", ".join(f"'{a}'" for a, ending in ENDINGS.items() if ending.failure)
_RESULTS = f"'{Attempt.COMPLETE}', '{Attempt.PRUNED}'"


# What speaks against the search itself.  A lost attempt alone does not (its host was taken
# away); a trial that was lost until it was given up does: perhaps it kills its hosts.
_BLAMED = f"(outcome = '{Attempt.FAILED}' OR (outcome = '{Attempt.LOST}' AND gave_up))"


def _sql(text: str) -> sa.TextClause:
    filled = text.replace("{now}", NOW).replace("{failures}", _FAILURES)
    return sa.text(filled.replace("{results}", _RESULTS).replace("{blamed}", _BLAMED))


CLOCK = _sql("SELECT {now} AS now, pg_postmaster_start_time() AS server_started")

# --- tables --------------------------------------------------------------------------

LOCK_TABLES = _sql(f"SELECT pg_advisory_xact_lock({TABLES_KEY})")

# --- searches ------------------------------------------------------------------------

# One process at a time makes or resizes searches.
LOCK_SEARCHES = _sql(f"SELECT pg_advisory_xact_lock({SEARCHES_KEY})")

SEARCHES = _sql("""
    SELECT s.study_name, s.study_id, s.search_text, s.search_hash, s.versions, s.created_at,
           s.command, s.reason,
           (SELECT count(*) FROM nkat_ticket t
             WHERE t.study_name = s.study_name AND NOT t.repeats) AS budget
      FROM nkat_search s
     WHERE CAST(:study AS text) IS NULL OR s.study_name = :study
     ORDER BY s.created_at DESC, s.study_id DESC
""")

NAMES_LIKE = _sql("SELECT study_name FROM nkat_search WHERE starts_with(study_name, :study)")

INSERT_SEARCH = _sql("""
    INSERT INTO nkat_search (study_name, study_id, search_text, search_hash, versions,
                             created_at, rate_from)
    VALUES (:study, :study_id, :search_text, :search_hash, CAST(:versions AS jsonb), {now}, {now})
""")

# The hash says that only what may change between runs is different.
SET_SEARCH_TEXT = _sql("""
    UPDATE nkat_search SET search_text = :search_text
     WHERE study_name = :study AND search_text <> :search_text
""")

DELETE_SEARCH = _sql("DELETE FROM nkat_search WHERE study_name = :study")

ADD_TICKETS = _sql("""
    INSERT INTO nkat_ticket (study_name) SELECT :study FROM generate_series(1, :number)
""")

# Only tickets that have not been used can be removed; those being claimed are skipped.
REMOVE_TICKETS = _sql("""
    DELETE FROM nkat_ticket WHERE ticket_id IN (
        SELECT ticket_id FROM nkat_ticket
         WHERE study_name = :study AND state = 'open' AND trial_id IS NULL
         ORDER BY ticket_id DESC LIMIT :number FOR UPDATE SKIP LOCKED)
""")

COUNT_TICKETS = _sql("""
    SELECT count(*) FROM nkat_ticket WHERE study_name = :study AND NOT repeats
""")

# Running again resets the failure rate: the user has had a look.
SET_COMMAND = _sql("""
    UPDATE nkat_search
       SET command = :command, reason = :reason,
           rate_from = CASE WHEN :command = 'run' THEN {now} ELSE rate_from END
     WHERE study_name = :study
""")

PAUSE_IF_RUNNING = _sql("""
    UPDATE nkat_search SET command = 'pause', reason = :reason
     WHERE study_name = :study AND command = 'run'
""")

FAILURE_RATE = _sql("""
    SELECT s.command,
           count(a.token) FILTER (WHERE {blamed}) AS failures,
           count(a.token) FILTER (WHERE {blamed} OR a.outcome IN ({results})) AS ended,
           (SELECT reason FROM nkat_attempt l
             WHERE l.study_name = :study AND {blamed}
             ORDER BY l.ended_at DESC LIMIT 1) AS last_reason
      FROM nkat_search s
      LEFT JOIN nkat_attempt a ON a.study_name = s.study_name AND a.ended_at >= s.rate_from
     WHERE s.study_name = :study
     GROUP BY s.study_name
""")

# --- workers -------------------------------------------------------------------------

INSERT_WORKER = _sql("""
    INSERT INTO nkat_worker (worker_id, study_name, host, pid, device, note, registered_at,
                             beat_at, state)
    VALUES (:worker, :study, :host, :pid, :device, :note, {now}, {now}, 'alive')
    ON CONFLICT (worker_id) DO NOTHING
""")

# Those that registered before this one; the orchestrator (device none) does not count.
WORKERS_BEFORE = _sql("""
    SELECT count(*) AS before FROM nkat_worker me
      JOIN nkat_worker other ON other.study_name = me.study_name AND other.device <> 'none'
     WHERE me.worker_id = :worker
       AND (other.registered_at, other.worker_id) < (me.registered_at, me.worker_id)
""")

RETIRE_WORKER = _sql("""
    UPDATE nkat_worker SET state = 'retired', reason = :reason WHERE worker_id = :worker
""")

# What does not work in a worker that goes on all the same; empty when all does.
SET_WORKER_REASON = _sql("""
    UPDATE nkat_worker SET reason = :reason WHERE worker_id = :worker AND state = 'alive'
""")

# A lost worker that beats again is alive again; one that signed off stays retired.
BEAT = _sql("""
    WITH me AS (
        UPDATE nkat_worker
           SET beat_at = {now},
               reason = CASE WHEN state = 'lost' THEN '' ELSE reason END,
               state = CASE WHEN state = 'lost' THEN 'alive' ELSE state END
         WHERE worker_id = :worker RETURNING study_name)
    SELECT s.command, s.reason,
           ARRAY(SELECT token FROM nkat_attempt
                  WHERE worker_id = :worker AND outcome IN ('lost', 'closed')) AS lost
      FROM me JOIN nkat_search s ON s.study_name = me.study_name
""")

# --- claiming ------------------------------------------------------------------------

# A claim that was committed although the connection broke before the answer arrived.
FIND_CLAIM = _sql("""
    SELECT t.ticket_id, t.trial_id, a.attempt
      FROM nkat_ticket t JOIN nkat_attempt a ON a.token = t.token
     WHERE t.token = :token AND t.state = 'leased'
""")

# Retries first (their ticket is reserved), then in order.  A ticket that another worker is
# claiming right now is skipped, not waited for.
PICK_TICKET = _sql("""
    SELECT ticket_id, trial_id FROM nkat_ticket
     WHERE study_name = :study AND state = 'open'
     ORDER BY (trial_id IS NULL), ticket_id
     LIMIT 1 FOR UPDATE SKIP LOCKED
""")

UNFINISHED_TICKETS = _sql("""
    SELECT count(*) FROM nkat_ticket WHERE study_name = :study AND state <> 'done'
""")

# --- repeats: tickets beyond the budget ------------------------------------------------

ADD_REPEAT = _sql("""
    INSERT INTO nkat_ticket (study_name, trial_id, repeats) VALUES (:study, :trial, true)
""")

REPEATING_TRIALS = _sql("SELECT trial_id FROM nkat_ticket WHERE study_name = :study AND repeats")

# Before a ticket goes to another trial: one of a repeat does not.
DROP_REPEAT = _sql("DELETE FROM nkat_ticket WHERE ticket_id = :ticket AND repeats")

# Trials that have a ticket: a WAITING one among them is for the holder of that ticket only.
TICKETED_TRIALS = _sql("""
    SELECT trial_id FROM nkat_ticket
     WHERE study_name = :study AND trial_id = ANY(CAST(:trials AS integer[]))
""")

BIND = _sql("""
    WITH ticket AS (
        UPDATE nkat_ticket
           SET state = 'leased', trial_id = :trial, token = :token, worker_id = :worker
         WHERE ticket_id = :ticket)
    INSERT INTO nkat_attempt (token, study_name, trial_id, trial_number, attempt, ticket_id,
                              worker_id, started_at)
    SELECT :token, :study, :trial, :trial_number,
           1 + COALESCE((SELECT max(attempt) FROM nkat_attempt
                          WHERE study_name = :study AND trial_id = :trial), 0),
           :ticket, :worker, {now}
    RETURNING attempt
""")

PREVIOUS_ATTEMPT = _sql("""
    SELECT a.attempt, a.outcome, a.reason, w.host, a.stage, a.dataset, a.epoch, a.checkpoint_at
      FROM nkat_attempt a LEFT JOIN nkat_worker w ON w.worker_id = a.worker_id
     WHERE a.study_name = :study AND a.trial_id = :trial AND a.attempt < :attempt
     ORDER BY a.attempt DESC LIMIT 1
""")

# --- the fence and the endings -------------------------------------------------------

LOCK_TICKET = _sql("""
    SELECT state, trial_id, token FROM nkat_ticket WHERE ticket_id = :ticket FOR UPDATE
""")

ATTEMPT = _sql("SELECT outcome, reason, gave_up FROM nkat_attempt WHERE token = :token")

PROGRESS = _sql("""
    UPDATE nkat_attempt
       SET stage = :stage, dataset = :dataset, epoch = :epoch,
           images_per_s = COALESCE(CAST(:images_per_s AS float8), images_per_s),
           first_stage = COALESCE(first_stage, :stage),
           checkpoint_at = CASE WHEN :saved THEN {now} ELSE checkpoint_at END
     WHERE token = :token AND outcome = 'running'
""")

END_ATTEMPT = _sql("""
    UPDATE nkat_attempt
       SET outcome = :outcome, ended_at = {now}, reason = :reason, signature = :signature,
           gave_up = :gave_up,
           last_seen_at = (SELECT beat_at FROM nkat_worker w
                            WHERE w.worker_id = nkat_attempt.worker_id)
     WHERE token = :token AND outcome = 'running'
""")

FINISH_TICKET = _sql("UPDATE nkat_ticket SET state = 'done' WHERE ticket_id = :ticket")

# trial: the one to be retried with this ticket, or NULL for a fresh one.
REOPEN_TICKET = _sql("""
    UPDATE nkat_ticket SET state = 'open', trial_id = :trial, token = NULL, worker_id = NULL
     WHERE ticket_id = :ticket
""")

FAILURES_OF_TRIAL = _sql("""
    SELECT count(*) AS failures,
           count(*) FILTER (WHERE signature = CAST(:signature AS text)) AS same
      FROM nkat_attempt
     WHERE study_name = :study AND trial_id = :trial AND outcome IN ({failures})
""")

# A first late result is kept; a retried call changes nothing.
LATE = _sql("""
    UPDATE nkat_attempt SET late_at = {now}, late_summary = :summary
     WHERE token = :token AND outcome <> 'running' AND late_at IS NULL
""")

# --- reaping -------------------------------------------------------------------------

# One reaper per study at a time; the others have nothing to do.
TRY_LOCK_REAPER = _sql(f"SELECT pg_try_advisory_xact_lock({REAPER_KEY}, hashtext(:study))")

# A worker that retired while it had a trial sends no more beats: no need to wait for it.
STALE_TICKETS = _sql("""
    SELECT t.ticket_id, t.trial_id, t.token, t.worker_id, w.host, w.pid, w.state AS worker_state,
           extract(epoch FROM {now} - w.beat_at) AS silence_s
      FROM nkat_ticket t LEFT JOIN nkat_worker w ON w.worker_id = t.worker_id
     WHERE t.study_name = :study AND t.state = 'leased'
       AND (w.worker_id IS NULL OR w.state = 'retired' OR w.beat_at < :silent_since)
       FOR UPDATE OF t SKIP LOCKED
""")

BOUND_TICKETS = _sql("""
    SELECT ticket_id, state, trial_id FROM nkat_ticket
     WHERE study_name = :study AND state IN ('open', 'leased') AND trial_id IS NOT NULL
""")

LOCK_BOUND_TICKET = _sql("""
    SELECT t.ticket_id, t.state, t.trial_id, t.token, t.worker_id
      FROM nkat_ticket t
     WHERE ticket_id = :ticket AND trial_id = :trial AND state <> 'done' FOR UPDATE SKIP LOCKED
""")

LOSE_WORKERS = _sql("""
    UPDATE nkat_worker SET state = 'lost', reason = 'no beat for longer than its lease'
     WHERE study_name = :study AND state = 'alive' AND beat_at < :silent_since
""")

KNOWN_ORPHANS = _sql("SELECT trial_id, seen_at FROM nkat_orphan WHERE study_name = :study")

INSERT_ORPHAN = _sql("""
    INSERT INTO nkat_orphan (study_name, trial_id, seen_at) VALUES (:study, :trial, {now})
    ON CONFLICT DO NOTHING
""")

DELETE_ORPHAN = _sql("DELETE FROM nkat_orphan WHERE study_name = :study AND trial_id = :trial")

# --- moving to another machine -----------------------------------------------------------

# Whatever a user put into this database; what belongs to an extension is not counted.
RELATIONS = _sql("""
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg!_%' ESCAPE '!'
       AND NOT EXISTS (SELECT 1 FROM pg_depend d
                        WHERE d.classid = CAST('pg_class' AS regclass) AND d.objid = c.oid
                          AND d.deptype = 'e')
""")

OTHER_SESSIONS = _sql("""
    SELECT application_name FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'nkat-%'
       AND application_name <> current_setting('application_name')
""")

LEASED_TICKETS = _sql("""
    SELECT ticket_id, trial_id, token FROM nkat_ticket
     WHERE study_name = :study AND state = 'leased' FOR UPDATE
""")

RETIRE_ALL_WORKERS = _sql("""
    UPDATE nkat_worker SET state = 'retired', reason = :reason
     WHERE study_name = :study AND state <> 'retired'
""")

# --- status --------------------------------------------------------------------------

COUNT_ALL = _sql("""
    SELECT t.*, a.*, r.* FROM
        (SELECT count(*) FILTER (WHERE NOT repeats) AS budget,
                count(*) FILTER (WHERE NOT repeats AND state = 'done') AS done,
                count(*) FILTER (WHERE repeats) AS repeats,
                count(*) FILTER (WHERE repeats AND state = 'done') AS repeats_done,
                count(*) FILTER (WHERE state = 'leased') AS leased,
                count(*) FILTER (WHERE state = 'open') AS open
           FROM nkat_ticket WHERE study_name = :study) t,
        (SELECT count(*) AS attempts,
                count(*) FILTER (WHERE attempt > 1) AS retries,
                count(*) FILTER (WHERE outcome = 'lost') AS lost,
                count(*) FILTER (WHERE outcome = 'failed') AS failed_attempts,
                count(*) FILTER (WHERE outcome = 'handed_back') AS handed_back,
                count(*) FILTER (WHERE outcome = 'closed') AS closed,
                count(late_at) AS late
           FROM nkat_attempt WHERE study_name = :study) a,
        (SELECT count(*) FILTER (WHERE {blamed}) AS rate_failures,
                count(*) FILTER (WHERE {blamed} OR outcome IN ({results})) AS rate_ended
           FROM nkat_attempt a JOIN nkat_search s ON s.study_name = a.study_name
          WHERE a.study_name = :study AND a.ended_at >= s.rate_from) r
""")

# A silent worker is lost whether or not anybody is there to reap it.
WORKERS = _sql("""
    SELECT w.worker_id, w.host, w.pid, w.device, w.note, w.reason,
           CASE WHEN w.state = 'alive' AND w.beat_at < {now} - make_interval(secs => :lease_s)
                THEN 'lost' ELSE w.state END AS state,
           extract(epoch FROM {now} - w.beat_at) AS beat_age_s,
           extract(epoch FROM w.beat_at) AS beat_at,
           a.trial_number, a.attempt, a.stage, a.dataset, a.epoch, a.images_per_s,
           extract(epoch FROM {now} - a.checkpoint_at) AS checkpoint_age_s,
           extract(epoch FROM {now} - a.started_at) AS leased_for_s
      FROM nkat_worker w
      LEFT JOIN nkat_attempt a ON a.worker_id = w.worker_id AND a.outcome = 'running'
     WHERE w.study_name = :study AND w.state <> 'retired'
       AND (CAST(:lease_s AS float8) IS NULL OR a.token IS NOT NULL
            OR w.beat_at >= {now} - :lost_shown_leases * make_interval(secs => :lease_s))
     ORDER BY state, w.host, w.device, w.registered_at
""")

NEWEST_ATTEMPTS = _sql("""
    SELECT DISTINCT ON (a.trial_id) a.trial_id, a.attempt, a.outcome, a.reason, a.worker_id,
           w.host, w.device, a.stage, a.dataset, a.epoch,
           extract(epoch FROM {now} - a.checkpoint_at) AS checkpoint_age_s,
           extract(epoch FROM COALESCE(a.ended_at, {now}) - a.started_at) AS seconds
      FROM nkat_attempt a LEFT JOIN nkat_worker w ON w.worker_id = a.worker_id
     WHERE a.study_name = :study
     ORDER BY a.trial_id, a.attempt DESC
""")

ATTEMPTS = _sql("""
    SELECT trial_number AS number, attempt, worker_id, outcome, reason, stage, first_stage,
           started_at, ended_at, last_seen_at
      FROM nkat_attempt WHERE study_name = :study ORDER BY started_at, token
""")
