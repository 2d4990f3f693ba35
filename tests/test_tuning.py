"""What is tried, how arrivals are measured, which setting is taken. On a real Triton: tests/triton/test_tuning.py."""

import heapq
import statistics
from dataclasses import replace

import numpy as np
import pytest

from hailtime.plots import latency_against_load
from hailtime.serving.settings import Settings
from hailtime.serving.tuning import (
    HEADROOM,
    Measured,
    arrivals,
    best_effort,
    choose,
    measured,
    shapes,
    shortlist,
    typical,
    with_batching,
)
from hailtime.serving.tuning_load import SETTLE_S, TIMEOUT_S, OpenLoop

ONE, TWO, THREADS = Settings(), Settings(instances=2), Settings(threads=2)
WAITS = replace(ONE, max_queue_delay_us=500)


def trial(settings, p99_ms, rps=100.0, n_answered=300):
    return Measured(settings, rps, 1, 300, n_answered, p99_ms / 4, p99_ms / 2, p99_ms, p99_ms * 2, 0.1)


def finals(settings, *p99_ms, more_ms=None):
    """Trials of a finalist at the rate, and one with a quarter more load."""
    more = trial(settings, p99_ms[0] if more_ms is None else more_ms, 100 * HEADROOM)
    return [*(trial(settings, ms) for ms in p99_ms), more]


# --- arrivals ---------------------------------------------------------------------------------------------------------


def test_arrivals_are_poisson():
    """Gaps of a Poisson process are exponential: mean and standard deviation are both 1 / rate."""
    due_s = arrivals(rps=1000, seconds=60, seed=3)
    gaps_s = np.diff(due_s)
    assert len(due_s) == pytest.approx(60_000, abs=4 * 60_000**0.5)
    assert statistics.mean(gaps_s) == pytest.approx(1e-3, rel=0.02)
    assert statistics.stdev(gaps_s) == pytest.approx(1e-3, rel=0.02)
    assert (np.diff(due_s) >= 0).all()
    assert due_s[-1] < 60


def test_the_same_seed_gives_the_same_trace_and_another_another():
    first, again, other = (arrivals(500, 2, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:100], other[:100])


# --- the open loop, in a time of its own ------------------------------------------------------------------------------


class Server:
    """Takes `work_s` for a request, one after the other, and stands still from `stops_s` on for `for_s`."""

    def __init__(self, work_s, stops_s=np.inf, for_s=0.0, blocks=False):
        self.now, self.work_s, self.stops_s, self.for_s, self.blocks = 0.0, work_s, stops_s, for_s, blocks
        self.free_at, self.coming = 0.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        until = self.now + seconds
        while self.coming and self.coming[0][0] <= until:
            self.now, _, done, answered = heapq.heappop(self.coming)
            done(answered)
        self.now = until

    def send(self, place, done, answered=True):
        start = max(self.now, self.free_at)
        if self.stops_s <= start - SETTLE_S < self.stops_s + self.for_s:
            start = SETTLE_S + self.stops_s + self.for_s
        self.free_at = start + self.work_s
        heapq.heappush(self.coming, (self.free_at, place, done, answered))
        if self.blocks:
            self.sleep(self.free_at - self.now)


def run(server, due_s, max_waiting=10**6, send=None):
    return OpenLoop(np.array(due_s), server.clock, server.sleep).run(send or server.send, max_waiting)


def test_an_idle_server_takes_what_it_takes():
    latency_s, late_s = run(Server(work_s=0.002), np.arange(100) * 0.01)
    assert latency_s == pytest.approx(np.full(100, 0.002))
    assert late_s == pytest.approx(np.zeros(100))


@pytest.mark.parametrize("blocks", [False, True], ids=["calls that wait elsewhere", "calls that hold the sender"])
def test_a_server_that_stands_still_is_seen_by_all_who_came_meanwhile(blocks):
    """For 1 s, 100 requests came in: the first waits 1 s, the one halfway 0.5 s. A closed loop sees one slow answer."""
    latency_s, _ = run(Server(work_s=0.0, stops_s=1.0, for_s=1.0, blocks=blocks), np.arange(300) * 0.01)
    assert np.sum(latency_s > 0.4) == pytest.approx(60, abs=1)
    assert latency_s[100] == pytest.approx(1.0, abs=0.02)
    assert latency_s[150] == pytest.approx(0.5, abs=0.02)


def test_queueing_is_what_the_formula_says():
    """One server, Poisson arrivals, constant work: mean wait is ρ / (2 (1 - ρ)) of the work (Pollaczek-Khinchine)."""
    latency_s, _ = run(Server(work_s=0.001), arrivals(rps=600, seconds=200, seed=5))
    assert latency_s.mean() == pytest.approx(0.001 * (1 + 0.6 / (2 * 0.4)), rel=0.03)


def test_a_server_that_falls_behind_is_given_up():
    latency_s, late_s = run(Server(work_s=0.1), arrivals(rps=100, seconds=20, seed=1), max_waiting=50)
    assert len(late_s) < 100
    assert len(latency_s) < len(late_s)  # those still waiting when time was up


def test_what_was_not_answered_has_no_latency():
    server = Server(work_s=0.001)
    latency_s, _ = run(server, np.arange(10) * 0.01, send=lambda i, done: server.send(i, done, answered=i % 2 == 0))
    assert len(latency_s) == 5


def test_who_never_answers_is_not_waited_for_for_ever():
    server = Server(work_s=0.0)
    latency_s, _ = run(server, [0.0, 0.1], send=lambda place, done: None)
    assert len(latency_s) == 0
    assert server.now < 0.1 + SETTLE_S + TIMEOUT_S + 1.1


def test_percentiles_are_those_of_sorted_latencies():
    """Of 1001 values the 99th percentile is the 991st, of which 990 are smaller."""
    latency_s = np.random.default_rng(2).permutation(np.arange(1001) / 1000)
    found = measured(ONE, 100, 1, latency_s, latency_s / 2, 1001)
    assert (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms) == (500, 950, 990, 1000)
    assert found.late_p99_ms == 495


def test_nothing_answered_is_no_figure_and_meets_nothing():
    found = measured(ONE, 100, 1, np.array([]), np.array([0.0]), 10)
    assert not found.meets(1e9)
    assert found.to_dict()["p99_ms"] is None


# --- what is tried, and what is taken ---------------------------------------------------------------------------------


def test_shapes_are_what_the_cores_hold():
    assert shapes(1, WAITS) == [ONE]
    assert shapes(2, ONE) == [ONE, TWO, THREADS]
    assert all(s.cores <= 6 for s in shapes(6, ONE))
    assert [s.instances for s in shapes(16, Settings("gpu", tf32=True))] == [1, 2, 4]
    assert all(s.tf32 for s in shapes(16, Settings("gpu", tf32=True)))


def test_no_batching_is_tried_that_waits_longer_than_half_the_goal():
    assert {s.max_queue_delay_us for s in with_batching(ONE, p99_ms=5)} == {500, 1000, 2000}
    assert {s.max_queue_delay_us for s in with_batching(ONE, p99_ms=2)} == {500, 1000}
    assert with_batching(ONE, p99_ms=0.5) == []


def test_shortlist_has_the_fastest_and_the_cheapest():
    trials = [trial(TWO, 2), trial(THREADS, 3), trial(ONE, 4), trial(WAITS, 9)]
    assert shortlist(trials, 5, 2) == [TWO, ONE]
    assert shortlist(trials, 1, 3) == [TWO, THREADS, ONE]  # none meets it


@pytest.mark.parametrize(
    ("trials", "taken"),
    [
        pytest.param([*finals(ONE, 4), *finals(TWO, 2)], ONE, id="fewer cores before speed"),
        pytest.param([*finals(ONE, 6), *finals(TWO, 2)], TWO, id="the goal before fewer cores"),
        pytest.param([*finals(ONE, 4, more_ms=8), *finals(TWO, 2)], TWO, id="headroom before fewer cores"),
        pytest.param([*finals(ONE, 4, more_ms=8), *finals(TWO, 2, more_ms=9)], ONE, id="nobody has headroom"),
        pytest.param([*finals(WAITS, 3.9), *finals(ONE, 4)], ONE, id="as fast: who does not make wait"),
        pytest.param([*finals(WAITS, 2), *finals(ONE, 4)], WAITS, id="waiting pays"),
        pytest.param([*finals(THREADS, 2), *finals(TWO, 2)], TWO, id="as fast: instances before threads"),
        pytest.param([*finals(ONE, 4, 90, 3)], ONE, id="one busy moment"),
        pytest.param([*finals(ONE, 4, 90, 80)], None, id="two of three miss"),
        pytest.param([*finals(ONE, 9), *finals(TWO, 8)], None, id="nobody"),
        pytest.param([trial(ONE, 1, n_answered=299), trial(ONE, 1, 125.0)], None, id="one not answered"),
    ],
)
def test_choice(trials, taken):
    assert choose(trials, p99_ms=5, rps=100) == taken


def test_the_best_that_misses_answers_the_most_then_the_fastest():
    assert best_effort([*finals(ONE, 9), *finals(TWO, 8)], 100) == TWO
    assert best_effort([*finals(ONE, 9), trial(TWO, 1, n_answered=200), trial(TWO, 1, 125.0)], 100) == ONE


def test_typical_is_the_middle_trial_at_the_rate():
    assert typical(finals(ONE, 9, 1, 3, more_ms=0.5), ONE, 100).p99_ms == 3


def test_curves_are_drawn(tmp_path):
    points = [(100.0, 1.0, 2.0), (200.0, 1.5, 9.0)]
    latency_against_load({str(ONE): points, str(TWO): points}, 5, 100, tmp_path / "plots/load.png")
    assert (tmp_path / "plots/load.png").read_bytes().startswith(b"\x89PNG")
