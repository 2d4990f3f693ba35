"""What may happen to a backend while it asks 200 times a second: one function a fault, as in release_faults.py."""

import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.traffic import N_BAD
from benchmarks.world import World
from hailtime.client.messages import infer_request


def log_gone(world: World) -> str:
    """Its folder moved away; then a file in the folder's place, so that it cannot be made again; then room again."""
    world.begin()
    folder = world.logs[0].parent
    with world.flowing():
        _move_away(world, folder)
        time.sleep(1)
        while folder.is_dir():  # the backend may make it anew before the file is there
            _move_away(world, folder)
            with suppress(IsADirectoryError):
                folder.write_text("in the way")
        time.sleep(3)
        folder.unlink()
        time.sleep(2)
    return "moved, unwritable for 3 s, back"


def _move_away(world: World, folder: Path) -> None:
    moved = folder.rename(world.folder / f"moved_{len(world.logs)}")
    world.logs.append(moved / world.logs[0].name)


def clock_jump(world: World) -> str:
    """By a library in front of libc's clocks, as libfaketime does; nobody else's clock changes."""
    compiler = shutil.which("cc")
    if compiler is None:
        return "NOT done: it needs a C compiler (cc)"
    world.begin()
    library, source = world.folder / "shifted_clock.so", Path(__file__).with_name("shifted_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    shift = world.folder / "shift"
    shift.write_bytes(struct.pack("l", 0))
    with world.flowing(environment={"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(shift)}):
        for shift_s in (3600, -3600, 86_400, 0):
            with shift.open("r+b") as file:
                file.write(struct.pack("l", shift_s))
            time.sleep(1.5)
    return "an hour on, an hour back, a day on"


def malformed(world: World) -> str:
    """As many to the client as to the server, past the client."""
    world.begin()
    with world.flowing() as backend:
        backend.send("malformed")
        by_server = sum(_is_refused(world.server.url))
        by_client = backend.receive()["refused"]
    refused = "refused" if by_client == by_server == N_BAD else "NOT all refused"
    return f"{refused}: {by_client:,} of {N_BAD:,} by the client, {by_server:,} of {N_BAD:,} by the server"


def herd(world: World) -> str:
    """New clients of a backend that has run before: they know the plan of that time from its file."""
    world.begin()
    cache = str(world.folder / "plan.json")
    with world.flowing(), world.backend(cache=cache, fallback=None) as cached:
        cached.start()
        time.sleep(1)
        cached.stop()
        herds = [world.backend(n_clients=16, n_calls=10, cache=cache, fallback=None) for _ in range(4)]
        for one in herds:
            one.send("herd")
        for one in herds:
            one.receive()
            one.stop()
        time.sleep(1)
    return "4 processes of 16 clients, all at once for the first time, then five times a second each"


def _is_refused(url: str) -> Iterator[bool]:
    """Whether the server refuses, request by request; one after the other as fast as it answers."""
    with grpc.insecure_channel(url) as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        config = triton.ModelConfig(service_pb2.ModelConfigRequest(name="pickup_eta")).config
        widths = [entry.dims[0] for entry in config.input]
        raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for place in range(N_BAD):
            bad = BAD[place % len(BAD)]
            try:
                raw(bad(_good(widths)), timeout=5.0)
                yield False
            except grpc.RpcError:
                yield True


def _good(widths: list[int]) -> Any:
    numeric, texts = np.zeros((1, widths[0]), np.float32), np.full((1, widths[1]), "a", object)
    content = infer_request(1, numeric, texts, np.full((1, 1), 1_770_000_000))
    return service_pb2.ModelInferRequest.FromString(content)


def _changed(change: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    def bad(request: Any) -> bytes:
        change(request)
        return bytes(request.SerializeToString())

    return bad


def _set(place: int, content: bytes) -> Callable[[Any], bytes]:
    return _changed(lambda request: request.raw_input_contents.__setitem__(place, content))


BAD: tuple[Callable[[Any], bytes], ...] = (
    lambda request: b"\xff" * 40,  # no message at all
    lambda request: request.SerializeToString()[:-5],
    _set(0, b""),
    _set(1, b"\xff\xff\xff\x7fa"),  # a text of 2 GB
    _set(1, b"\xff\xff\xff\xff"),
    _set(2, b"\x00"),
    _changed(lambda request: request.raw_input_contents.pop()),
    _changed(lambda request: request.inputs.pop()),
    _changed(lambda request: request.inputs.add(name="numeric", datatype="FP32", shape=[1, 1])),
    _changed(lambda request: request.inputs[0].shape.__setitem__(1, 1)),
    _changed(lambda request: request.inputs[0].shape.__setitem__(0, -1)),
    _changed(lambda request: request.inputs[0].shape.__setitem__(0, 2**60)),
    _changed(lambda request: setattr(request.inputs[0], "datatype", "FP64")),
    _changed(lambda request: setattr(request.inputs[0], "name", "other")),
    _changed(lambda request: setattr(request, "model_version", "99")),
    _changed(lambda request: setattr(request, "model_version", "-1e9")),
    _changed(lambda request: setattr(request, "model_name", "../pickup_eta")),
    _changed(lambda request: request.outputs.add(name="other")),
)
