"""Who may see the console, and who may act.

Without a token and an identity header there is nobody to tell apart: then it is for this machine alone, and
whoever works on it may act.
"""

import getpass
import hashlib
import hmac
import ipaddress
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import orjson
from starlette.requests import HTTPConnection, Request

from outbox.settings import Settings

COOKIE = "outbox_console"
SESSION_SECONDS = 12 * 3600
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    """Read; no payload of a request."""
    OPERATOR = "operator"
    """Read all, and act."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may see the console, by the name under which their actions are written down."""

    name: str
    role: Role

    @property
    def may_act(self) -> bool:
        """Whether they may change anything."""
        return self.role is Role.OPERATOR


class Access:
    """Tells who a request comes from."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = {
            role: token.get_secret_value().encode()
            for role, token in (
                (Role.OPERATOR, settings.console_token),
                (Role.VIEWER, settings.console_viewer_token),
            )
            if token is not None
        }
        self._header = settings.console_identity_header
        self._proxies = [ipaddress.ip_network(one) for one in _parts(settings.console_proxies)]
        self._operators = frozenset(_parts(settings.console_operators))

    @property
    def is_open(self) -> bool:
        """Whether it can't tell anybody apart."""
        return not self._tokens and self._header is None

    @property
    def takes_tokens(self) -> bool:
        """Whether a person can log in by a token."""
        return bool(self._tokens)

    def require_guarded(self, host: str) -> None:
        """Refuse to listen where others can reach it and nobody is told apart.

        Raises:
            ValueError: so it would be.
        """
        if self.is_open and not is_own(host):
            raise ValueError(
                f"the console listens on {host} only with OUTBOX_CONSOLE_TOKEN or "
                "OUTBOX_CONSOLE_IDENTITY_HEADER set: anybody who reaches it could act"
            )

    def visitor(self, connection: HTTPConnection) -> Visitor | None:
        """Who it is; None: nobody who may see anything."""
        if self.is_open:
            # Another site's name may be led to this machine's address.
            ours = connection.url.hostname in _OWN_NAMES
            return Visitor(getpass.getuser(), Role.OPERATOR) if ours else None
        return self._by_header(connection) or self._by_bearer(connection) or self._by_cookie(connection)

    def log_in(self, token: str, name: str) -> str | None:
        """The cookie for somebody who shows a token; None: it is none of ours."""
        role = self._role_of(token)
        if role is None:
            return None
        session = {"role": role, "name": name.strip()[:80] or role, "until": time.time() + SESSION_SECONDS}
        body = urlsafe_b64encode(orjson.dumps(session))
        return f"{body.decode()}.{self._signature(role, body)}"

    def is_secure(self, connection: HTTPConnection) -> bool:
        """Whether the browser speaks TLS, to us or to a proxy that we believe."""
        if connection.url.scheme in {"https", "wss"}:
            return True
        return self._comes_from_a_proxy(connection) and (
            connection.headers.get("x-forwarded-proto") == "https"
        )

    def _role_of(self, token: str) -> Role | None:
        shown = token.encode()
        found = [role for role, ours in self._tokens.items() if hmac.compare_digest(shown, ours)]
        return found[0] if found else None

    def _by_header(self, connection: HTTPConnection) -> Visitor | None:
        if self._header is None or not self._comes_from_a_proxy(connection):
            return None
        names = connection.headers.getlist(self._header)
        if len(names) != 1 or not names[0].strip():
            return None
        name = names[0].strip()[:200]
        acts = name in self._operators or "*" in self._operators
        return Visitor(name, Role.OPERATOR if acts else Role.VIEWER)

    def _by_bearer(self, connection: HTTPConnection) -> Visitor | None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        role = self._role_of(token.strip()) if scheme.lower() == "bearer" else None
        return None if role is None else Visitor(f"{role} (token)", role)

    def _by_cookie(self, connection: HTTPConnection) -> Visitor | None:
        body, _, signature = connection.cookies.get(COOKIE, "").partition(".")
        for role in self._tokens:
            if hmac.compare_digest(signature.encode(), self._signature(role, body.encode()).encode()):
                session = orjson.loads(urlsafe_b64decode(body))
                if session["until"] > time.time():
                    return Visitor(session["name"], role)
        return None

    def _signature(self, role: Role, body: bytes) -> str:
        # A token that is changed ends the sessions that it began.
        key = hashlib.sha256(b"outbox console session\0" + role.encode() + b"\0" + self._tokens[role])
        return hmac.new(key.digest(), body, "sha256").hexdigest()

    def _comes_from_a_proxy(self, connection: HTTPConnection) -> bool:
        try:
            peer = ipaddress.ip_address(connection.client.host if connection.client else "")
        except ValueError:
            return False
        return any(peer in network for network in self._proxies)


def is_own(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_forged(request: Request) -> bool:
    """Whether another site may have sent this with the visitor's own credentials.

    Browsers say where a request comes from; a form can't show a token in a header, nor be JSON.
    """
    if request.method in _SAFE or "authorization" in request.headers:
        return False
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = request.headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] != request.headers.get("host")
    return request.headers.get("content-type", "").partition(";")[0].strip() != "application/json"


def _parts(text: str) -> Iterator[str]:
    return filter(None, map(str.strip, text.split(",")))
