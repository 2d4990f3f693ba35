"""A perceptron of three hidden layers trained by another library, in its own environment: `training_peers.py` runs it.

    python peer_training.py pytorch_tabular|pytabkit ROWS.npz WIDTH BATCH_SIZE EPOCHS [EPOCHS ...]

The rows are in memory before any clock starts. Prints JSON: seconds of `fit` by number of
epochs (of several with one number the last), and the weights.
"""

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

N_VALIDATION = 1000  # both insist on some
Fit = Callable[[pd.DataFrame, pd.DataFrame, list[str], list[str], int, int, int], Any]


def pytorch_tabular(
    train: pd.DataFrame, later: pd.DataFrame, numbers: list[str], codes: list[str], width: int, batch: int, epochs: int
) -> Any:
    from pytorch_tabular import TabularModel
    from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
    from pytorch_tabular.models import CategoryEmbeddingModelConfig

    logging.getLogger("pytorch_tabular").setLevel(logging.ERROR)
    model = TabularModel(
        data_config=DataConfig(target=["y"], continuous_cols=numbers, categorical_cols=codes),
        model_config=CategoryEmbeddingModelConfig(
            task="regression", layers="-".join([str(width)] * 3), activation="ReLU", dropout=0.1, learning_rate=1e-3
        ),
        optimizer_config=OptimizerConfig(optimizer="AdamW"),
        trainer_config=TrainerConfig(
            batch_size=batch, max_epochs=epochs, early_stopping=None, checkpoints=None, load_best=False,
            accelerator="cpu", progress_bar="none", trainer_kwargs={"enable_model_summary": False},
        ),
        verbose=False,
    )  # fmt: skip
    model.fit(train=train, validation=later)
    return model.model


def pytabkit(
    train: pd.DataFrame, later: pd.DataFrame, numbers: list[str], codes: list[str], width: int, batch: int, epochs: int
) -> Any:
    from pytabkit import RealMLP_TD_Regressor

    columns = [*numbers, *codes]
    model = RealMLP_TD_Regressor(
        device="cpu", n_threads=torch.get_num_threads(), n_epochs=epochs, batch_size=batch, hidden_sizes=[width] * 3,
        p_drop=0.1, train_metric_name="multi_pinball(0.1,0.5,0.9)", val_metric_name="multi_pinball(0.1,0.5,0.9)",
    )  # fmt: skip
    model.fit(train[columns], train["y"], later[columns], later["y"], cat_col_names=codes)
    return model


def main(library: str, rows_path: str, width: str, batch_size: str, *epochs: str) -> None:
    warnings.simplefilter("ignore")
    rows = np.load(rows_path, allow_pickle=False)
    numbers = [f"n{i}" for i in range(rows["x_num"].shape[1])]
    codes = [f"c{i}" for i in range(rows["x_cat"].shape[1])]
    frame = pd.DataFrame(rows["x_num"], columns=numbers).assign(y=rows["y"])
    for name, column in zip(codes, rows["x_cat"].T, strict=True):
        frame[name] = column.astype(str)
    train, later = frame[:-N_VALIDATION], frame[-N_VALIDATION:]
    fit: Fit = {"pytorch_tabular": pytorch_tabular, "pytabkit": pytabkit}[library]
    seconds, model = {}, None
    for n in epochs:
        start = time.perf_counter()
        model = fit(train, later, numbers, codes, int(width), int(batch_size), int(n))
        seconds[n] = time.perf_counter() - start
    weights = sum(weight.numel() for weight in model.parameters()) if isinstance(model, torch.nn.Module) else None
    print(json.dumps({"rows": len(train), "fit_s": seconds, "weights": weights}))


if __name__ == "__main__":
    main(*sys.argv[1:])
