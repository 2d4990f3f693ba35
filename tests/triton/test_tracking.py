"""MLflow's aliases follow what is really live: deployed, tried as a canary and rolled back by the commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_run import write_tiny_run

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.triton, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


def test_champion_and_challenger_follow_the_rollout(serve, tmp_path):
    from mlflow.tracking import MlflowClient

    models, uri = tmp_path / "models", f"sqlite:///{tmp_path / 'mlflow.db'}"
    server = serve(models)
    first, second = (write_tiny_run(tmp_path / name, base_s=base_s) for name, base_s in (("a", 100), ("b", 200)))
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT / "src")}

    def after(verb, *words):
        script = [sys.executable, ROOT / "scripts" / f"{verb}.py", *words]
        done = subprocess.run(
            [*script, "--repository", models, "--url", server.url], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "not tracked" not in done.stderr
        client = MlflowClient(uri, uri)
        named = client.get_registered_model("pickup_eta").aliases
        return {
            alias: int(client.get_model_version("pickup_eta", version).tags["hailtime.version"])
            for alias, version in named.items()
        }

    assert after("deploy", first) == {"champion": 1}
    assert after("deploy", second, "--canary", "20", "--allow-worse") == {"champion": 1, "challenger": 2}
    assert after("deploy", "--abort") == {"champion": 1}
    assert after("deploy", second, "--allow-worse") == {"champion": 3}
    assert after("rollback") == {"champion": 1}
