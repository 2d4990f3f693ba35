"""What compose.yaml gives Prometheus and Alertmanager, judged by their own tools."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.prometheus
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "config", "--syntax-only", "prometheus.yml"],
        ["promtool", "check", "rules", "alert_rules.yml"],
        ["amtool", "check-config", "alertmanager.yml"],
    ],
    ids=["Prometheus", "its rules", "Alertmanager"],
)
def test_their_own_tools_accept_the_files(command, tmp_path):
    if shutil.which(command[0]) is None:
        assert os.environ.get("HAILTIME_REQUIRE_PROMETHEUS") != "1", f"there is no {command[0]}"
        pytest.skip(f"needs {command[0]} (Debian: apt install prometheus prometheus-alertmanager)")
    for file in ("compose/prometheus.yml", "compose/alertmanager.yml", "alert_rules.yml"):
        shutil.copy(DEPLOY / file, tmp_path)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
