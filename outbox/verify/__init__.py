"""The invariants, and what judges them: whole ledgers at rest, and live ones page by page."""
