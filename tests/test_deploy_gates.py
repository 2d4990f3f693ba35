"""Every gate refuses what it is there for, by figures worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from hailtime.errors import DeployError
from hailtime.schema import Column
from hailtime.serving.gates import LIMITS, error_gate, latency_gate, parity_gate, require, schema_gate, size_gate
from hailtime.serving.model_file import read_run
from tests.tiny_run import TINY_SCHEMA, write_tiny_run


def quantiles(*median_s):
    return np.array(median_s, np.float32)[:, None] * [0.5, 1, 2]


class Clock:
    """Seconds that pass only while a call of ours takes them."""

    now = 0.0

    def __call__(self):
        return self.now

    def taking(self, *times_ms):
        """A call that takes these times in turn, the last for ever."""
        left = list(times_ms)

        def ask():
            self.now += (left.pop(0) if len(left) > 1 else left[0]) / 1000

        return ask


@pytest.mark.parametrize(("difference_s", "passed"), [(0.04, True), (0.06, False), (np.nan, False)])
def test_parity_is_a_twentieth_of_a_second(difference_s, passed):
    told = quantiles(100, 200)
    answers = told.copy()
    answers[1, 2] += difference_s
    assert parity_gate(answers, told, LIMITS).passed is passed


def test_error_gate_compares_the_medians_on_the_same_trips():
    actual_s = np.array([100.0, 200.0, 300.0])
    result = error_gate(quantiles(110, 190, 310), quantiles(120, 200, 300), actual_s, LIMITS)
    assert result.value == pytest.approx(10)
    assert result.limit == pytest.approx(20 / 3 * 1.01)
    assert not result.passed
    # candidate - live: -10, 10, 10; their standard deviation 9.43 over the root of 3 trips is 5.44
    assert "10.00 s, the live version's 6.67 s (difference ± 5.44 s)" in result.text


@pytest.mark.parametrize(("off_s", "passed"), [(9.0, True), (10.05, True), (10.2, False)], ids=str)
def test_candidate_may_be_one_percent_worse(off_s, passed):
    actual_s = np.array([100.0, 200.0])
    candidate_s, live_s = quantiles(100 + off_s, 200 + off_s), quantiles(110, 210)
    assert error_gate(candidate_s, live_s, actual_s, LIMITS).passed is passed


def test_error_of_nan_is_refused():
    assert not error_gate(quantiles(np.nan), quantiles(110), np.array([100.0]), LIMITS).passed


@pytest.mark.parametrize(("candidate_ms", "passed"), [(1.69, True), (1.71, False)])
def test_latency_is_held_against_the_live_version(candidate_ms, passed):
    clock = Clock()
    result = latency_gate(clock.taking(candidate_ms), clock.taking(1.0), LIMITS, clock)
    assert (result.passed, result.limit) == (passed, 1.7)  # 1.5 x 1.0 + 0.2


def test_slow_moment_refuses_nobody():
    """Slow for the whole first measurement, 21 blocks of 10 calls, and fast in the second."""
    clock = Clock()
    assert latency_gate(clock.taking(*[4.0] * 210, 1.0), clock.taking(1.0), LIMITS, clock).passed


def test_a_few_slow_calls_do_not_count():
    clock = Clock()
    first_ms = [1.0] * 10 + [90.0, *[1.0] * 9] * 20  # one of ten in every block
    result = latency_gate(clock.taking(*first_ms), clock.taking(1.0), LIMITS, clock)
    assert (result.passed, result.value) == (True, 1.0)


def test_first_version_has_an_absolute_limit():
    clock = Clock()
    assert latency_gate(clock.taking(49), None, LIMITS, clock).passed
    assert not latency_gate(clock.taking(51), None, LIMITS, clock).passed


def test_slow_live_version_does_not_lift_the_absolute_limit():
    clock = Clock()
    assert not latency_gate(clock.taking(55), clock.taking(54), LIMITS, clock).passed


def test_new_column_is_refused_with_the_difference_and_the_way_out():
    more = Column("wind_mps", "numeric", "m/s")
    less = [column for column in TINY_SCHEMA.columns if column.name != "product"]
    wider = replace(less[2], maximum=60_000.0)
    schema = replace(TINY_SCHEMA, columns=(*less[:2], wider, *less[3:], more))
    text = schema_gate(schema, TINY_SCHEMA).text
    assert "new: wind_mps; gone: product; changed: distance_m" in text
    assert "a repository and a server of their own" in text


def test_description_is_no_new_schema():
    columns = (replace(TINY_SCHEMA.columns[0], description="of the app"), *TINY_SCHEMA.columns[1:])
    assert schema_gate(replace(TINY_SCHEMA, columns=columns), TINY_SCHEMA).passed


def test_too_large_a_model_is_refused_before_it_is_read(tmp_path):
    run = write_tiny_run(tmp_path / "run")
    n_bytes = (run / "model.onnx").stat().st_size
    with pytest.raises(DeployError, match=rf"may have 100 bytes, it has {n_bytes:,}"):
        read_run(run, replace(LIMITS, model_bytes=100))
    assert size_gate(n_bytes, replace(LIMITS, model_bytes=n_bytes)).passed


def test_probe_that_unpacks_to_much_is_refused(tmp_path):
    run = write_tiny_run(tmp_path / "run")
    np.savez_compressed(run / "probe.npz", numeric=np.zeros((4_000_000, 3), np.float32))
    assert (run / "probe.npz").stat().st_size < 100_000
    with pytest.raises(DeployError, match=r"may hold 10,000,000 bytes, it holds 48,000"):
        read_run(run)


def test_gate_that_is_not_passed_is_an_error():
    with pytest.raises(DeployError, match="may have"):
        require(size_gate(2, replace(LIMITS, model_bytes=1)))
