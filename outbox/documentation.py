"""Where the documentation says more of what went wrong. The one place that knows the site's address.

``docs/errors.md`` has a section for each name and code, ``docs/commands.md`` one for each command, and
``docs/verify.md`` one for each invariant. A section keeps its title: versions that are in use lead to it.
"""

from enum import StrEnum

SITE = "https://agent-schedule-outbox.readthedocs.io/en/stable/"
"""What ``make site`` builds, of the newest release."""
SETTINGS = f"{SITE}docs/settings.html"


class Problem(StrEnum):
    """What keeps a command from its work: a section of ``docs/errors.md`` each."""

    BAD_SETTING = "a-setting-is-wrong"
    MISSING_PACKAGE = "a-package-is-missing"
    REFUSED_REQUEST = "a-request-is-refused"
    USED_KEY = "an-idempotency-key-is-used"
    POSTGRES_AWAY = "postgres-cant-be-reached"
    NO_OUTBOX = "the-database-has-no-outbox"
    NO_RIGHT = "the-role-may-not-do-this"
    READ_ONLY = "postgres-is-read-only"
    ROLE_SETTINGS = "a-setting-of-the-role-is-in-the-way"
    POSTGRES_REFUSED = "postgres-refused"
    STORE_AWAY = "a-store-cant-be-reached"
    STORE_UNUSABLE = "a-store-cant-be-used-as-it-is"
    NO_STACK = "the-embedded-stack-does-not-start"
    STILL_PENDING = "the-outcome-takes-longer"
    OTHER = "anything-else"


def of_problem(problem: Problem) -> str:
    """The section on what keeps a command from its work."""
    return f"{SITE}docs/errors.html#{problem}"


def of_code(code: str) -> str:
    """The section on an error code that an intent carries."""
    return f"{SITE}docs/errors.html#{code}"


def of_command(name: str) -> str:
    """The section on a command."""
    return f"{SITE}docs/commands.html#outbox-{name}"


def of_invariant(name: str) -> str:
    """The section on an invariant that does not hold."""
    return f"{SITE}docs/verify.html#{name}"
