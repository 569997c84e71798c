-- The logins of this service and of its workers, with the least that each needs. Run it as the database's owner, after
-- `outbox migrate --grant` and the service's own migration, and give them passwords of your own.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'schedules_service') THEN
        -- It enqueues, and reads what became of an intent whose id it knows.
        CREATE ROLE schedules_service LOGIN PASSWORD 'service' IN ROLE outbox_producer;
        -- It claims and settles, and sees nothing of the service's.
        CREATE ROLE schedules_worker LOGIN PASSWORD 'worker' IN ROLE outbox_worker;
    END IF;
END $$;

GRANT SELECT, INSERT ON requests TO schedules_service;
