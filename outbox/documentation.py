"""Where the documentation's site is."""

SITE = "https://agent-schedule-outbox.readthedocs.io/en/stable/"
"""What ``make site`` builds, of the newest release."""
