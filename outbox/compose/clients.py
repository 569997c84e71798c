"""The stores' clients, as the settings describe them."""

import importlib
import ssl
from pathlib import Path
from typing import Any

from consumers.authz.client import AuthzClient
from consumers.temporal.client import TemporalClient
from outbox.settings import Settings


def authz_client(settings: Settings) -> AuthzClient:
    """A client for SpiceDB as the settings say; connects with its first call.

    Raises:
        ValueError: the token is missing, or the file of authorities is no such.
    """
    if settings.spicedb_token is None:
        raise ValueError("OUTBOX_SPICEDB_TOKEN is not set: SpiceDB's preshared key")
    _check_authorities("OUTBOX_SPICEDB_TLS_CA", settings.spicedb_tls_ca)
    return AuthzClient.connect(
        settings.spicedb_endpoint,
        settings.spicedb_token.get_secret_value(),
        tls=settings.spicedb_tls,
        ca_path=settings.spicedb_tls_ca,
    )


async def temporal_client(settings: Settings) -> TemporalClient:
    """A client for Temporal as the settings say; connects with its first call.

    Raises:
        ValueError: a file is not what its setting asks for, or there is no such data converter.
    """
    _check_authorities("OUTBOX_TEMPORAL_TLS_CA", settings.temporal_tls_ca)
    _check_pair("OUTBOX_TEMPORAL_TLS", settings.temporal_tls_cert, settings.temporal_tls_key)
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


def _check_authorities(setting: str, path: Path | None) -> None:
    """See that a file holds certificates: where it doesn't, the clients' libraries name no setting.

    Raises:
        ValueError: it does not.
    """
    if path is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:
            raise ValueError(f"{setting} {path} holds no certificates: {_reason(error)}") from error


def _check_pair(settings: str, certificate: Path | None, key: Path | None) -> None:
    """See that a certificate and its key can be read, are not encrypted, and belong together.

    Raises:
        ValueError: they are not so.
    """
    if certificate is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
        except OSError as error:
            raise ValueError(
                f"{settings}_CERT {certificate} and {settings}_KEY {key} are no certificate and its key "
                f"without a passphrase: {_reason(error)}"
            ) from error


def _reason(error: OSError) -> str:
    named = error.reason.replace("_", " ").lower() if isinstance(error, ssl.SSLError) and error.reason else ""
    return named or error.strerror or str(error)


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
