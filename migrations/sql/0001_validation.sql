-- Validation: every request is judged here, whatever language sent it. Python's models judge alike.
--
-- The small functions are single expressions no more volatile than what is in them, so that the planner puts
-- them in place of their calls. None of them raises, whatever JSON it is given.
-- Locks and plans: README.md beside this file.

CREATE FUNCTION outbox.type_of(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE
RETURN coalesce(jsonb_typeof(value), 'null');

CREATE FUNCTION outbox.is_text(value jsonb, longest integer, pattern text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN jsonb_typeof(value) IS NOT DISTINCT FROM 'string'
   AND length(value #>> '{}') <= longest AND value #>> '{}' ~ pattern;

CREATE FUNCTION outbox.is_text_or_null(value jsonb, longest integer, pattern text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN CASE outbox.type_of(value) WHEN 'null' THEN true
    WHEN 'string' THEN length(value #>> '{}') <= longest AND value #>> '{}' ~ pattern
    ELSE false END;

-- Ten years at most: longer ones are slips of the unit.
CREATE FUNCTION outbox.is_seconds_or_null(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE outbox.type_of(value) WHEN 'null' THEN true
    WHEN 'number' THEN CASE WHEN value #>> '{}' ~ '^[1-9][0-9]{0,8}$'
                            THEN (value #>> '{}')::integer <= 315360000 ELSE false END
    ELSE false END;

-- The pattern lets through real dates only, leap years included, as the cast would raise on others.
CREATE FUNCTION outbox.is_instant_or_null(value jsonb) RETURNS boolean LANGUAGE sql STABLE
RETURN CASE outbox.type_of(value) WHEN 'null' THEN true
    WHEN 'string' THEN CASE WHEN value #>> '{}' ~ (
        '^([12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)'
        '|02-(0[1-9]|1[0-9]|2[0-8]))'
        '|([12][0-9](0[48]|[2468][048]|[13579][26])|(1[26]|2[048])00)-02-29)'
        'T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$')
        THEN (value #>> '{}')::timestamptz >= '1970-01-01T00:00:00Z'
             AND (value #>> '{}')::timestamptz < '3000-01-01T00:00:00Z'
        ELSE false END
    ELSE false END;

-- Beyond these a worker could not read the stored JSON back.
CREATE FUNCTION outbox.is_params_or_null(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN CASE outbox.type_of(value) WHEN 'null' THEN true
    WHEN 'object' THEN NOT jsonb_path_exists(value, 'strict $.**{64}')
                   AND NOT jsonb_path_exists(value, 'strict $.** ? (@ > 1e308 || @ < -1e308)')
    ELSE false END;

-- Some key of an object; which one, when there are several, is of no matter. Cut, as it goes into a message.
CREATE FUNCTION outbox.any_key(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE
RETURN left(jsonb_path_query_first(value, '$.keyvalue().key') #>> '{}', 100);

-- What is wrong with a request, as field and reason, or null. Python's models judge alike, in the same order.
CREATE FUNCTION outbox.create_error(r jsonb) RETURNS text[] LANGUAGE sql STABLE
RETURN CASE
    WHEN NOT outbox.is_text(r->'workflow_name', 1000, '^[^\x01-\x1f\x7f]+$')
        THEN ARRAY['workflow_name', 'must be 1 to 1000 characters, none of them a control character']
    WHEN NOT outbox.is_text(r->'task_queue', 1000, '^[^\x01-\x1f\x7f]+$')
        THEN ARRAY['task_queue', 'must be 1 to 1000 characters, none of them a control character']
    WHEN NOT outbox.is_params_or_null(r->'workflow_params')
        THEN ARRAY['workflow_params', 'must be a JSON object, nested less than 64 deep, with numbers within 1e308']
    WHEN NOT outbox.is_text_or_null(r->'cron_expression', 1000, '.')
        THEN ARRAY['cron_expression', 'must be 1 to 1000 characters']
    WHEN NOT outbox.is_seconds_or_null(r->'interval_seconds')
        THEN ARRAY['interval_seconds', 'must be a whole number from 1 to 315360000']
    WHEN NOT outbox.is_seconds_or_null(r->'execution_timeout_seconds')
        THEN ARRAY['execution_timeout_seconds', 'must be a whole number from 1 to 315360000']
    WHEN NOT outbox.is_instant_or_null(r->'start_at')
        THEN ARRAY['start_at', 'must be a date and time of 1970 to 2999 with its offset, like 2026-03-01T09:00:00Z']
    WHEN NOT outbox.is_instant_or_null(r->'end_at')
        THEN ARRAY['end_at', 'must be a date and time of 1970 to 2999 with its offset, like 2026-03-01T09:00:00Z']
    WHEN jsonb_typeof(r->'paused') NOT IN ('boolean', 'null')
        THEN ARRAY['paused', 'must be true or false']
    WHEN NOT outbox.is_text_or_null(r->'timezone', 255, '.')
        THEN ARRAY['timezone', 'must be 1 to 255 characters']
    WHEN r->>'overlap_policy' NOT IN (
            'skip', 'buffer_one', 'buffer_all', 'cancel_other', 'terminate_other', 'allow_all')
        THEN ARRAY['overlap_policy',
            'must be skip, buffer_one, buffer_all, cancel_other, terminate_other or allow_all']
    END;

CREATE FUNCTION outbox.create_contradiction(r jsonb) RETURNS text[] LANGUAGE sql STABLE
RETURN CASE
    WHEN (r->>'cron_expression' IS NULL) = (r->>'interval_seconds' IS NULL)
        THEN ARRAY['cron_expression', 'must be given, or interval_seconds, and not both']
    WHEN (r->>'end_at')::timestamptz <= (r->>'start_at')::timestamptz
        THEN ARRAY['end_at', 'must be after start_at']
    END;

CREATE FUNCTION outbox.principal_error(p jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN CASE outbox.type_of(p) WHEN 'null' THEN NULL WHEN 'object' THEN CASE
    WHEN NOT outbox.is_text_or_null(p->'user_id', 1024, '^[a-zA-Z0-9/_|=+-]+$')
        THEN ARRAY['principal.user_id',
            'must be 1 to 1024 of a-z A-Z 0-9 / _ | - = + (SpiceDB takes no other id, such as an e-mail address)']
    WHEN NOT outbox.is_text_or_null(p->'service_account_id', 1024, '^[a-zA-Z0-9/_|=+-]+$')
        THEN ARRAY['principal.service_account_id',
            'must be 1 to 1024 of a-z A-Z 0-9 / _ | - = + (SpiceDB takes no other id, such as an e-mail address)']
    WHEN NOT outbox.is_text_or_null(p->'account_id', 1024, '^[a-zA-Z0-9/_|=+-]+$')
        THEN ARRAY['principal.account_id', 'must be 1 to 1024 of a-z A-Z 0-9 / _ | - = +']
    WHEN p - '{user_id,service_account_id,account_id}'::text[] <> '{}'
        THEN ARRAY['principal.' || outbox.any_key(p - '{user_id,service_account_id,account_id}'::text[]),
            'is not a known field']
    WHEN p->>'user_id' IS NOT NULL AND p->>'service_account_id' IS NOT NULL
        THEN ARRAY['principal', 'has user_id or service_account_id, not both']
    END
    ELSE ARRAY['principal', 'must be an object'] END;

CREATE FUNCTION outbox.envelope_error(r jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN NOT outbox.is_text_or_null(r->'idempotency_key', 255, '.')
        THEN ARRAY['idempotency_key', 'must be 1 to 255 characters']
    WHEN NOT outbox.is_text_or_null(r->'traceparent', 55, '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$')
        THEN ARRAY['traceparent', 'must be a W3C traceparent']
    WHEN NOT outbox.is_text_or_null(r->'tracestate', 512, '^[ -~]+$')
        THEN ARRAY['tracestate', 'must be a W3C tracestate, at most 512 characters']
    END;

CREATE FUNCTION outbox.unknown_fields(r jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN r - CASE coalesce(r->>'kind', 'create') WHEN 'create'
    THEN '{kind,agent_id,name,principal,idempotency_key,traceparent,tracestate,workflow_name,task_queue,
           workflow_params,cron_expression,interval_seconds,execution_timeout_seconds,start_at,end_at,paused,
           timezone,overlap_policy}'::text[]
    ELSE '{kind,agent_id,name,principal,idempotency_key,traceparent,tracestate}'::text[] END;

-- What is too large in any case, and not worth a further look: as jsonb nothing is five times as large as its text.
CREATE FUNCTION outbox.is_huge(r jsonb, max_bytes integer) RETURNS boolean LANGUAGE sql STABLE
RETURN pg_column_size(r) / 5 > max_bytes;

CREATE FUNCTION outbox.too_large(max_bytes integer) RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN ARRAY['request', 'must be at most ' || max_bytes || ' bytes as JSON'];

CREATE FUNCTION outbox.request_error(r jsonb, max_bytes integer) RETURNS text[] LANGUAGE sql STABLE
RETURN CASE
    WHEN jsonb_typeof(r) IS DISTINCT FROM 'object' THEN ARRAY['request', 'must be an object']
    WHEN outbox.is_huge(r, max_bytes) THEN outbox.too_large(max_bytes)
    WHEN r->>'kind' NOT IN ('create', 'delete') THEN ARRAY['kind', 'must be create or delete']
    WHEN NOT outbox.is_text(r->'agent_id', 128, '^[A-Za-z0-9_|/=+]+(-[A-Za-z0-9_|/=+]+)*$')
        THEN ARRAY['agent_id', 'must be 1 to 128 of A-Z a-z 0-9 _ - | / = +, without --, first and last not -']
    WHEN NOT outbox.is_text(r->'name', 64, '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')
        THEN ARRAY['name', 'must be 1 to 64 of a-z 0-9 -, first and last not -']
    ELSE coalesce(
        CASE WHEN r->>'kind' = 'delete' THEN NULL ELSE outbox.create_error(r) END,
        CASE WHEN outbox.unknown_fields(r) <> '{}'
             THEN ARRAY[outbox.any_key(outbox.unknown_fields(r)), 'is not a known field'] END,
        CASE WHEN r->>'kind' = 'delete' THEN NULL ELSE outbox.create_contradiction(r) END,
        outbox.principal_error(r->'principal'),
        outbox.envelope_error(r),
        CASE WHEN octet_length(r::text) > max_bytes THEN outbox.too_large(max_bytes) END)
    END;

-- Whether a request is plainly good: a create of the common shape, without a null, all its texts short and printable.
-- One jsonpath says so, at a fraction of the price of request_error, which judges what is not. As text it is larger
-- than as jsonb, by escapes and exponents, but not fifty times as large. (Of what is no text, like_regex says neither
-- yes nor no; whether a field is there is unknown where it is not.)
CREATE FUNCTION outbox.is_plain(r jsonb, max_bytes integer) RETURNS boolean LANGUAGE sql STABLE
RETURN CASE WHEN jsonb_typeof(r) = 'object' THEN
    pg_column_size(r) <= least(1000, max_bytes / 50)
    AND greatest(length(r->>'agent_id'), 2 * length(r->>'name'), length(r->>'timezone'),
                 length(r->>'idempotency_key')) <= 128
    AND coalesce(r->>'interval_seconds', '1') ~ '^[1-9][0-9]{0,7}$'
    AND r - '{kind,agent_id,name,principal,idempotency_key,traceparent,workflow_name,task_queue,workflow_params,
              cron_expression,interval_seconds,timezone}'::text[] = '{}'
    AND CASE jsonb_typeof(r->'principal') WHEN 'object' THEN (r->'principal') - '{user_id,account_id}'::text[] = '{}'
             ELSE NOT r ? 'principal' END
    AND r @@ $$ strict
        $.agent_id like_regex "^[A-Za-z0-9_|/=+]+(-[A-Za-z0-9_|/=+]+)*$"
        && $.name like_regex "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
        && $.workflow_name like_regex "^[ -~]+$" && $.task_queue like_regex "^[ -~]+$"
        && ($.kind == "create" || (exists($.kind)) is unknown)
        && ($.cron_expression like_regex "^[ -~]+$" && (exists($.interval_seconds)) is unknown
            || $.interval_seconds.type() == "number" && (exists($.cron_expression)) is unknown)
        && ($.timezone like_regex "^[ -~]+$" || (exists($.timezone)) is unknown)
        && ($.workflow_params.type() == "object" && !exists($.workflow_params.**{64})
            && !exists($.workflow_params.** ? (@ > 1e308 || @ < -1e308))
            || (exists($.workflow_params)) is unknown)
        && ($.principal.user_id like_regex "^[a-zA-Z0-9/_|=+-]+$" || (exists($.principal.user_id)) is unknown)
        && ($.principal.account_id like_regex "^[a-zA-Z0-9/_|=+-]+$" || (exists($.principal.account_id)) is unknown)
        && ($.idempotency_key like_regex "^[ -~]+$" || (exists($.idempotency_key)) is unknown)
        && ($.traceparent like_regex "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
            || (exists($.traceparent)) is unknown)$$
    END;

-- A request that is not plain, without its nulls: null and absent are one, so that a repeated request compares equal.
-- Below the workflow's parameters a null is the caller's own.
CREATE FUNCTION outbox.without_nulls(r jsonb) RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_strip_nulls(r - 'workflow_params')
    || CASE WHEN r->>'workflow_params' IS NULL THEN '{}'
            ELSE jsonb_build_object('workflow_params', r->'workflow_params') END;

-- The same, or what is wrong with it, raised: ordinal is its place in the caller's array.
CREATE FUNCTION outbox.judged(r jsonb, max_bytes integer, ordinal integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    error text[] := outbox.request_error(r, max_bytes);
BEGIN
    IF error IS NOT NULL THEN
        RAISE EXCEPTION '%: %', error[1], error[2]
            USING ERRCODE = 'OB001', COLUMN = error[1], DETAIL = ordinal;
    END IF;
    RETURN outbox.without_nulls(r);
END $$;
