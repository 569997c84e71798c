"""Which extra brings what: a process that lacks a module names what to install.

It may be all that can be imported, so it imports nothing.
"""

_BROUGHT_BY = {
    "cli": ("alembic", "orjson", "pydantic_settings", "rich", "sqlalchemy", "structlog", "typer"),
    "worker": ("authzed", "google", "grpc", "temporalio"),
    "kafka": ("kafka",),
    "telemetry": ("opentelemetry", "prometheus_client", "starlette", "uvicorn"),
    "console": ("jinja2", "markupsafe"),
    "mcp": ("mcp",),
    "embedded": ("psutil", "spicedb_embedded"),
    "testing": ("pytest",),
}
"""The modules that this package imports, by the extra that is there for them."""


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'agent-schedule-outbox[{extra}]'"


def lacking(error: ModuleNotFoundError) -> str | None:
    """What is missing and how to get it, in a line; None: no extra brings it, so this is something else."""
    top = (error.name or "").partition(".")[0]
    extra = next((name for name, modules in _BROUGHT_BY.items() if top in modules), None)
    return None if extra is None else f"this needs {top}, of the extra `{extra}`: {install(extra)}"
