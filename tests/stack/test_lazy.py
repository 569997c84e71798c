"""The tests' own stack: what is not asked for is not started."""

from pathlib import Path

from tests.stack.lazy import LazyStack


def test_a_server_starts_when_it_is_first_asked_where_it_is(tmp_path: Path) -> None:
    with LazyStack(tmp_path / "home") as stack:
        assert repr(stack.info)
        assert stack.status() == set()
        address = stack.info.temporal_address
        assert stack.status() == {"temporal"}
        assert stack.info.spicedb_token
        assert stack.status() == {"temporal", "spicedb"}
        environment = stack.info.environment()
        assert stack.status() == {"temporal", "spicedb", "postgres"}
        # Nobody's server has moved.
        assert environment["OUTBOX_TEMPORAL_ADDRESS"] == address
        info = stack.whole.info()
        assert info
        assert info.environment() == environment
    assert stack.status() == set()
