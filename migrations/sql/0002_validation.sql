-- Validation of updates, and of what schedules may say besides since. Python's models judge alike, in the same order.
-- Locks and plans: README.md beside this file.

-- The same of arguments. The array itself is no level of theirs, and one object alone is workflow_params.
CREATE FUNCTION outbox.is_args_or_null(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE outbox.type_of(value) WHEN 'null' THEN true
    WHEN 'array' THEN jsonb_array_length(value) BETWEEN 1 AND 100
                  AND NOT (jsonb_array_length(value) = 1 AND jsonb_typeof(value->0) = 'object')
                  AND NOT jsonb_path_exists(value, 'strict $.**{65}')
                  AND NOT jsonb_path_exists(value, 'strict $.** ? (@ > 1e308 || @ < -1e308)')
    ELSE false END;

CREATE FUNCTION outbox.is_memo_or_null(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN outbox.is_params_or_null(value)
   AND NOT (jsonb_typeof(value) = 'object' AND jsonb_path_exists(value, '$.keyvalue() ? (@.key starts with "outbox_")'));

CREATE FUNCTION outbox.is_attributes_or_null(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN outbox.is_params_or_null(value)
   AND NOT (jsonb_typeof(value) = 'object' AND (
       jsonb_path_exists(value, 'strict $.* ? (@.type() == "null" || @.type() == "object")')
       OR jsonb_path_exists(value, 'strict $.* ? (@.type() == "array") [*] ? (@.type() != "string")')));

CREATE FUNCTION outbox.is_retry_policy_or_null(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE outbox.type_of(value) WHEN 'null' THEN true
    WHEN 'object' THEN
        value - '{initial_interval_seconds,maximum_interval_seconds,maximum_attempts,backoff_coefficient}'::text[] = '{}'
        AND NOT jsonb_path_exists(value, 'strict $.* ? (@.type() == "null")')
        AND outbox.is_seconds_or_null(value->'initial_interval_seconds')
        AND outbox.is_seconds_or_null(value->'maximum_interval_seconds')
        AND outbox.is_seconds_or_null(value->'maximum_attempts')
        AND CASE outbox.type_of(value->'backoff_coefficient') WHEN 'null' THEN true
            WHEN 'number' THEN (value->>'backoff_coefficient')::numeric BETWEEN 1 AND 1000 ELSE false END
    ELSE false END;

-- Whether a field is null though it must say something.
CREATE FUNCTION outbox.is_null(r jsonb, field text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN jsonb_typeof(r->field) IS NOT DISTINCT FROM 'null';

-- What is wrong with the fields of a request, as field and reason, or null. Python's models judge alike, in the same
-- order. changes: of an update, which names what it changes; a null clears what a schedule can do without.
CREATE FUNCTION outbox.field_error(r jsonb, changes boolean) RETURNS text[] LANGUAGE sql STABLE
RETURN CASE
    WHEN NOT outbox.is_text(r->'workflow_name', 1000, '^[^\x01-\x1f\x7f]+$') AND (r ? 'workflow_name' OR NOT changes)
        THEN ARRAY['workflow_name', 'must be 1 to 1000 characters, none of them a control character']
    WHEN NOT outbox.is_text(r->'task_queue', 1000, '^[^\x01-\x1f\x7f]+$') AND (r ? 'task_queue' OR NOT changes)
        THEN ARRAY['task_queue', 'must be 1 to 1000 characters, none of them a control character']
    WHEN NOT outbox.is_params_or_null(r->'workflow_params')
        THEN ARRAY['workflow_params', 'must be a JSON object, nested less than 64 deep, with numbers within 1e308']
    WHEN NOT outbox.is_args_or_null(r->'workflow_args')
        THEN ARRAY['workflow_args', 'must be a JSON array of 1 to 100, nested less than 64 deep, with numbers within '
            '1e308, and not of one object alone (which is workflow_params)']
    WHEN NOT outbox.is_text_or_null(r->'cron_expression', 1000, '.') OR (changes AND outbox.is_null(r, 'cron_expression'))
        THEN ARRAY['cron_expression', 'must be 1 to 1000 characters']
    WHEN NOT outbox.is_seconds_or_null(r->'interval_seconds') OR (changes AND outbox.is_null(r, 'interval_seconds'))
        THEN ARRAY['interval_seconds', 'must be a whole number from 1 to 315360000']
    WHEN NOT outbox.is_seconds_or_null(r->'execution_timeout_seconds')
        THEN ARRAY['execution_timeout_seconds', 'must be a whole number from 1 to 315360000']
    WHEN NOT outbox.is_instant_or_null(r->'start_at')
        THEN ARRAY['start_at', 'must be a date and time of 1970 to 2999 with its offset, like 2026-03-01T09:00:00Z']
    WHEN NOT outbox.is_instant_or_null(r->'end_at')
        THEN ARRAY['end_at', 'must be a date and time of 1970 to 2999 with its offset, like 2026-03-01T09:00:00Z']
    WHEN jsonb_typeof(r->'paused') NOT IN ('boolean', 'null') OR (changes AND outbox.is_null(r, 'paused'))
        THEN ARRAY['paused', 'must be true or false']
    WHEN NOT outbox.is_text_or_null(r->'timezone', 255, '.')
        THEN ARRAY['timezone', 'must be 1 to 255 characters']
    WHEN r->>'overlap_policy' NOT IN (
            'skip', 'buffer_one', 'buffer_all', 'cancel_other', 'terminate_other', 'allow_all')
         OR (changes AND outbox.is_null(r, 'overlap_policy'))
        THEN ARRAY['overlap_policy',
            'must be skip, buffer_one, buffer_all, cancel_other, terminate_other or allow_all']
    WHEN NOT outbox.is_seconds_or_null(r->'jitter_seconds')
        THEN ARRAY['jitter_seconds', 'must be a whole number from 1 to 315360000']
    WHEN NOT outbox.is_seconds_or_null(r->'catchup_window_seconds')
         OR length(r->>'catchup_window_seconds') = 1
        THEN ARRAY['catchup_window_seconds', 'must be a whole number from 10 to 315360000']
    WHEN jsonb_typeof(r->'pause_on_failure') NOT IN ('boolean', 'null') OR (changes AND outbox.is_null(r, 'pause_on_failure'))
        THEN ARRAY['pause_on_failure', 'must be true or false']
    WHEN NOT outbox.is_text_or_null(r->'note', 1000, '.')
        THEN ARRAY['note', 'must be 1 to 1000 characters']
    WHEN NOT outbox.is_retry_policy_or_null(r->'retry_policy')
        THEN ARRAY['retry_policy', 'must be an object of initial_interval_seconds, maximum_interval_seconds, '
            'maximum_attempts (whole numbers from 1) and backoff_coefficient (1 to 1000)']
    WHEN NOT outbox.is_memo_or_null(r->'memo')
        THEN ARRAY['memo', 'must be a JSON object, nested less than 64 deep, with numbers within 1e308, without a key '
            'outbox_…']
    WHEN NOT outbox.is_attributes_or_null(r->'search_attributes')
        THEN ARRAY['search_attributes', 'must be an object of texts, numbers, true or false, and arrays of texts']
    END;

CREATE FUNCTION outbox.contradiction(r jsonb, changes boolean) RETURNS text[] LANGUAGE sql STABLE
RETURN CASE
    WHEN num_nonnulls(r->>'cron_expression', r->>'interval_seconds') NOT IN (1, CASE WHEN changes THEN 0 ELSE 1 END)
        THEN ARRAY['cron_expression', 'must be given, or interval_seconds, and not both']
    WHEN (r->>'end_at')::timestamptz <= (r->>'start_at')::timestamptz
        THEN ARRAY['end_at', 'must be after start_at']
    WHEN num_nonnulls(r->>'workflow_params', r->>'workflow_args') = 2
        THEN ARRAY['workflow_args', 'must not be given beside workflow_params']
    WHEN changes AND r - '{kind,agent_id,name,principal,idempotency_key,traceparent,tracestate}'::text[] = '{}'
        THEN ARRAY['request', 'must change something: name a field']
    END;

CREATE OR REPLACE FUNCTION outbox.unknown_fields(r jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN r - CASE r->>'kind' WHEN 'delete'
    THEN '{kind,agent_id,name,principal,idempotency_key,traceparent,tracestate}'::text[]
    ELSE '{kind,agent_id,name,principal,idempotency_key,traceparent,tracestate,workflow_name,task_queue,
           workflow_params,workflow_args,cron_expression,interval_seconds,execution_timeout_seconds,start_at,end_at,
           paused,timezone,overlap_policy,jitter_seconds,catchup_window_seconds,pause_on_failure,note,retry_policy,
           memo,search_attributes}'::text[] END;

CREATE OR REPLACE FUNCTION outbox.request_error(r jsonb, max_bytes integer) RETURNS text[] LANGUAGE sql STABLE
RETURN CASE
    WHEN jsonb_typeof(r) IS DISTINCT FROM 'object' THEN ARRAY['request', 'must be an object']
    WHEN outbox.is_huge(r, max_bytes) THEN outbox.too_large(max_bytes)
    WHEN r->>'kind' NOT IN ('create', 'update', 'delete')
        THEN ARRAY['kind', 'must be create, update or delete']
    WHEN NOT outbox.is_text(r->'agent_id', 128, '^[A-Za-z0-9_|/=+]+(-[A-Za-z0-9_|/=+]+)*$')
        THEN ARRAY['agent_id', 'must be 1 to 128 of A-Z a-z 0-9 _ - | / = +, without --, first and last not -']
    WHEN NOT outbox.is_text(r->'name', 64, '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')
        THEN ARRAY['name', 'must be 1 to 64 of a-z 0-9 -, first and last not -']
    ELSE coalesce(
        CASE WHEN r->>'kind' IS DISTINCT FROM 'delete' THEN
            outbox.field_error(r, r->>'kind' IS NOT DISTINCT FROM 'update') END,
        CASE WHEN outbox.unknown_fields(r) <> '{}'
             THEN ARRAY[outbox.any_key(outbox.unknown_fields(r)), 'is not a known field'] END,
        CASE WHEN r->>'kind' IS DISTINCT FROM 'delete' THEN
            outbox.contradiction(r, r->>'kind' IS NOT DISTINCT FROM 'update') END,
        outbox.principal_error(r->'principal'),
        outbox.envelope_error(r),
        CASE WHEN octet_length(r::text) > max_bytes THEN outbox.too_large(max_bytes) END)
    END;

-- A request that is not plain, without its nulls: null and absent are one, so that a repeated request compares equal.
-- Within what a workflow gets, a null is the caller's own. Of what an update changes, a null clears.
CREATE OR REPLACE FUNCTION outbox.without_nulls(r jsonb) RETURNS jsonb LANGUAGE sql STABLE
RETURN CASE r->>'kind' WHEN 'update' THEN
    r - '{principal,idempotency_key,traceparent,tracestate}'::text[] || jsonb_strip_nulls(jsonb_build_object(
        'principal', r->'principal', 'idempotency_key', r->'idempotency_key',
        'traceparent', r->'traceparent', 'tracestate', r->'tracestate'))
    ELSE jsonb_strip_nulls(r - '{workflow_params,workflow_args,memo}'::text[])
        || (SELECT coalesce(jsonb_object_agg(own.name, r->own.name), '{}')
              FROM unnest('{workflow_params,workflow_args,memo}'::text[]) AS own (name)
             WHERE r->>own.name IS NOT NULL)
    END;

DROP FUNCTION outbox.create_error(jsonb), outbox.create_contradiction(jsonb);
