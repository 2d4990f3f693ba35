"""Dockerfile, compose and Kubernetes manifests against their schemas, and what each promises about the others."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from hailtime import __version__
from hailtime.config import check_command_line
from hailtime.monitoring.settings import MonitorSettings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile.cuda").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
KUBERNETES = ("1.30", "1.37")  # the oldest with sidecars that are on by themselves, the newest here
FOLDERS = ("base", "gpu", "train")


@cache
def manifests(folder: str) -> list[dict]:
    """As `kubectl kustomize` writes them where there is one, else the files as they stand."""
    path = DEPLOY / "kubernetes" / folder
    if shutil.which("kubectl"):
        done = subprocess.run(["kubectl", "kustomize", str(path)], capture_output=True, text=True, check=True)
        return list(yaml.safe_load_all(done.stdout))
    if folder == "gpu":
        pytest.skip("an overlay needs kubectl kustomize")
    named = yaml.safe_load((path / "kustomization.yaml").read_text())["resources"]
    return [one for name in named for one in yaml.safe_load_all((path / name).read_text())]


def pod_specs(folder: str) -> list[dict]:
    return [one["spec"]["template"]["spec"] for one in manifests(folder) if "template" in one.get("spec", {})]


def containers(folder: str) -> list[dict]:
    sidecar = yaml.safe_load((DEPLOY / "kubernetes" / "forwarder" / "sidecar.yaml").read_text())
    specs = [sidecar["spec"]["template"]["spec"]] if folder == "forwarder" else pod_specs(folder)
    return [one for spec in specs for one in (*spec.get("containers", ()), *spec.get("initContainers", ()))]


def images_of(name: str) -> set[str]:
    return set(re.findall(rf"^FROM .* AS {name}$", DOCKERFILE, re.MULTILINE))


def test_the_dockerfile_passes_the_linter():
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--no-color", ROOT / "Dockerfile.cuda"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_image_ends_as_a_user_without_rights():
    for stage in DOCKERFILE.split("\nFROM ")[1:]:
        name = stage.split("\n")[0].rpartition(" ")[2]
        if name != "python":
            assert re.findall(r"^USER (\S+)", stage, re.MULTILINE)[-1] == "10001:10001", name


def test_every_package_of_an_image_is_held_to_the_constraints():
    installs = [line for line in DOCKERFILE.splitlines() if "pip install" in line]
    assert len(installs) == 4
    assert all("--constraint constraints.txt" in line for line in installs)


def test_what_a_copy_names_exists_and_reaches_the_builder():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (.*)", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == name or source.startswith(f"{name}/") for name in let_in), source


@pytest.mark.parametrize("name", ["compose.yaml", "deploy/compose/gpu.yaml"])
def test_compose_fits_its_schema(name):
    schema = files("check_jsonschema").joinpath("builtin_schemas", "vendor", "compose-spec.json").read_text()
    jsonschema.validate(yaml.safe_load((ROOT / name).read_text()), json.loads(schema))


def test_compose_publishes_on_loopback_only():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 7
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_builds_targets_that_exist_under_this_version():
    built = [service for service in COMPOSE["services"].values() if "build" in service]
    assert {service["build"]["target"] for service in built} == {"serve", "monitor", "train"}
    for service in built:
        assert images_of(service["build"]["target"])
        assert service["image"] == f"hailtime/{service['build']['target']}:{__version__}"


def test_compose_waits_for_what_is_well_and_every_one_waited_for_can_say_so():
    has_check = {"triton", "monitor"}  # by their images
    has_check |= {name for name, service in COMPOSE["services"].items() if "test" in service.get("healthcheck", {})}
    waited_for = [
        (name, condition["condition"])
        for service in COMPOSE["services"].values()
        for name, condition in service.get("depends_on", {}).items()
    ]
    assert {name for name, _ in waited_for} <= has_check
    assert {condition for _, condition in waited_for} == {"service_healthy"}


def test_compose_mounts_files_and_volumes_that_exist():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"], volume


def test_no_secret_is_written_down():
    for path in (ROOT / "compose.yaml", *DEPLOY.rglob("*.y*ml")):
        for name, value in re.findall(r"(\w*(?:PASSWORD|TOKEN|KEY|SECRET)): +(.+)", path.read_text()):
            assert re.match(r"[\"']?\$\{|HAILTIME_", value), f"{path.name}: {name}"


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_manifests_fit_the_schemas_of_kubernetes(folder, version):
    found = manifests(folder)
    assert len(found) >= 2
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("folder", [*FOLDERS, "forwarder"])
def test_every_container_gives_up_all_rights_and_says_what_it_needs(folder):
    found = containers(folder)
    assert found
    for one in found:
        security = one["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert set(one["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in one["resources"]["limits"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_pod_runs_as_the_images_user(folder):
    for spec in pod_specs(folder):
        context = spec["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 10001)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False


def test_a_server_is_ready_by_a_real_inference_and_mounts_the_model_alone():
    (triton,) = [one for one in containers("base") if one.get("args") == ["--poll", "5"]]
    assert triton["readinessProbe"]["exec"]["command"][-1] == "--health"
    assert triton["volumeMounts"][0]["subPath"] == "pickup_eta"


def test_the_training_job_is_what_torchrun_and_our_settings_take():
    from torch.distributed.run import parse_args

    (job,) = containers("train")
    said = parse_args([word.replace("$(RUN_NAME)", "cluster") for word in job["args"]])
    assert (said.training_script, said.nnodes, said.rdzv_backend) == ("train.py", "2", "c10d")
    check_command_line("train", said.training_script_args)
    service = next(one for one in manifests("train") if one["kind"] == "Service")
    port = service["spec"]["ports"][0]["port"]
    assert said.rdzv_endpoint == f"train-0.{service['metadata']['name']}:{port}"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="an overlay needs kubectl kustomize")
def test_the_overlay_gives_each_server_a_gpu_and_the_monitor_none():
    asking = [one["name"] for one in containers("gpu") if "nvidia.com/gpu" in one["resources"]["limits"]]
    assert asking == ["triton", "triton"]  # the gate's, and those that follow it


@pytest.mark.skipif(not shutil.which("kubectl"), reason="a component needs kubectl kustomize")
def test_the_forwarder_joins_a_backend_and_nothing_else(tmp_path):
    backend = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "backend", "labels": {"hailtime.io/client": "true"}},
        "spec": {
            "selector": {"matchLabels": {"app": "backend"}},
            "template": {
                "metadata": {"labels": {"app": "backend"}},
                "spec": {"containers": [{"name": "backend", "image": "backend"}]},
            },
        },
    }
    other = json.loads(json.dumps(backend)) | {"metadata": {"name": "other"}}
    shutil.copytree(DEPLOY / "kubernetes" / "forwarder", tmp_path / "forwarder")
    (tmp_path / "backend.yaml").write_text(yaml.safe_dump_all([backend, other]))
    (tmp_path / "kustomization.yaml").write_text("resources: [backend.yaml]\ncomponents: [forwarder]\n")
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=True)
    found = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in yaml.safe_load_all(done.stdout)}
    assert [one["name"] for one in found["backend"]["initContainers"]] == ["hailtime-forwarder"]
    assert [one["name"] for one in found["backend"]["containers"]] == ["backend"]
    assert "initContainers" not in found["other"]
    for one in yaml.safe_load_all(done.stdout):
        kubernetes_validate.validate(one, KUBERNETES[-1], strict=True)


def test_the_monitors_settings_in_a_container_are_settings():
    settings = MonitorSettings.read(DEPLOY / "monitor.yaml")
    assert settings.token_env in (ROOT / "compose.yaml").read_text()
    assert settings.alerts is not None
    assert (ROOT / "configs" / settings.alerts.name).is_file()


def test_prometheus_in_compose_has_the_rules_and_jobs_of_the_one_beside_the_machine():
    ours, theirs = (
        yaml.safe_load((DEPLOY / name).read_text()) for name in ("prometheus.yml", "compose/prometheus.yml")
    )
    assert ours["rule_files"] == theirs["rule_files"]
    jobs = [{job["job_name"] for job in one["scrape_configs"]} for one in (ours, theirs)]
    assert jobs[0] == jobs[1]
