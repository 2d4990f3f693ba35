"""Asking a Triton with NVIDIA's plain client, so that these tests do not lean on ours."""

import json

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from hailtime.errors import ServerError
from hailtime.serving.access import KEY_HEADER, read_key
from tests.tiny_run import tiny_rows

KINDS = {"numeric": "FP32", "categorical": "BYTES", "requested_at": "INT64"}


def ask(url, rows, version="", kinds=KINDS):
    """What the served model answers to these arrays by input name."""
    inputs = []
    for name, kind in kinds.items():
        array = rows[name].astype(np.object_) if kind == "BYTES" else rows[name]
        inputs.append(InferInput(name, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array)
    with InferenceServerClient(url) as client:
        return client.infer("pickup_eta", inputs, str(version)).as_numpy("pickup_time_s")


def key_of(repository):
    """The header that lets one load models of this repository's server."""
    return {KEY_HEADER: read_key(repository, ServerError)}


def served_plan(url):
    """(versions loaded, rollout plan), as every client reads them."""
    with InferenceServerClient(url) as client:
        config = client.get_model_config("pickup_eta").config
    return list(config.version_policy.specific.versions), json.loads(config.parameters["rollout"].string_value)


def one_row(**changed):
    return {**tiny_rows(1), **changed}


def base_s(url, version=""):
    """The answer to a row of which nothing is known at midnight UTC: the tiny run's base_s."""
    rows = one_row(
        numeric=np.full((1, 3), np.nan, np.float32),
        categorical=np.array([["", ""]]),
        requested_at=np.array([[86_400 * 20_000]]),
    )
    return ask(url, rows, version)[0, 1]
