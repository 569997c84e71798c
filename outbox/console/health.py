"""How the components are and what is set: what ``outbox doctor`` and ``outbox settings`` say."""

from typing import Any

from outbox.compose.doctor import examine, shown
from outbox.console.shared import Shared
from outbox.settings import Settings, listed

Shown = dict[str, Any]

_FRESH_SECONDS = 10.0


class Health:
    """Looks at the components at most every few seconds, however many ask: other servers answer for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shared = Shared(_FRESH_SECONDS)

    async def components(self) -> list[Shown]:
        """What each check has found."""
        return [shown(finding) for finding in await self._shared.get("doctor", self._examine)]

    def settings(self) -> list[Shown]:
        """Each setting; secrets are masked."""
        return listed(self._settings)

    async def _examine(self) -> Any:
        return await examine(self._settings)
