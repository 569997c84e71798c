"""Schedules of agents over HTTP."""
