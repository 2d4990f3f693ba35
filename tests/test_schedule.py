"""What schedulers run: each file is read by what would read it, calls the one command, and knows its exit statuses."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from croniter import croniter

from hailtime.retraining.retrain import BUSY, EXIT

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "schedule"
COMMAND = "cd /opt/hailtime && .venv/bin/python scripts/retrain.py"
EVERYDAY = {EXIT["refused"], BUSY}
CRON = next(
    line for line in (FOLDER / "hailtime-retrain.cron").read_text().splitlines() if re.match(r"[\d*]", line)
).split(maxsplit=6)
SERVICE = (FOLDER / "hailtime-retrain.service").read_text()
JOB = yaml.safe_load((FOLDER / "cronjob.yaml").read_text())
POD = JOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.fixture
def installed(tmp_path):
    """A folder as /opt/hailtime: the project, this Python as its own, an empty repository."""
    home = tmp_path / "hailtime"
    (home / ".venv/bin").mkdir(parents=True)
    (home / "runs").mkdir()
    for name in ("scripts", "configs", "src"):
        (home / name).symlink_to(ROOT / name)
    (home / ".venv/bin/python").write_text(f'#!/bin/sh\nPYTHONPATH={home}/src exec {sys.executable} "$@"\n')
    (home / ".venv/bin/python").chmod(0o755)
    return home


def test_cron_reads_the_line_and_runs_it_once_an_hour():
    *minute_to_day, user, command = CRON
    turns = croniter(" ".join(minute_to_day), datetime(2026, 3, 1, 22, 30, tzinfo=UTC))
    assert [turns.get_next(datetime).strftime("%d %H:%M") for _ in range(3)] == ["01 23:07", "02 00:07", "02 01:07"]
    assert user == "hailtime"
    assert command.startswith(COMMAND)
    assert "%" not in command  # cron's line break


@pytest.mark.slow
def test_the_line_runs_and_its_words_are_in_the_log(installed):
    command = CRON[6].replace("/opt/hailtime", shlex.quote(str(installed)))
    done = subprocess.run(["/bin/sh", "-c", command], env={"PATH": os.environ["PATH"], "HOME": str(installed)})
    assert done.returncode == 2
    assert "nothing is live in model_repository" in (installed / "runs/retrain.log").read_text()


def test_systemd_takes_service_and_timer(installed, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    service = SERVICE.replace("/opt/hailtime/", f"{installed}/").replace("=/opt/hailtime", f"={installed}")
    service = service.replace("User=hailtime", f"User={os.getuid()}")
    (tmp_path / "hailtime-retrain.service").write_text(service)
    shutil.copy(FOLDER / "hailtime-retrain.timer", tmp_path)
    units = [tmp_path / f"hailtime-retrain.{kind}" for kind in ("service", "timer")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "hailtime-retrain" in line] == []
    assert done.returncode == 0
    when = re.search(r"OnCalendar=(.*)", units[1].read_text())[1]
    base = ["systemd-analyze", "calendar", "--base-time=2026-03-01 22:30:00 UTC", "--iterations=2", when]
    told = subprocess.run(base, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"(\d\d:\d\d):00 UTC", told)[:2] == ["23:07", "00:07"]


def test_systemd_counts_everyday_ends_as_success_and_calls_people_for_the_others():
    statuses = {name: {int(n) for n in value.split()} for name, value in re.findall(r"(\w+ExitStatus)=(.*)", SERVICE)}
    assert statuses["SuccessExitStatus"] == EVERYDAY
    assert statuses["RestartPreventExitStatus"] == {2, EXIT["rolled_back"]}
    assert "ExecStart=/opt/hailtime/.venv/bin/python scripts/retrain.py\n" in SERVICE
    assert "WorkingDirectory=/opt/hailtime\n" in SERVICE


@pytest.mark.parametrize("version", ["1.31", "1.33", "1.37"])
def test_kubernetes_takes_the_cron_job(version):
    kubernetes_validate.validate(JOB, version, strict=True)
    assert croniter.is_valid(JOB["spec"]["schedule"])
    assert JOB["spec"]["concurrencyPolicy"] == "Forbid"


def test_kubernetes_repeats_only_what_goes_on_where_it_stopped():
    spec = JOB["spec"]["jobTemplate"]["spec"]
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, EXIT["rolled_back"], BUSY]
    assert POD["restartPolicy"] == "Never"  # a pod failure policy needs it
    named = {volume["name"] for volume in POD["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == named


@pytest.mark.parametrize(("status", "ended"), [(0, 0), (10, 0), (11, 11), (75, 75), (2, 2), (1, 1)])
def test_the_container_is_done_after_a_refusal_and_passes_other_statuses_on(status, ended, tmp_path):
    (tmp_path / "python").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\nexit {status}\n')
    (tmp_path / "python").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([*CONTAINER["command"], *CONTAINER["args"]], env=environment)
    assert done.returncode == ended
    assert (tmp_path / "words").read_text().split() == ["scripts/retrain.py", *CONTAINER["args"]]


def test_the_container_only_changes_settings_that_there_are(tmp_path):
    from hailtime.retraining.settings import RetrainSettings

    settings = RetrainSettings.read(ROOT / "configs" / "retrain.yaml", CONTAINER["args"])
    assert (settings.repository, settings.store, settings.gates.scratch) == ("/models", None, False)


def test_airflow_calls_the_same_command_and_skips_everyday_ends():
    """Read as text; with a real Airflow it was run by hand (docs/retraining.md)."""
    tree = ast.parse((FOLDER / "airflow_dag.py").read_text())
    calls = {
        node.func.id: node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    dag, task = ({word.arg: word.value for word in calls[name].keywords} for name in ("DAG", "BashOperator"))
    assert croniter.is_valid(ast.literal_eval(dag["schedule"]))
    assert (ast.literal_eval(dag["max_active_runs"]), ast.literal_eval(dag["catchup"])) == (1, False)
    assert set(ast.literal_eval(task["skip_on_exit_code"])) == EVERYDAY
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)}
    assert values[task["bash_command"].id] == COMMAND
