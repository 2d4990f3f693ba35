"""A machine that is not ours alone: a container's limit counts, and threads that wait sleep soon."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hailtime.cores import limits, usable_cores

V1_GROUP = Path("/sys/fs/cgroup/cpu/hailtime_test")


def grouped(tmp_path, membership, files):
    """A tree of control groups as the kernel shows it; its limits."""
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return limits(tmp_path / "membership", tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, [2.5]),  # a container, version 2
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/pods/one\n", {"pods/cpu.max": "400000 100000\n", "pods/one/cpu.max": "150000 100000\n"}, [1.5, 4.0]),
        (
            "5:memory:/pods/one\n4:cpu,cpuacct:/pods/one\n0::/\n",  # a container, version 1: the path is the host's
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            [3.0],
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("0::/\n", {}, []),
    ],
)
def test_limits_of_control_groups_are_found(tmp_path, membership, files, expected):
    assert grouped(tmp_path, membership, files) == expected


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path):
    assert limits(tmp_path / "none", tmp_path) == []


@pytest.mark.parametrize(("limit", "cores"), [(0.25, 1), (1.0, 1), (1.9, 1), (1000.0, len(os.sched_getaffinity(0)))])
def test_whole_cores_at_least_one_and_no_more_than_there_are(monkeypatch, limit, cores):
    monkeypatch.setattr("hailtime.cores.limits", lambda: [limit])
    assert usable_cores() == cores


@pytest.mark.skipif(
    not os.access(V1_GROUP.parent, os.W_OK) or (os.cpu_count() or 1) < 2,
    reason="needs root, control groups of version 1 and two cores",
)
def test_in_a_group_of_one_core_openmp_is_told_to_use_one():
    V1_GROUP.mkdir()
    try:
        (V1_GROUP / "cpu.cfs_quota_us").write_text("100000")
        code = (
            f"open('{V1_GROUP}/tasks', 'w').write(str(__import__('os').getpid()))\n"
            "import os, hailtime; print(os.environ['OMP_NUM_THREADS'])"
        )
        env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"
    finally:
        V1_GROUP.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, "7"])
def test_openmp_is_told_before_torch_loads_it_and_a_setting_of_ones_own_stays(own):
    code = """
import importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, Watch())
import hailtime.training.train
"""
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    env |= {"GOMP_SPINCOUNT": own} if own else {}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{own or 3000}\n"
