"""kill -9 at every change that publishing and an offline rollback make: what was live stays, and the next one mends."""

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import PIPE, Popen

import pytest

from hailtime.serving.config_file import read_served
from hailtime.serving.history import read_history
from hailtime.serving.releases import is_settled, standings
from hailtime.serving.repository import check_version, is_intact, publish
from hailtime.serving.rollback import rollback
from hailtime.serving.switch import settle
from tests.killing import Killer
from tests.test_deploy_history import three_releases
from tests.tiny_run import write_tiny_run

IMPORTS = "from hailtime.serving.repository import publish; from hailtime.serving.rollback import rollback"


@pytest.fixture(scope="module")
def killer():
    with Killer(IMPORTS) as killer:
        yield killer


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models/pickup_eta").mkdir(parents=True)
    three_releases(tmp_path / "models", tmp_path)
    return tmp_path / "models"


def copies(models):
    """Fresh copies of the repository, with a number that counts from 1."""
    for n in range(1, 100):
        copy = models.parent / f"copy{n}"
        shutil.copytree(models, copy)
        yield n, copy


@pytest.mark.slow
def test_killed_publisher_leaves_a_whole_version_or_none(killer, models, tmp_path):
    run = write_tiny_run(tmp_path / "next")
    for n, copy in copies(models):
        if not killer.kill_at(n, copy, f"publish(Path({str(run)!r}), Path({str(copy)!r}))"):
            break
        assert read_served(copy).rollout.stable == 3
        for folder in (copy / "pickup_eta").glob("[0-9]*"):
            check_version(folder)
        version = publish(run, copy)
        assert version in (4, 5)
        check_version(copy / f"pickup_eta/{version}")
    assert n > 8  # a lock, a folder, five files and a rename at least


def test_killed_rollback_leaves_one_of_two_plans_and_a_history_that_tells_it(killer, models):
    seen = set()
    for n, copy in copies(models):
        if not killer.kill_at(n, copy, f"rollback(Path({str(copy)!r}), offline=True)"):
            break
        served = read_served(copy)
        seen.add(served.rollout.stable)
        assert all(is_intact(copy, version) for version in served.versions)
        assert standings(copy)[3 - served.rollout.stable].state == "stable"
        settle(copy)
        assert is_settled(copy)
        assert read_history(copy)[-1].plan.stable == served.rollout.stable
        assert rollback(copy, offline=True).stable == served.rollout.stable - 1
    assert seen == {2, 3}
    assert n > 5


@pytest.mark.slow
def test_publishers_in_processes_of_their_own_get_versions_of_their_own(models, tmp_path):
    run = write_tiny_run(tmp_path / "next")
    code = "import sys; from pathlib import Path; from hailtime.serving.repository import publish; "
    code += "print(*[publish(Path(sys.argv[1]), Path(sys.argv[2])) for _ in range(4)])"
    command = [sys.executable, "-c", code, run, models]
    processes = [Popen(command, stdout=PIPE, text=True) for _ in range(3)]
    given = [int(version) for process in processes for version in process.communicate()[0].split()]
    assert sorted(given) == list(range(4, 16))
    assert all(is_intact(models, version) for version in given)


def test_rollbacks_at_the_same_time_each_go_one_back(models):
    with ThreadPoolExecutor(2) as pool:
        plans = list(pool.map(lambda _: rollback(models, offline=True), range(2)))
    assert sorted(plan.stable for plan in plans) == [1, 2]


def test_lock_of_a_killed_deployer_holds_nobody_up(killer, models):
    start = time.monotonic()
    assert killer.kill_at(2, models, f"rollback(Path({str(models)!r}), offline=True)")
    rollback(models, offline=True)
    assert time.monotonic() - start < 30


def test_disk_that_takes_no_more_is_an_error_and_changes_nothing(killer, models, tmp_path):
    """Files end at 300 bytes, as they do on a full disk: less than a config or a model."""
    run = write_tiny_run(tmp_path / "next")
    code = f"""
import resource, pytest
from hailtime.errors import DeployError
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
for change in (lambda: rollback(models, offline=True), lambda: publish(Path({str(run)!r}), models)):
    with pytest.raises(DeployError, match="cannot be written: .*File too large"):
        change()
"""
    assert not killer.kill_at(1000, models, f"models = Path({str(models)!r})\n{code}")
    assert read_served(models).rollout.stable == 3
    assert rollback(models, offline=True).stable == 2
    assert publish(run, models) == 4
