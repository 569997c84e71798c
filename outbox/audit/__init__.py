"""The audit: whether ledger, SpiceDB and Temporal agree."""
