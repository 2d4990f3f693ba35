"""What a process knows of its launch before torch is loaded: whether it is the first rank, and the run's name.

A rank is one process of a training that several share. torchrun, Slurm's srun and Lightning (`trainer.devices=2`) start
them and say so in the environment.
"""

import os
from collections.abc import Sequence
from datetime import datetime

from hailtime.errors import ConfigError

RUN_NAME = "HAILTIME_RUN_NAME"  # configs/train.yaml reads it
# torchrun sets RANK, Lightning LOCAL_RANK and NODE_RANK, srun SLURM_PROCID: all 0 on the first rank
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
QUIET = ("hydra/job_logging=stdout", "hydra.job_logging.root.level=WARNING")  # no log file, and no news


def is_first_rank() -> bool:
    """True on the rank that writes files and talks, and where there is only one."""
    return all(int(os.environ.get(name, 0)) == 0 for name in RANKS)


def placement() -> dict[str, int]:
    """Trainer settings that the launcher has decided: processes a node and nodes; nothing where none launched us."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        of_node, of_all = int(env["LOCAL_WORLD_SIZE"]), int(env["WORLD_SIZE"])
        return {"devices": of_node, "num_nodes": of_all // of_node}
    if "SLURM_STEP_ID" in env and int(env.get("SLURM_NTASKS", 1)) > 1:
        n_nodes = int(env["SLURM_NNODES"])
        return {"devices": int(env["SLURM_NTASKS"]) // n_nodes, "num_nodes": n_nodes}
    return {}


def share_run_name(arguments: Sequence[str]) -> None:
    """One name for all ranks where none is given: each would otherwise take the time at which it started.

    ConfigError where several ranks have no way to agree.
    """
    env = os.environ
    if RUN_NAME in env or any(argument.startswith("run_name=") for argument in arguments):
        return
    if "TORCHELASTIC_RUN_ID" in env:
        env[RUN_NAME] = _name_of_torchrun()
    elif "SLURM_STEP_ID" in env:
        env[RUN_NAME] = f"slurm_{env['SLURM_JOB_ID']}_{env['SLURM_STEP_ID']}"
    elif int(env.get("WORLD_SIZE", 1)) > 1 and "NODE_RANK" not in env:
        raise ConfigError("several ranks need one run folder: give run_name=... or start them with torchrun or srun")


def _name_of_torchrun() -> str:
    """The name that the first rank put into the store of torchrun's agent."""
    from torch._C._distributed_c10d import TCPStore

    env = os.environ
    if env.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise ConfigError("torchrun has no store for its ranks to agree on a run folder here: give run_name=...")
    store = TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]), is_master=False)
    key = f"{RUN_NAME}/{env['TORCHELASTIC_RESTART_COUNT']}"
    if is_first_rank():
        store.set(key, f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    name: str = store.get(key).decode()
    return name
