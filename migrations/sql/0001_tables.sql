-- The outbox: an append-only log, a small hot queue, the intents, and one row per lane that has lived.
--
-- What can be derived is not stored: an intent's status is its terminal event (or that its queue row is
-- parked), its history is its events and attempts. Intents and events are never updated.
--
-- Schedule ids are in the order of their bytes, whatever the database's collation is: `audit` merges them with
-- what the stores hold, and comparing them costs less.
-- Locks and plans: README.md beside this file.

-- What a column may say stands in a domain: Postgres keeps a domain's check ready, but reads a table's from its
-- catalogue anew for every statement, which costs a producer of single rows more than writing them.
CREATE DOMAIN outbox.kind AS text CONSTRAINT intents_kind CHECK (VALUE IN ('create', 'update', 'delete', 'repair'));
CREATE DOMAIN outbox.event_type AS text CONSTRAINT events_type CHECK (VALUE IN (
    'schedule.create.requested', 'schedule.update.requested', 'schedule.delete.requested',
    'schedule.repair.requested',
    'schedule.registered', 'schedule.registration_skipped', 'schedule.compensation_requested',
    'schedule.unscheduled',
    'schedule.created', 'schedule.create_failed', 'schedule.updated', 'schedule.update_failed',
    'schedule.deleted', 'schedule.delete_failed', 'schedule.repaired'));
CREATE DOMAIN outbox.step_event AS text CONSTRAINT queue_event_type CHECK (VALUE IN (
    'schedule.create.requested', 'schedule.update.requested', 'schedule.delete.requested',
    'schedule.repair.requested',
    'schedule.registered', 'schedule.registration_skipped', 'schedule.compensation_requested',
    'schedule.unscheduled'));
CREATE DOMAIN outbox.event_consumer AS text
    CONSTRAINT events_consumer CHECK (VALUE IN ('authz', 'temporal', 'both'));
CREATE DOMAIN outbox.step_consumer AS text
    CONSTRAINT queue_consumer CHECK (VALUE IN ('authz', 'temporal', 'both'));
CREATE DOMAIN outbox.place AS text CONSTRAINT queue_place CHECK (VALUE IN (
    'incoming', 'behind', 'head', 'deferred'));
CREATE DOMAIN outbox.state AS text CONSTRAINT queue_state CHECK (VALUE IN (
    'queued', 'ready', 'dispatched', 'leased', 'waiting', 'holding', 'parked'));

CREATE TABLE outbox.intents (
    id              uuid        PRIMARY KEY,
    position        bigint      GENERATED ALWAYS AS IDENTITY,  -- the order of the lane
    schedule_id     text        COLLATE "C" NOT NULL,
    kind            outbox.kind NOT NULL,
    request         jsonb       NOT NULL,
    creator         jsonb       NOT NULL,  -- user_id | service_account_id, account_id
    trace           jsonb,                 -- W3C trace context: traceparent, tracestate
    idempotency_key text,
    replays         uuid,                  -- the failed intent that this one tries again
    replay_number   integer,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX intents_lane ON outbox.intents (schedule_id, position);
CREATE UNIQUE INDEX intents_idempotency_key ON outbox.intents (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX intents_replay_number ON outbox.intents (replays, replay_number)
    WHERE replays IS NOT NULL;

CREATE TABLE outbox.events (
    id            bigint      GENERATED ALWAYS AS IDENTITY,
    intent_id     uuid        NOT NULL,
    schedule_id   text        COLLATE "C" NOT NULL,
    type          outbox.event_type NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    consumer      outbox.event_consumer, -- whose step led here; none for a request
    attempt       integer,     -- how many attempts that step took
    lease_number  bigint,
    error_code    text,
    error_message text,
    zed_token     text,
    PRIMARY KEY (intent_id, id)
);
CREATE UNIQUE INDEX events_one_terminal ON outbox.events (intent_id) WHERE type IN (
    'schedule.created', 'schedule.create_failed', 'schedule.updated', 'schedule.update_failed',
    'schedule.deleted', 'schedule.delete_failed', 'schedule.repaired');
CREATE INDEX events_failed ON outbox.events (intent_id) WHERE type IN (
    'schedule.create_failed', 'schedule.update_failed', 'schedule.delete_failed');
-- What is recent. The log grows at its end, so that a summary of a few pages at a time does, and costs next to nothing.
CREATE INDEX events_recent ON outbox.events USING brin (at) WITH (pages_per_range = 16, autosummarize = on);

-- Attempts that did not settle their step, for the timeline: what is done is in the events.
CREATE TABLE outbox.attempts (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    intent_id     uuid        NOT NULL,
    event_type    text        NOT NULL,
    consumer      text        NOT NULL,
    attempt       integer     NOT NULL,
    lease_number  bigint      NOT NULL,
    action        text        NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    error_code    text        NOT NULL,
    error_message text        NOT NULL,
    CONSTRAINT attempts_action CHECK (action IN ('retry', 'hold', 'park'))
);
CREATE INDEX attempts_intent ON outbox.attempts (intent_id, id);

-- One row per intent that has not ended.
--   incoming: written by a producer, not yet seen by a claim
--   behind:   its lane has a head; no claim looks at it again until it is promoted
--   head:     the intent of its lane that is being applied
--   deferred: a repair whose time has not come; until then it is in nobody's way
CREATE TABLE outbox.queue (
    intent_id     uuid        PRIMARY KEY,
    position      bigint      NOT NULL,
    schedule_id   text        COLLATE "C" NOT NULL,
    place         outbox.place NOT NULL DEFAULT 'incoming',
    state         outbox.state NOT NULL DEFAULT 'queued',  -- queued: anywhere but at the head
    event_type    outbox.step_event NOT NULL,    -- the event whose step is pending
    consumer      outbox.step_consumer NOT NULL, -- who applies that step
    due_at        timestamptz NOT NULL DEFAULT clock_timestamp(),  -- leased or dispatched: when that ends
    lease_number  bigint      NOT NULL DEFAULT 0,  -- only grows
    attempts      integer     NOT NULL DEFAULT 0,  -- of this step
    strikes       integer     NOT NULL DEFAULT 0,  -- of those, failed though the store answered
    deadline      timestamptz,                     -- absolute, of the latest attempt
    unknown_until timestamptz,  -- until when an attempt of the intent without an answer may still land
    looking       boolean     NOT NULL DEFAULT false,  -- the next attempt only looks
    cause_code    text,         -- what a held or compensating intent will end with
    cause_message text,
    error_code    text,         -- of the latest attempt
    error_message text,
    failing_since timestamptz,
    patience      float8      NOT NULL DEFAULT 0,  -- seconds that the step waited though its store answered
    halted        boolean     NOT NULL DEFAULT false  -- the head of a schedule that a person has halted
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);
CREATE UNIQUE INDEX queue_one_head ON outbox.queue (schedule_id) WHERE place = 'head';
CREATE INDEX queue_due ON outbox.queue (consumer, due_at) WHERE state NOT IN ('queued', 'parked') AND NOT halted;
CREATE INDEX queue_dispatched ON outbox.queue (consumer, due_at) WHERE state = 'dispatched';
CREATE INDEX queue_incoming ON outbox.queue (position) WHERE place = 'incoming';
CREATE INDEX queue_behind ON outbox.queue (schedule_id, position) WHERE place = 'behind';
CREATE INDEX queue_parked ON outbox.queue (intent_id) WHERE state = 'parked';
-- Whose owners still have access.
CREATE INDEX queue_deletes ON outbox.queue (intent_id)
    WHERE event_type IN ('schedule.delete.requested', 'schedule.unscheduled');
CREATE INDEX queue_deferred ON outbox.queue (due_at) WHERE place = 'deferred';

CREATE TABLE outbox.lanes (
    schedule_id text        COLLATE "C" PRIMARY KEY,
    live_intent uuid,        -- the live stamp: the intent whose create stands now
    hold_until  timestamptz, -- no intent of the lane starts before
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A store that can't be used: one row while it lasts, shared by every worker. One step at a time probes it.
CREATE TABLE outbox.breakers (
    consumer      text        PRIMARY KEY,
    since         timestamptz NOT NULL DEFAULT clock_timestamp(),
    probe_at      timestamptz NOT NULL,
    probing       boolean     NOT NULL DEFAULT false,  -- whether a probe is under way
    failures      integer     NOT NULL DEFAULT 1,      -- what opened it, and each probe since
    error_code    text        NOT NULL,
    error_message text        NOT NULL,
    CONSTRAINT breakers_consumer CHECK (consumer IN ('authz', 'temporal', 'both'))
);

-- What is left of each store's rate, shared by every worker; only claims touch it, one at a time.
CREATE TABLE outbox.budgets (
    consumer text        PRIMARY KEY,
    tokens   float8      NOT NULL,
    at       timestamptz NOT NULL,
    CONSTRAINT budgets_consumer CHECK (consumer IN ('authz', 'temporal', 'both'))
);

-- How many leases have ended, ever, before their worker had settled: what is pruned takes nothing from it. Only claims
-- touch it, one at a time.
CREATE TABLE outbox.leases_expired (
    consumer text   PRIMARY KEY,
    many     bigint NOT NULL DEFAULT 0,
    CONSTRAINT leases_expired_consumer CHECK (consumer IN ('authz', 'temporal', 'both'))
);
INSERT INTO outbox.leases_expired (consumer) VALUES ('authz'), ('temporal'), ('both');

-- Limits that producers can't be trusted with; `outbox migrate` brings them to the settings.
CREATE TABLE outbox.limits (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    max_request_bytes integer NOT NULL CHECK (max_request_bytes > 0)
);
INSERT INTO outbox.limits (max_request_bytes) VALUES (262144);

-- Which outbox this is, among those that share one Kafka, and whether its events are published there;
-- `outbox migrate` brings the latter to the settings.
CREATE TABLE outbox.instance (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id        uuid    NOT NULL DEFAULT gen_random_uuid(),
    publishes boolean NOT NULL DEFAULT false
);
INSERT INTO outbox.instance DEFAULT VALUES;

-- Events that are still to be published. A lane's ids are in the order of the lane: a request is written when
-- its intent's turn comes, all else by the settle (or the operator) that brought it about.
CREATE TABLE outbox.publications (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id  bigint NOT NULL,
    intent_id uuid   NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);
