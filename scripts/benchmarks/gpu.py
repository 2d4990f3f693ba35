"""The training step on a CUDA GPU: rows a second, share of what the chip can do, and error equal to the CPU's.

The ceilings are measured in the same run: a matrix product of the same precision, and a copy of memory. Needs torch and
the networks' packages alone; on a machine that has no more: python scripts/benchmark.py gpu
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.hand_loop import HandLoop, batches_of, seconds_of
from hailtime.training.batches import Rows
from hailtime.training.features import FeatureSpec
from hailtime.training.losses import pinball
from hailtime.training.networks.mlp import MLP

N_NUMERIC, CARDINALITIES = 20, (300, 40, 8)
# how a step is run: precision, and the mode of torch.compile
WAYS: dict[str, tuple[str, str | None]] = {
    "float32": ("32-true", None),
    "bf16": ("bf16-mixed", None),
    "bf16, compiled": ("bf16-mixed", "default"),
    "bf16, compiled, CUDA graphs": ("bf16-mixed", "reduce-overhead"),
}
# Forward and backward of a weight are three multiply-adds a row.
FLOPS_OF_WEIGHT = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=4_000_000, help="of the resident table")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1024, 8192, 65_536])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--steps", type=int, default=200, help="timed steps of each way")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if not torch.cuda.is_available():
        raise SystemExit(f"benchmark gpu needs a CUDA GPU, torch {torch.__version__} sees none here")
    device = torch.device("cuda")
    torch.manual_seed(1)
    rows = made_rows(arguments.rows).to(device)
    return {
        "gpu": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "ceilings": ceilings(device),
        "against_cpu": against_cpu(device),
        "steps": [
            step_figures(rows, batch_size, way, arguments) for batch_size in arguments.batch_sizes for way in WAYS
        ],
    }


def spec() -> FeatureSpec:
    """Features of a made-up table: numbers cut into 48 bins, three categories."""
    names = [f"n{i}" for i in range(N_NUMERIC)]
    edges = [-3 + 6 * i / 48 for i in range(49)]
    return FeatureSpec(
        schema_fingerprint="",
        numeric_edges=dict.fromkeys(names, edges),
        vocabulary={f"c{i}": [str(v) for v in range(n - 1)] for i, n in enumerate(CARDINALITIES)},
        target_center_s=0.0,
        target_scale_s=1.0,
        numeric_moments={name: [0.0, 1.0] for name in names},
        numeric_places={name: [i / 48 for i in range(49)] for name in names},
    )


def made_rows(n: int) -> Rows:
    """Rows whose target is a curve of two numbers and a category, with noise."""
    x_num = torch.randn(n, N_NUMERIC)
    sizes = torch.tensor([*CARDINALITIES, 7])  # the weekday comes last
    x_cat = (torch.rand(n, len(sizes)) * sizes).long()
    target = x_num[:, 0].sin() + x_num[:, 1] * (x_cat[:, 0] % 3) + 0.3 * torch.randn(n)
    return Rows(x_num, x_cat, target)


def step_figures(rows: Rows, batch_size: int, way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One way to run steps of one size; the first epoch, in which torch.compile works, is not counted."""
    precision, mode = WAYS[way]
    network = MLP(spec(), width=arguments.width).to(rows.target.device)
    if mode:
        network.compile(mode=mode, dynamic=False)
    some = rows.take(slice(0, min(len(rows), arguments.steps * batch_size)))
    loop = HandLoop(network, some, batch_size, precision=precision)
    loop.epoch()
    spent_s = seconds_of(loop.epoch, loop.device)
    n_rows = loop.n_steps * batch_size
    flops = FLOPS_OF_WEIGHT * sum(w.numel() for w in network.trunk.parameters()) * n_rows / spent_s
    return {
        "way": way,
        "batch_size": batch_size,
        "rows_per_s": n_rows / spent_s,
        "ms_per_step": spent_s / loop.n_steps * 1e3,
        "flops_per_s": flops,
        "bytes_per_s": row_bytes(some) * n_rows / spent_s,
    }


def row_bytes(rows: Rows) -> float:
    return sum(t.numel() * t.element_size() for t in (rows.x_num, rows.x_cat, rows.target)) / len(rows)


def ceilings(device: torch.device) -> dict[str, float]:
    """Floating-point operations a second of a square product in each precision, bytes a second read by a copy."""
    n = 8192
    found = {}
    for name, kind in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        found[name] = 2 * n**3 / best_s(lambda a=a, b=b: a @ b, device)  # type: ignore[misc]
    source = torch.empty(2**28, device=device)
    target = torch.empty_like(source)
    found["copy_bytes"] = source.numel() * 4 / best_s(lambda: target.copy_(source), device)
    return found


def best_s(work: Callable[[], object], device: torch.device, n: int = 10) -> float:
    work()
    return min(seconds_of(work, device) for _ in range(n))


def against_cpu(device: torch.device) -> dict[str, float]:
    """The same weights and rows on both: answers, and the loss after the same steps, as a share of the CPU's."""
    rows = made_rows(64 * 512)
    networks: list[nn.Module] = []
    for _ in range(2):
        torch.manual_seed(2)
        networks.append(MLP(spec(), width=128, dropout=0.0))
    on_cpu, on_gpu = networks[0], networks[1].to(device)
    rows_on_gpu = rows.to(device)
    with torch.no_grad():
        before = (on_cpu(rows.x_num, rows.x_cat) - on_gpu(rows_on_gpu.x_num, rows_on_gpu.x_cat).cpu()).abs().max()
    losses = [trained_loss(network, given) for network, given in ((on_cpu, rows), (on_gpu, rows_on_gpu))]
    return {"max_abs_difference": float(before), "loss_cpu": losses[0], "loss_gpu": losses[1]}


def trained_loss(network: nn.Module, rows: Rows) -> float:
    """The loss on all rows after one pass over them in order."""
    loop = HandLoop(network, rows, 512, forget=0.0)
    for batch in batches_of(rows, 512):
        loop.step(batch)
    with torch.no_grad():
        loss: Tensor = pinball(network.eval()(rows.x_num, rows.x_cat), rows.target)
    return float(loss)


def show(figures: dict[str, Any]) -> None:
    ceiling, cpu = figures["ceilings"], figures["against_cpu"]
    print(f"{figures['gpu']}, torch {figures['torch']}")
    print("ceilings: " + ", ".join(f"{name} {value:.3g}/s" for name, value in ceiling.items()))
    print(f"{'way':30}{'batch':>8}{'rows/s':>14}{'ms/step':>9}{'of matmul':>11}{'of copy':>9}")
    for step in figures["steps"]:
        of_matmul = step["flops_per_s"] / ceiling[WAYS[step["way"]][0]]
        of_copy = step["bytes_per_s"] / ceiling["copy_bytes"]
        line = f"{step['way']:30}{step['batch_size']:>8,}{step['rows_per_s']:>14,.0f}{step['ms_per_step']:>9.3f}"
        print(f"{line}{of_matmul:>11.1%}{of_copy:>9.2%}")
    print(
        f"beside the CPU: answers off by {cpu['max_abs_difference']:.2g} at most, "
        f"loss after 64 steps {cpu['loss_gpu']:.5f} (CPU {cpu['loss_cpu']:.5f})"
    )
