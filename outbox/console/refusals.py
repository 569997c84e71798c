"""Why a request is not answered with what it asks for; each becomes a status of its own."""

from outbox.errors import OutboxError


class NotFound(OutboxError):  # noqa: N818 - named for the answer
    """There is no such thing."""


class NotAllowed(OutboxError):  # noqa: N818 - named for the answer
    """The visitor may read, but not do this."""


class NobodyKnown(OutboxError):  # noqa: N818 - named for the answer
    """Whoever asks has shown nothing that says who it is."""


class StandsOtherwise(OutboxError):  # noqa: N818 - named for the answer
    """What is to be changed is not any more as the visitor saw it."""
