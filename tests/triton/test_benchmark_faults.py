"""One fault through the whole benchmark, on real servers: what it counts is what happened."""

import pytest
from benchmarks.faults import FAULTS, judged
from benchmarks.world import World, make_models

pytestmark = pytest.mark.triton


def test_killed_server_of_two_is_counted_by_path_and_nothing_is_lost(installation, small_run, tmp_path):
    models = make_models(small_run.folder, tmp_path / "models")
    with World(tmp_path / "world", models, per_s=100.0, deadline_s=1.0) as world:  # this test is not about time
        FAULTS["kill -9 of one of two"](world)
        said = judged(world, deadline_s=1.0)
    assert said["sent"] == said["answered"] == said["server"] + said["other"] > 200
    assert said["other"] > said["server"] > 0
    assert (said["wrong"], said["lost"], said["unlogged"]) == (0, 0, 0)
