-- What the functions that were made anew had used, once those of the version before are back.
DROP FUNCTION outbox.contradiction(jsonb, boolean), outbox.field_error(jsonb, boolean);
DROP FUNCTION outbox.is_null(jsonb, text), outbox.is_retry_policy_or_null(jsonb);
DROP FUNCTION outbox.is_attributes_or_null(jsonb), outbox.is_memo_or_null(jsonb), outbox.is_args_or_null(jsonb);
ALTER TABLE outbox.events DROP COLUMN superseded_by;
ALTER TABLE outbox.queue DROP COLUMN alone;
ALTER TABLE outbox.lanes DROP COLUMN definition, DROP COLUMN revision;
