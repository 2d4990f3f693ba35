"""The key that lets one load models: made once, kept from others, found by deployers."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from hailtime.errors import ServerError
from hailtime.serving.access import KEY_VARIABLE, key_file, make_key, read_key


def test_key_is_made_once_and_read_by_its_owner_only(tmp_path):
    key = make_key(tmp_path / "models", ServerError)
    assert (len(key), make_key(tmp_path / "models", ServerError)) == (64, key)
    assert read_key(tmp_path / "models", ServerError) == key
    assert stat.S_IMODE((tmp_path / ".models.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".models.key"]


def test_servers_that_start_together_have_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: make_key(tmp_path / "models", ServerError), range(16)))
    assert len(keys) == 1


def test_key_that_others_may_read_is_refused(tmp_path):
    make_key(tmp_path / "models", ServerError)
    key_file(tmp_path / "models").chmod(0o640)
    with pytest.raises(ServerError, match=r"owner only, .*\.models\.key is not: chmod 600"):
        read_key(tmp_path / "models", ServerError)


def test_environment_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "from the environment")
    assert make_key(tmp_path / "models", ServerError) == "from the environment"
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_hold_a_key_is_named(tmp_path):
    with pytest.raises(ServerError, match=f"must be kept in .*; or set {KEY_VARIABLE}"):
        make_key(tmp_path / "nowhere/models", ServerError)


def test_no_key_is_no_error(tmp_path):
    assert read_key(tmp_path / "models", ServerError) is None
