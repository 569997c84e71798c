"""The pure decisions: the flow as a table, what a step is, what came of it, and what becomes of it."""
