-- Explicit, so that nothing that an operator put beside our objects goes with them.
DROP FUNCTION outbox.to_publish(integer);
DROP FUNCTION outbox.audited_lanes(text[]);
DROP FUNCTION outbox.take(jsonb, float8, float8, boolean);
DROP FUNCTION outbox.dispatch(jsonb, integer, jsonb, float8, float8, boolean);
DROP FUNCTION outbox.settle(jsonb, jsonb, float8, float8, float8, float8, boolean, boolean);
DROP FUNCTION outbox.redefine(jsonb, uuid[], bigint[], timestamptz, boolean);
DROP FUNCTION outbox.end_run(uuid[], uuid, integer, bigint, timestamptz, boolean);
DROP FUNCTION outbox.claim(jsonb, jsonb, float8, float8, float8, boolean);
DROP FUNCTION outbox.choose(jsonb, jsonb, boolean, float8, float8, float8, boolean);
DROP FUNCTION outbox.steps(uuid[]);
DROP FUNCTION outbox.run_of(uuid, text, boolean, jsonb);
DROP TYPE outbox.run;
DROP AGGREGATE outbox.revision(jsonb);
DROP FUNCTION outbox.revised(jsonb, jsonb);
