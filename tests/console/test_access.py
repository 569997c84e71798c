"""Who sees what, and who may not: at the door of the console."""

import time
from typing import Any

import httpx
import pytest

from outbox.console.access import Access, is_own
from outbox.settings import Settings
from tests.console.conftest import EVIL, Consoles, enqueue, schedule

TOKEN, VIEWER = "an operator's token", "a viewer's own token"
TOKENS = {"console_token": TOKEN, "console_viewer_token": VIEWER}
PAGES = ("/", "/intents", "/schedules/a--b", "/find?text=x")
API = ("/api/v1/overview", "/api/v1/intents", "/api/v1/schedules/a--b")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def log_in(client: httpx.AsyncClient, token: str, name: str = "Ada") -> httpx.Response:
    form = {"token": token, "name": name}
    return await client.post("/login", data=form, headers={"origin": str(client.base_url).rstrip("/")})


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")],
)
def test_only_this_machines_own_addresses_need_no_guard(host: str, own: bool) -> None:
    assert is_own(host) is own
    Access(Settings.model_validate(TOKENS)).require_guarded(host)
    if own:
        Access(Settings()).require_guarded(host)
    else:
        with pytest.raises(ValueError, match="OUTBOX_CONSOLE_TOKEN"):
            Access(Settings()).require_guarded(host)


async def test_nobody_is_shown_anything_without_a_token(consoles: Consoles) -> None:
    client = await consoles.open(**TOKENS)
    for path in API:
        for headers in ({}, bearer("no token of ours"), {"authorization": f"Basic {TOKEN}"}):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for path in PAGES:
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert (await client.get("/api/v1/overview", headers=bearer(VIEWER))).status_code == 200


async def test_a_token_logs_a_person_in(consoles: Consoles) -> None:
    client = await consoles.open(**TOKENS)
    assert (await log_in(client, "no token of ours")).status_code == 401
    answer = await log_in(client, TOKEN, name="Ada <i>")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in answer.headers["set-cookie"]
    page = await client.get("/")
    assert "Ada &lt;i&gt;" in page.text
    assert "operator" in page.text
    assert TOKEN not in page.text
    await client.post("/logout", headers={"sec-fetch-site": "same-origin"})
    client.cookies.clear()
    assert (await client.get("/")).status_code == 303


async def test_a_cookie_goes_over_tls_alone_where_the_visitor_comes_by_tls(consoles: Consoles) -> None:
    for base, headers, secure in (
        ("http://127.0.0.1:8484", {}, False),
        ("https://console.example.org", {}, True),
        ("http://127.0.0.1:8484", {"x-forwarded-proto": "https"}, True),
    ):
        client = await consoles.open(base=base, **TOKENS)
        client.headers.update(headers)
        assert ("secure" in (await log_in(client, TOKEN)).headers["set-cookie"].lower()) is secure


async def test_a_session_ends_and_can_not_be_forged(
    consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await consoles.open(**TOKENS)
    await log_in(client, VIEWER)
    (name, value), *_ = client.cookies.items()
    body, _, signature = value.partition(".")
    of_other_tokens = await consoles.open(console_token="another operator's token")
    for cookie in (body, f"{body}x.{signature}", f"{body}.{signature[:-1]}", ".", "é", f"{body}.é"):
        answer = await of_other_tokens.get(
            "/api/v1/overview", headers=[(b"cookie", f"{name}={cookie}".encode())]
        )
        assert answer.status_code == 401
        client.cookies.clear()
        answer = await client.get("/api/v1/overview", headers=[(b"cookie", f"{name}={cookie}".encode())])
        assert answer.status_code == 401
    headers = {"cookie": f"{name}={value}"}
    assert (await client.get("/api/v1/overview", headers=headers)).status_code == 200
    assert (await of_other_tokens.get("/api/v1/overview", headers=headers)).status_code == 401
    later = time.time() + 13 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert (await client.get("/api/v1/overview", headers=headers)).status_code == 401


async def test_an_identity_header_is_believed_from_the_proxy_alone(consoles: Consoles) -> None:
    settings = {"console_identity_header": "X-Forwarded-User", "console_proxies": "10.1.0.0/16, ::1"}
    for peer, status in (("10.1.2.3", 200), ("::1", 200), ("10.2.0.1", 401), ("127.0.0.1", 401)):
        client = await consoles.open(peer=peer, console_operators="ada, bob", **settings)
        answer = await client.get("/api/v1/overview", headers={"x-forwarded-user": "ada"})
        assert answer.status_code == status
    client = await consoles.open(peer="10.1.2.3", console_operators="ada, bob", **settings)
    for name, role in (("ada", "operator"), ("eve", "viewer"), ("Ada", "viewer")):
        page = await client.get("/", headers={"x-forwarded-user": name})
        assert f"{name}</bdi> <small>{role}" in page.text
    twice = [("x-forwarded-user", "ada"), ("x-forwarded-user", "eve")]
    for headers in ([], [("x-forwarded-user", " ")], twice):
        assert (await client.get("/", headers=headers)).status_code == 401


async def test_where_nobody_is_told_apart_another_sites_name_leads_nowhere(consoles: Consoles) -> None:
    client = await consoles.open()
    assert (await client.get("/api/v1/overview")).status_code == 200
    for host in ("evil.example.org:8484", "127.0.0.1.evil.example.org"):
        assert (await client.get("/api/v1/overview", headers={"host": host})).status_code == 401


async def test_what_another_site_may_have_sent_is_refused(consoles: Consoles) -> None:
    client = await consoles.open(**TOKENS)
    form = {"token": TOKEN, "name": "Ada"}
    for headers in (
        {},
        {"origin": "https://evil.example.org"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": str(client.base_url).rstrip("/")},
    ):
        assert (await client.post("/login", data=form, headers=headers)).status_code == 403
    assert (
        await client.post("/login", data=form, headers={"sec-fetch-site": "same-origin"})
    ).status_code == 303


async def test_payloads_are_for_operators_and_can_be_switched_off(consoles: Consoles, ledger: str) -> None:
    (intent,) = await enqueue(ledger, schedule("payloads", "p", workflow_params={"secret": EVIL}))
    path = f"/intents/{intent.id}"
    for payloads, token, seen in ((True, TOKEN, True), (True, VIEWER, False), (False, TOKEN, False)):
        client = await consoles.open(console_payloads=payloads, **TOKENS)
        found = (await client.get(f"/api/v1{path}", headers=bearer(token))).json()
        assert ("request" in found) is seen
        assert ("secret" in (await client.get(path, headers=bearer(token))).text) is seen


@pytest.mark.parametrize(
    "path", ["/", "/login", "/nowhere", "/static/console.js", "/api/v1/overview", "/intents/%00"]
)
async def test_every_answer_keeps_a_browser_from_running_what_is_not_ours(
    client: httpx.AsyncClient, path: str
) -> None:
    headers = (await client.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"


async def test_no_page_holds_a_script_or_a_style_of_its_own(client: httpx.AsyncClient) -> None:
    for path in (*PAGES, "/login"):
        page = (await client.get(path)).text.lower()
        for forbidden in ("<script>", " onclick", " style=", "<style", "javascript:", "http://", "https://"):
            assert forbidden not in page


def test_what_guards_the_console_is_checked() -> None:
    wrong: list[dict[str, Any]] = [
        {"console_token": "short"},
        {"console_proxies": "10.0.0.0/99"},
        {"console_identity_header": "not a header"},
        {"console_tls_cert": "cert.pem"},
    ]
    for settings in wrong:
        with pytest.raises(ValueError, match="console"):
            Settings.model_validate(settings)
