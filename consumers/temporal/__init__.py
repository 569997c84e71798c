"""Temporal's side: the effects on schedules, and all that knows Temporal's client."""
