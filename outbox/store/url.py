"""Reads a Postgres URL as libpq does: every spelling of it means the same to all that we connect with."""

import re
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_EXAMPLE = "postgresql://user:password@host/database"
_TLS = re.compile(r"(?i)\bssl\b|certificate|private key|no encryption")
_TLS_PARAMETERS = "sslmode, sslrootcert, sslcert and sslkey"


def parameters(url: str, name: str = "OUTBOX_DATABASE_URL") -> dict[str, str]:
    """Take a URL apart into libpq's connection parameters.

    Args:
        url: ``postgresql://`` or ``postgres://``, also with SQLAlchemy's ``+driver``. It may name several
            hosts in libpq's way (``h1:5432,h2:5433``) or SQLAlchemy's (``?host=h1:5432&host=h2:5433``).
        name: what the URL is called where it came from.

    Raises:
        ValueError: it is no Postgres URL; the message does not repeat it, as it may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"{name} is not a URL: {_EXAMPLE}")
    backend = scheme.partition("+")[0]
    if backend not in {"postgresql", "postgres"}:
        raise ValueError(f"{name} names {backend}; it must be postgresql://…")
    try:
        found = conninfo_to_dict(f"postgresql://{rest}")
    except psycopg.ProgrammingError:
        # The reason that it gives repeats the URL.
        raise ValueError(f"{name} is not a URL that libpq takes: {_EXAMPLE}?<libpq's parameters>") from None
    read = {key: str(value) for key, value in found.items()} | _listed_hosts(rest)
    if "@" in read.get("host", ""):
        raise ValueError(f"{name}: write an @ in the user's name or password as %40")
    return read


def conninfo(url: str, name: str = "OUTBOX_DATABASE_URL") -> str:
    """The same as one string, for psycopg."""
    return make_conninfo("", **parameters(url, name))


def _listed_hosts(rest: str) -> dict[str, str]:
    """SQLAlchemy's way to name several hosts, of which libpq would take the last one, port and all."""
    hosts = parse_qs(urlsplit(f"//{rest}").query).get("host", [])
    if not any(":" in host for host in hosts):
        return {"host": ",".join(hosts)} if hosts else {}
    named = [host.rpartition(":") if ":" in host else (host, "", "") for host in hosts]
    return {"host": ",".join(one[0] for one in named), "port": ",".join(one[2] for one in named)}


def to_mend(reason: str) -> str:
    """Name what to look at, where Postgres can't be reached for this reason."""
    about_tls = _TLS.search(reason) is not None
    return f"{_TLS_PARAMETERS} in OUTBOX_DATABASE_URL" if about_tls else "OUTBOX_DATABASE_URL"
