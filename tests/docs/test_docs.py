"""Every command and code block of the documentation is typed as it stands, page by page, in a fresh checkout.

make test-docs
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from hailtime.sources.simulated_city import load
from tests.docs.pages import NEEDS_A_VERSION, SERVERS, Reader, Step, is_open, steps_of

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"docs/protocol.md", "docs/security.md"}  # tests/triton/test_protocol.py and test_security.py run them

# What is not typed, by how the command begins, and why.
LEFT_OUT = {
    "source .venv/bin/activate": "the environment of the tests is active",
    "make ": "the README's two commands are what CI calls; the others are made of commands that are typed here",
    "python train.py source=nyc_ems": "real calls, minutes of training: tests/test_nyc_ems.py, tests/test_resume.py",
    "python scripts/prepare.py engine=spark": "needs a cluster: tests/spark has one",
    "python scripts/tune.py": "minutes a trial: tests/test_tuning.py",
    "python scripts/compare.py": "an hour: tests/test_comparison.py",
    "python scripts/tune_serving.py": "three quiet minutes: tests/triton/test_tuning.py",
    "python train.py trainer=gpu": "needs eight GPUs: tests/gpu, tests/test_ranks.py",
    "torchrun": "needs GPUs: tests/test_ranks.py does it with gloo",
    "sbatch": "needs a cluster: tests/slurm has one",
    "python scripts/deploy.py --abort": "the other end of a trial: tests/triton/test_deploy_rollouts.py",
    "python scripts/rollback.py --offline": "the server must be down: tests/test_deploy_killed.py",
    "python scripts/publish.py s3://": "needs a bucket: tests/test_deploy_remote.py",
    "python scripts/retrain.py": "needs what a backend was asked for days: tests/triton/test_retrain.py",
    "python scripts/lineage.py REQUEST_ID": "the id of a request of yours: tests/test_lineage.py",
    "python scripts/lineage.py 0dff": "the fingerprint of other data: tests/test_lineage.py",
    "pip install": "the environment of the tests has it: tests/test_tracking.py",
    "export MLFLOW_TRACKING_URI": "a folder of another machine: tests/test_tracking.py",
    "mlflow server": "the whole of MLflow, which the tests have not",
    "python scripts/monitor.py forward": "needs PostgreSQL: tests/postgres",
    "python scripts/monitor.py serve --host 0.0.0.0": "opens a port to the network: tests/test_monitoring_page.py",
}
# What is typed smaller than it stands: pattern → in its place.
SMALLER = {
    r"^python train\.py(?!.*(experiment=|from_run=|source=|source\.load)).*?(?=\s*(#|$))": (
        r"\g<0> source.load.n_requests=4000 trainer.max_epochs=1"
    ),
    r"trainer\.max_epochs=[2-9]": "trainer.max_epochs=1",
    r"(?<=evaluate\.py runs/)\w+(?=\s*#|$)": r"\g<0> --against rule",
    r"--to 7": "--to 1",
    r"describe\.py PATH": "describe.py my_trips/trips.csv",
    r"\bPATH\b": "my_trips",
}

# What a page for those who serve a version already begins from: it is live, and a backend has asked it.
ASKED = """
import polars as pl
from pathlib import Path
from hailtime.client import EtaClient, PredictionLog
from hailtime.preparation.prepared import load_prepared

prepared = load_prepared(Path("data/prepared/smoke"))
schema, trips = prepared.schema, prepared.part("test")
trips = trips.filter(pl.from_epoch("requested_at", "us").dt.date() == pl.date(2026, 4, 2))
rows = trips.with_columns(pl.col("requested_at") // 1_000_000).select(schema.id, *schema.input_names).to_dicts()
with PredictionLog(Path("predictions.sqlite"), features="all") as log, EtaClient("127.0.0.1:8001", log=log) as client:
    client.predict(rows)
    log.report_actuals(zip(trips[schema.id], trips[schema.target]))
"""
SERVING = (
    Step("bash", "python scripts/serve.py"),
    Step("bash", "python scripts/deploy.py runs/NAME"),
    Step("python", ASKED),
    Step("bash", "python scripts/monitor.py read"),
)


@pytest.fixture(scope="session")
def made_before(tmp_path_factory):
    """A checkout with what the pages call runs/NAME, runs/A to C, and a table of one's own."""
    folder = tmp_path_factory.mktemp("docs") / "made_before"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, folder / name)
    for command in (
        ["train.py", "experiment=smoke", "trainer.max_epochs=1", "run_name=NAME"],
        ["scripts/evaluate.py", "runs/NAME", "--against", "rule"],
        ["scripts/export.py", "runs/NAME"],
    ):
        subprocess.run([sys.executable, *command], cwd=folder, env=environment(folder), check=True)
    for name in "ABC":
        shutil.copytree(folder / "runs/NAME", folder / "runs" / name)
    write_table(folder / "my_trips")
    return folder


def write_table(folder):
    """Trips and weather with the columns that configs/source/my_table.yaml names."""
    folder.mkdir()
    city = load(n_requests=4000, start="2026-01-12", days=28, dirt=0.0)
    theirs = {
        "id": "request_id",
        "created": "requested_at",
        "arrived": "arrived_at",
        "lat": "pickup_lat",
        "lon": "pickup_lon",
    }
    times = [pl.from_epoch(name, "us") for name in ("requested_at", "arrived_at")]
    trips = city.table().with_columns(*times, distance=pl.lit(1.5), pickup_lat=pl.col("pickup_lat") - 2.6)
    trips = trips.with_columns(pickup_lon=pl.col("pickup_lon") - 3.0)
    trips.select(**theirs, distance="distance", zone="pickup_zone").write_csv(folder / "trips.csv")
    weather = city.conditions["weather"].select(hour=pl.from_epoch("observed_at", "us"), rain="rain_mm_h")
    weather.write_csv(folder / "weather.csv")


def environment(checkout):
    home = os.environ.get("HAILTIME_TRITON_HOME", str(ROOT / ".triton"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(checkout / "src"), "HAILTIME_TRITON_HOME": home}


def left_out(step: Step) -> bool:
    return step.kind == "bash" and any(step.text.startswith(words) for words in LEFT_OUT)


def smaller(step: Step) -> Step:
    text = step.text
    for pattern, instead in SMALLER.items() if step.kind == "bash" else ():
        text = re.sub(pattern, instead, text)
    return Step(step.kind, text, step.file)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_a_page_can_be_followed(page, made_before, tmp_path):
    text = (ROOT / page).read_text()
    steps = [smaller(step) for step in steps_of(text) if not left_out(step)]
    if not steps:
        return
    for port in SERVERS.values():
        assert not is_open(port), f"a documentation test needs port {port}, which another program has: stop that one"
    checkout = shutil.copytree(made_before, tmp_path / "checkout")
    reader = Reader(checkout, environment(checkout))
    before = SERVING if NEEDS_A_VERSION in text else ()
    try:
        for step in (*before, *steps):
            reader.follow(step)
    finally:
        reader.close()


def test_whatever_is_left_out_or_made_smaller_is_there():
    steps = [step for page in PAGES for step in steps_of((ROOT / page).read_text()) if step.kind == "bash"]
    for words in LEFT_OUT:
        assert any(step.text.startswith(words) for step in steps), words
    for pattern in SMALLER:
        assert any(re.search(pattern, step.text) for step in steps), pattern


def test_the_page_of_settings_is_up_to_date():
    subprocess.run([sys.executable, "scripts/settings_page.py", "--check"], cwd=ROOT, check=True)


def test_the_site_is_built_and_no_link_leads_nowhere(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "runbook.html").exists()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_path_a_page_names_exists(page):
    text = page.read_text()
    made = {step.file for step in steps_of(text)}
    named = re.findall(r"`((?:src|scripts|tests|configs|deploy|examples)/[\w./]+)`", text)
    missing = [name for name in named if name not in made and not (ROOT / name).exists()]
    assert not missing
