"""A whole life of releases while four callers ask without a pause: nobody's request fails, and every answer is from a
version that the plan allowed at that time."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.deploy import Aim, abort, deploy, promote
from hailtime.serving.rollback import rollback
from tests.tiny_run import store_model, tiny_model, write_tiny_run
from tests.triton.asking import KINDS

pytestmark = pytest.mark.triton

REFRESH_S = 0.2  # how often a caller reads the plan
GRACE_S = 1.0  # how long it may go on by the one before: reading, and one call on a busy machine


@dataclass(frozen=True)
class Asked:
    request_id: str
    plan: Rollout
    version: int
    answer_s: float
    start: float
    end: float


class Caller:
    """Asks with NVIDIA's client for a row of which nothing is known, and follows the plan as our client does."""

    def __init__(self, url, name, stop):
        self.url, self.name, self.stop = url, name, stop
        self.asked, self.failures = [], []

    def run(self):
        inputs = nothing_known()
        with InferenceServerClient(self.url) as client:
            plan, read_at, i = None, -1.0, 0
            while not self.stop.is_set():
                if time.monotonic() - read_at > REFRESH_S:
                    plan, read_at = read_plan(client), time.monotonic()
                request_id, i = f"{self.name}-{i}", i + 1
                self.ask(client, inputs, request_id, plan)

    def ask(self, client, inputs, request_id, plan):
        version, start = plan.version_for(request_id), time.monotonic()
        try:
            answer = client.infer("pickup_eta", inputs, str(version), client_timeout=10.0).as_numpy("pickup_time_s")
        except Exception as error:  # every kind of failure counts
            self.failures.append(f"{version}: {error}")
            return
        self.asked.append(Asked(request_id, plan, version, float(answer[0, 1]), start, time.monotonic()))


def nothing_known():
    arrays = {
        "numeric": np.full((1, 3), np.nan, np.float32),
        "categorical": np.array([["", ""]], dtype=object),
        "requested_at": np.array([[86_400 * 20_000]]),
    }
    inputs = [InferInput(name, list(arrays[name].shape), kind) for name, kind in KINDS.items()]
    for tensor, array in zip(inputs, arrays.values(), strict=True):
        tensor.set_data_from_numpy(array)
    return inputs


def read_plan(client):
    config = client.get_model_config("pickup_eta").config
    return Rollout.from_json(config.parameters["rollout"].string_value)


def refused(deploying):
    with pytest.raises(DeployError):
        deploying()
    return None


@pytest.fixture(scope="module")
def life(installation, tmp_path_factory):
    """What four callers saw, and when which plan held, through all that can happen to a release."""
    from hailtime.serving.triton import TritonServer

    folder = tmp_path_factory.mktemp("life")
    models, stop = folder / "models", threading.Event()

    def run(seconds, model_s=None):
        path = write_tiny_run(folder / f"run{seconds}", base_s=seconds)
        if model_s is not None:
            store_model(path, tiny_model(base_s=model_s).SerializeToString())
        return path

    with TritonServer(models, grpc_port=0, metrics_port=0, installation=installation) as server:
        deploy(run(100), models, server.url)
        callers = [Caller(server.url, f"caller{i}", stop) for i in range(4)]
        plans = [(Rollout(1), 0.0, 0.0)]
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(caller.run) for caller in callers]
            for change in (
                lambda: deploy(run(200), models, server.url),
                lambda: deploy(run(300), models, server.url, Aim("canary", 20)),
                lambda: refused(lambda: deploy(run(400, model_s=444), models, server.url)),
                lambda: promote(models, server.url),
                lambda: rollback(models, server.url),
                lambda: deploy(run(500), models, server.url, Aim("shadow")),
                lambda: abort(models, server.url),
            ):
                start = time.monotonic()
                is_changed = change() is not None
                end = time.monotonic()
                if is_changed:
                    plans.append((Rollout.from_json(json.dumps(served(models))), start, end))
                time.sleep(2.0)
            stop.set()
        assert [thread.exception() for thread in asking] == [None] * 4
    return callers, plans


def served(models):
    lines = (models / "pickup_eta/releases.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["plan"]


def test_no_request_fails(life):
    callers, _ = life
    assert [failure for caller in callers for failure in caller.failures] == []
    assert min(len(caller.asked) for caller in callers) > 200


def test_the_plans_were_those_that_were_asked_for(life):
    _, plans = life
    assert [plan for plan, _, _ in plans] == [
        Rollout(1),
        Rollout(2),
        Rollout(2, canary=3, canary_percent=20),
        Rollout(3),
        Rollout(2),
        Rollout(2, shadow=5),
        Rollout(2),
    ]


def test_every_answer_is_from_a_version_the_plan_allowed(life):
    callers, plans = life
    ends = [start_end[2] for start_end in plans[1:]] + [float("inf")]
    for one in (one for caller in callers for one in caller.asked):
        held = [plan for (plan, start, _), end in zip(plans, ends, strict=True) if start < one.end < end + GRACE_S]
        allowed = {version for plan in held for version in (plan.stable, plan.canary)}
        assert one.version in allowed
        assert one.answer_s == 100.0 * one.version


def test_canary_got_its_share_of_the_requests(life):
    callers, _ = life
    by_plan = [one for caller in callers for one in caller.asked if one.plan.canary == 3]
    share = np.mean([one.version == 3 for one in by_plan])
    assert len(by_plan) > 500
    assert share == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / len(by_plan)) ** 0.5)


def test_shadow_and_refused_version_answered_nobody(life):
    callers, _ = life
    assert {one.version for caller in callers for one in caller.asked} == {1, 2, 3}
