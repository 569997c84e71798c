"""What a process shows of itself and of the outbox: metrics and health. Needs the extra ``telemetry``."""
