"""Played time: what it shows, and that a wrong variable is told."""

import time

import pytest

from hailtime import clock
from hailtime.errors import ConfigError


def test_a_played_clock_goes_faster_from_where_it_was_set(monkeypatch):
    monkeypatch.setenv(clock.VARIABLE, str(clock.Played(1_775_462_400.0, 3600.0, time.time())))
    first = clock.now()
    began = time.monotonic()
    clock.sleep(180.0)
    took_s = time.monotonic() - began
    assert 1_775_462_399 <= first < 1_775_462_400 + 3600
    assert took_s >= 0.05
    assert clock.now() - first >= 180.0
    assert clock.speed() == 3600.0


def test_without_the_variable_it_is_the_real_time(monkeypatch):
    monkeypatch.delenv(clock.VARIABLE, raising=False)
    assert abs(clock.now() - time.time()) < 1.0
    assert clock.speed() == 1.0


@pytest.mark.parametrize("said", ["noon", "1775462400", "1@0 since 1", "1@-5 since 1"])
def test_a_wrong_variable_says_its_form(said, monkeypatch):
    monkeypatch.setenv(clock.VARIABLE, said)
    with pytest.raises(ConfigError, match=r"must read like .* unset it"):
        clock.now()
