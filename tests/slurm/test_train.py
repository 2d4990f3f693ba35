"""scripts/slurm/train.sbatch on a real Slurm: two tasks, asked to go in the middle, requeued, ended as undisturbed."""

import sys
import time

import pytest

from hailtime.training.run_folder import FINISHED, RESUME
from hailtime.training.train import train
from tests.conftest import small_config
from tests.test_ranks import QUIET, ROOT, history


def test_a_job_of_two_tasks_that_is_preempted_goes_on_to_the_same_figures(slurm, tmp_path):
    data, alone = tmp_path / "city", tmp_path / "alone"
    train(small_config(data, *QUIET), alone)
    options = ["--ntasks-per-node=2", "--cpus-per-task=1", f"--chdir={ROOT}", f"--output={tmp_path / 'log'}"]
    settings = ["experiment=smoke", f"prepared={data}", f"hydra.run.dir={tmp_path}/runs/${{run_name}}", *QUIET]
    slurm.environment |= {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "src")}
    job = slurm.ask("sbatch", "--parsable", *options, ROOT / "scripts" / "slurm" / "train.sbatch", *settings)
    folder = tmp_path / "runs" / f"slurm_{job}"

    def told():
        log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
        return log + slurm.ask("scontrol", "show", "job")

    slurm.wait_until((folder / RESUME).exists, 60, told)
    slurm.ask("scancel", "--signal=USR1", job)  # as --signal=USR1@120 does before the time limit

    def is_finished():
        # A requeued job waits two minutes, in which its node cleans up: started at once, it fails at once.
        if "JobState=PENDING" in slurm.ask("scontrol", "show", "job", job):
            time.sleep(8)
            slurm.try_to("scontrol", "update", f"JobId={job}", "StartTime=now")
            time.sleep(4)  # each update makes the scheduler begin anew
        return (folder / FINISHED).exists()

    slurm.wait_until(is_finished, 240, told)  # also where Slurm does not take the shorter wait
    assert "preempted, back into the queue" in told()
    assert told().count("go on training") == 1
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", job)
    for name, expected in history(alone).to_dict(as_series=False).items():
        assert history(folder)[name].to_list() == pytest.approx(expected, rel=1e-5), name
