"""What the monitor's health check calls unwell: silence while there is something to look at, and no answer."""

import subprocess
import sys

import pytest

from hailtime.monitoring.health import SILENT_S, judge

LOOKED = "# HELP hailtime_monitor_looked_at_seconds When\nhailtime_monitor_looked_at_seconds 1000.0\n"
UP, DOWN = "hailtime_monitor_log_up 1.0\n", "hailtime_monitor_log_up 0.0\n"


@pytest.mark.parametrize(
    ("metrics", "now_s", "is_well"),
    [
        (LOOKED + UP, 1000.0 + SILENT_S, True),
        (LOOKED + UP, 1001.0 + SILENT_S, False),
        (LOOKED + DOWN, 9999.0, True),  # the page says that the log cannot be read: a restart would not mend it
        (UP, 9999.0, True),  # nothing to look at yet
    ],
    ids=["lately", "silent", "the log is down", "nothing yet"],
)
def test_silence_is_unwell_unless_the_page_says_why(metrics, now_s, is_well):
    assert (judge(metrics, now_s) == "") is is_well


def test_a_page_that_does_not_answer_is_told_by_the_status():
    command = [sys.executable, "-m", "hailtime.monitoring.health", "http://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.partition(":")[0]) == (1, "the page at http")
