"""What a company gets that has no checkout: the wheel alone in an empty environment asks a real Triton."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from hailtime import __version__
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
NOT_SHIPPED = re.compile(r"\.ci/|\.git(ignore|attributes)$")


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The source distribution, and the wheel made from it, both from a copy of what git keeps."""
    folder = tmp_path_factory.mktemp("release")
    for name in tracked_files():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "tree" / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "tree"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(released):
    return released / f"hailtime-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def empty_environment(wheel, tmp_path_factory):
    """A Python with the wheel, and what it says it needs, at the tested versions."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(folder, with_pip=True)
    pip = [
        folder / "bin" / "python",
        "-I",
        "-m",
        "pip",  # -I: it must not see this checkout
        "install",
        "--quiet",
        "--constraint",
        ROOT / "constraints.txt",
    ]
    done = subprocess.run([*pip, wheel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def server(installation, small_run, tmp_path_factory):
    models = tmp_path_factory.mktemp("released") / "models"
    with TritonServer(models, grpc_port=0, metrics_port=0, installation=installation) as server:
        deploy(small_run.folder, models, server.url)
        yield server


def run(command, folder, **options):
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=False, **options
    )


def test_the_source_distribution_is_the_whole_tree(released):
    with tarfile.open(released / f"hailtime-{__version__}.tar.gz") as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert [name for name in tracked_files() if name not in shipped and not NOT_SHIPPED.match(name)] == []


def test_the_wheel_has_types_pages_and_licence_and_nothing_beside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"hailtime/py.typed", "hailtime/monitoring/page/files/index.html"} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"hailtime", f"hailtime-{__version__}.dist-info"}


def test_the_wheel_alone_answers_the_readmes_example(empty_environment, server, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    example = example.replace("127.0.0.1:8001", server.url).replace("deadline_s=0.5", "deadline_s=20")
    (tmp_path / "example.py").write_text(example + "\nimport hailtime\nprint(hailtime.__file__)\n")
    done = run([empty_environment / "python", "example.py"], tmp_path)
    said, where = done.stdout.splitlines() or ("", "")
    assert re.fullmatch(r"\d+ minutes, 8 in 10 times between \d+ and \d+", said), done.stderr
    assert Path(where).is_relative_to(empty_environment.parent)


def test_the_wheel_brings_numpy_and_tritonclient_and_no_more(empty_environment, tmp_path):
    done = run([empty_environment / "python", "-m", "pip", "list", "--format=json"], tmp_path)
    names = {one["name"].lower() for one in json.loads(done.stdout)}
    assert {"hailtime", "numpy", "tritonclient", "grpcio", "protobuf"} <= names
    assert not names & {"torch", "pandas", "polars", "onnx", "onnxruntime", "rich", "pyyaml"}


def test_hailtime_ask_says_what_a_row_holds_and_answers_one(empty_environment, server, small_run, tmp_path):
    ask = [empty_environment / "hailtime-ask", "--url", server.url, "--deadline", "20"]
    assert run([*ask, "--health"], tmp_path).returncode == 0
    columns = json.loads(run([*ask, "--columns"], tmp_path).stdout)
    assert [column["name"] for column in columns] == list(small_run.schema.input_names)
    row = {column["name"]: None for column in columns} | {small_run.schema.requested_at: 1_775_000_000}
    answer = json.loads(run([*ask, "-"], tmp_path, input=json.dumps(row)).stdout)
    assert (answer["path"], answer["version"]) == ("triton", "1")


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        ('{"pickup": 1}', 2, "RequestError: "),
        ("[1", 2, "ConfigError: rows must be JSON"),
    ],
    ids=["a wrong column", "no JSON"],
)
def test_hailtime_ask_tells_wrong_rows_by_its_status(empty_environment, server, tmp_path, given, status, told):
    done = run([empty_environment / "hailtime-ask", "--url", server.url, "-"], tmp_path, input=given)
    assert (done.returncode, done.stderr[: len(told)]) == (status, told)


def test_hailtime_ask_tells_no_server_from_no_model(empty_environment, serve, tmp_path):
    nowhere = run([empty_environment / "hailtime-ask", "--url", "127.0.0.1:1", "--health"], tmp_path)
    empty = serve(tmp_path / "models")
    nothing = run([empty_environment / "hailtime-ask", "--url", empty.url, "--health"], tmp_path)
    assert (nowhere.returncode, nothing.returncode) == (1, 3)
