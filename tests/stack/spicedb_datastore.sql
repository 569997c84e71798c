-- What `spicedb migrate head` of SpiceDB 1.54 makes of an empty Postgres database: the engine's library has no
-- such command. From its migrations (Apache License 2.0, github.com/authzed/spicedb,
-- internal/datastore/postgres/migrations), put together as they end.

CREATE TABLE alembic_version (version_num VARCHAR NOT NULL);
INSERT INTO alembic_version (version_num) VALUES ('populate-schema-tables');

CREATE TABLE metadata (unique_id VARCHAR PRIMARY KEY);
INSERT INTO metadata (unique_id) VALUES (gen_random_uuid()::text);

CREATE TABLE relation_tuple_transaction (
    timestamp TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    snapshot pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    metadata JSONB NOT NULL DEFAULT '{}',
    CONSTRAINT pk_rttx PRIMARY KEY (xid)
);
CREATE INDEX ix_relation_tuple_transaction_by_timestamp ON relation_tuple_transaction (timestamp);
CREATE INDEX ix_relation_tuple_transaction_xid_desc_timestamp ON relation_tuple_transaction (xid DESC, timestamp);
INSERT INTO relation_tuple_transaction (timestamp) VALUES (to_timestamp(0));

CREATE TABLE namespace_config (
    namespace VARCHAR NOT NULL,
    serialized_config BYTEA NOT NULL,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
    CONSTRAINT pk_namespace_config PRIMARY KEY (namespace, created_xid, deleted_xid),
    CONSTRAINT uq_namespace_living_xid UNIQUE (namespace, deleted_xid)
);

CREATE TABLE relation_tuple (
    namespace VARCHAR NOT NULL,
    object_id VARCHAR NOT NULL,
    relation VARCHAR NOT NULL,
    userset_namespace VARCHAR NOT NULL,
    userset_object_id VARCHAR NOT NULL,
    userset_relation VARCHAR NOT NULL,
    caveat_name VARCHAR,
    caveat_context JSONB,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
    expiration TIMESTAMPTZ,
    CONSTRAINT pk_relation_tuple PRIMARY KEY (
        namespace, object_id, relation, userset_namespace, userset_object_id, userset_relation, created_xid,
        deleted_xid
    ),
    CONSTRAINT uq_relation_tuple_living_xid UNIQUE (
        namespace, object_id, relation, userset_namespace, userset_object_id, userset_relation, deleted_xid
    )
);
CREATE INDEX ix_relation_tuple_by_subject
    ON relation_tuple (userset_object_id, userset_namespace, userset_relation, namespace, relation);
CREATE INDEX ix_relation_tuple_by_subject_relation
    ON relation_tuple (userset_namespace, userset_relation, namespace, relation);
CREATE INDEX ix_relation_tuple_alive_by_resource_rel_subject_covering
    ON relation_tuple (namespace, relation, userset_namespace)
    INCLUDE (userset_object_id, userset_relation, caveat_name, caveat_context)
    WHERE deleted_xid = '9223372036854775807'::xid8;
CREATE INDEX ix_gc_index ON relation_tuple (deleted_xid DESC) WHERE deleted_xid < '9223372036854775807'::xid8;
CREATE INDEX ix_watch_api_index ON relation_tuple (created_xid);
CREATE INDEX ix_relation_tuple_expired ON relation_tuple (expiration) WHERE expiration IS NOT NULL;

CREATE TABLE caveat (
    name VARCHAR NOT NULL,
    definition BYTEA NOT NULL,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
    CONSTRAINT pk_caveat_v2 PRIMARY KEY (name, deleted_xid),
    CONSTRAINT uq_caveat_v2 UNIQUE (name, created_xid, deleted_xid)
);

CREATE TABLE relationship_counter (
    name VARCHAR NOT NULL,
    serialized_filter BYTEA NOT NULL,
    current_count BIGINT NOT NULL DEFAULT 0,
    updated_revision_snapshot pg_snapshot,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
    CONSTRAINT pk_relationship_counter PRIMARY KEY (name),
    CONSTRAINT uq_relationship_counter_living UNIQUE (name, deleted_xid)
);

CREATE TABLE schema (
    name VARCHAR NOT NULL,
    chunk_index INT NOT NULL,
    chunk_data BYTEA NOT NULL,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
    CONSTRAINT pk_schema PRIMARY KEY (name, chunk_index, created_xid)
);
CREATE INDEX ix_schema_gc ON schema (deleted_xid DESC) WHERE deleted_xid < '9223372036854775807'::xid8;

CREATE TABLE schema_revision (
    name VARCHAR NOT NULL DEFAULT 'current',
    hash BYTEA NOT NULL,
    created_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    deleted_xid xid8 NOT NULL DEFAULT '9223372036854775807',
    CONSTRAINT pk_schema_revision PRIMARY KEY (name, created_xid)
);
CREATE INDEX ix_schema_revision_gc ON schema_revision (deleted_xid DESC)
    WHERE deleted_xid < '9223372036854775807'::xid8;
