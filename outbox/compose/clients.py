"""The stores' clients, as the settings describe them."""

import importlib
from typing import Any

from consumers.authz.client import AuthzClient
from consumers.temporal.client import TemporalClient
from outbox.settings import Settings


def authz_client(settings: Settings) -> AuthzClient:
    """A client for SpiceDB as the settings say; connects with its first call.

    Raises:
        ValueError: the token is missing.
    """
    if settings.spicedb_token is None:
        raise ValueError("OUTBOX_SPICEDB_TOKEN is not set: SpiceDB's preshared key")
    return AuthzClient.connect(
        settings.spicedb_endpoint,
        settings.spicedb_token.get_secret_value(),
        tls=settings.spicedb_tls,
        ca_path=settings.spicedb_tls_ca,
    )


async def temporal_client(settings: Settings) -> TemporalClient:
    """A client for Temporal as the settings say; connects with its first call."""
    key = settings.temporal_api_key
    converter = settings.temporal_data_converter
    return await TemporalClient.connect(
        settings.temporal_address,
        settings.temporal_namespace,
        api_key=key.get_secret_value() if key else None,
        tls_cert=settings.temporal_tls_cert,
        tls_key=settings.temporal_tls_key,
        tls_ca=settings.temporal_tls_ca,
        data_converter=_attribute(converter) if converter else None,
    )


def _attribute(path: str) -> Any:
    """Import ``module:attribute``.

    Raises:
        ValueError: there is no such module or attribute.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"OUTBOX_TEMPORAL_DATA_CONVERTER {path} can't be imported: {error}") from error
