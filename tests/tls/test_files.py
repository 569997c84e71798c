"""Files that hold no certificates, and settings that don't go together: told at once, by their names."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from outbox.compose.clients import authz_client, temporal_client
from outbox.settings import Settings
from tests.tls.credentials import Authority


@pytest.fixture(params=["missing", "empty", "garbage", "folder"])
def no_certificate(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "file.pem"
    match request.param:
        case "empty":
            path.touch()
        case "garbage":
            path.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
        case "folder":
            path.mkdir()
    return path


async def test_a_file_of_authorities_that_is_none(no_certificate: Path) -> None:
    given = Settings.model_validate({"spicedb_token": "t", "spicedb_tls_ca": no_certificate})
    with pytest.raises(ValueError, match=f"^OUTBOX_SPICEDB_TLS_CA {no_certificate} holds no certificates: "):
        authz_client(given)
    given = Settings.model_validate({"temporal_tls_ca": no_certificate})
    with pytest.raises(ValueError, match=f"^OUTBOX_TEMPORAL_TLS_CA {no_certificate} holds no certificates: "):
        await temporal_client(given)


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("1.pem", "2.key", "key values mismatch"),
        ("1.key", "1.pem", ""),
        ("none.pem", "1.key", "No such file"),
    ],
    ids=["of another", "swapped", "missing"],
)
async def test_a_certificate_and_a_key_that_do_not_go_together(
    tmp_path: Path, certificate: str, key: str, reason: str
) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    authority.issue()
    pair = {"temporal_tls_cert": tmp_path / certificate, "temporal_tls_key": tmp_path / key}
    with pytest.raises(ValueError, match=f"OUTBOX_TEMPORAL_TLS_CERT .* OUTBOX_TEMPORAL_TLS_KEY .*{reason}"):
        await temporal_client(Settings.model_validate(pair))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"spicedb_tls": False, "spicedb_tls_ca": "ca.pem"}, "OUTBOX_SPICEDB_TLS is off"),
        ({"temporal_tls_cert": "c.pem"}, "OUTBOX_TEMPORAL_TLS_CERT and _KEY are set together"),
        ({"temporal_tls_key": "c.key"}, "OUTBOX_TEMPORAL_TLS_CERT and _KEY are set together"),
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Settings.model_validate(given)
