"""Training beside other work: threads that wait must sleep soon."""

import os
import subprocess
import sys

import pytest


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
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | ({"GOMP_SPINCOUNT": own} if own else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{own or 3000}\n"
