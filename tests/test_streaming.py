"""Streamed batches: the rows of a resident table, in an order as good, in bounded memory, shared and resumed alike."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from hailtime.errors import ConfigError
from hailtime.training.batches import Rows
from hailtime.training.data import PreparedData, free_bytes
from hailtime.training.run_folder import HISTORY
from hailtime.training.streaming import StreamedBatches, pieces_of, sample
from hailtime.training.train import train
from tests.conftest import small_config

CPU = torch.device("cpu")


def encode(frame):
    x = torch.from_numpy(frame["x"].to_numpy().copy()).float()
    return Rows(x[:, None], torch.zeros(len(x), 1, dtype=torch.int64), x)


@pytest.fixture
def pieces(tmp_path):
    """A thousand rows in three files and nine row groups of unequal length."""
    for number, (first, end, of_group) in enumerate([(0, 300, 100), (300, 620, 100), (620, 1000, 300)]):
        rows = pl.DataFrame({"x": np.arange(first, end, dtype=float), "unused": "text"})
        rows.write_parquet(tmp_path / f"{number}.parquet", row_group_size=of_group, use_pyarrow=True)
    return pieces_of(sorted(tmp_path.glob("*.parquet")))


def stream(pieces, batch_size=50, steps_per_call=2, seed: int | None = 1, buffer_rows=250, **ranks):
    return StreamedBatches(
        pieces, ["x"], encode, CPU, batch_size, steps_per_call, seed, buffer_rows=buffer_rows, **ranks
    )


def targets(batches):
    return [rows.target.int().tolist() for rows in batches]


def flat(calls):
    return [row for call in calls for row in call]


def test_every_row_comes_once_an_epoch_in_a_new_order(pieces):
    assert [piece.n_rows for piece in pieces] == [100, 100, 100, 100, 100, 100, 20, 300, 80]
    batches = stream(pieces)
    first, second = flat(targets(batches)), flat(targets(batches))
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second
    assert flat(targets(stream(pieces))) == first
    assert len(batches) == len(targets(stream(pieces))) == 10


def test_rows_that_fill_no_batch_wait_and_unshuffled_ones_do_not(pieces):
    assert [len(call) for call in targets(stream(pieces, batch_size=300))] == [600, 300]
    assert flat(targets(stream(pieces, batch_size=300, seed=None))) == list(range(1000))


def test_a_batch_mixes_pieces_that_were_far_apart(pieces):
    batch = np.array(flat(targets(stream(pieces, buffer_rows=500)))[:50])
    assert len({int(row) // 100 for row in batch}) >= 3
    assert np.abs(np.diff(batch)).mean() > 50


@pytest.mark.parametrize("n_done", [1, 2, 5, 9, 10, 13])
def test_a_stream_goes_on_where_another_one_was(pieces, n_done):
    whole, stopped = stream(pieces), stream(pieces)
    expected = targets(whole) + targets(whole)
    done = 0
    while done < n_done:
        for _ in stopped:
            done += 1
            if done == n_done:
                break
    again = stream(pieces)
    again.load_state_dict(stopped.state_dict())
    assert targets(again) == expected[n_done : 10 if n_done < 10 else 20]


def test_ranks_share_every_batch_without_overlap(pieces):
    whole = np.array(targets(stream(pieces)))
    shares = [np.array(targets(stream(pieces, rank=rank, n_ranks=2))) for rank in (0, 1)]
    together = np.concatenate([share.reshape(10, 2, 25) for share in shares], axis=2)
    assert np.array_equal(together, whole.reshape(10, 2, 50))
    unshuffled = [flat(targets(stream(pieces, seed=None, rank=rank, n_ranks=2))) for rank in (0, 1)]
    assert sorted(flat(unshuffled)) == list(range(1000))


def test_no_more_rows_are_in_memory_than_the_buffer_holds(pieces):
    sizes = []

    def counted(frame):
        sizes.append(frame.height)
        return encode(frame)

    batches = StreamedBatches(pieces, ["x"], counted, CPU, 50, seed=1, buffer_rows=200)
    assert len(flat(targets(batches))) == 1000
    assert max(sizes) == 200


def test_a_sample_is_the_same_each_time_and_spread_over_all_pieces(small_run):
    rows, n = small_run.prepared.part("train"), 1000
    drawn = sample(small_run.prepared, "train", n)
    assert drawn.equals(sample(small_run.prepared, "train", n))
    assert len(drawn) == pytest.approx(n, rel=0.1)
    assert drawn["requested_at"].is_sorted()
    assert drawn["pickup_time_s"].mean() == pytest.approx(rows["pickup_time_s"].mean(), rel=0.05)
    assert sample(small_run.prepared, "train").equals(rows)


@pytest.mark.slow
def test_a_streamed_training_learns_what_a_resident_one_does(small_run, tmp_path):
    config = small_config(small_run.prepared.folder, "data.resident=false", "data.buffer_rows=3000")
    train(config, tmp_path / "run")
    streamed, resident = (pl.read_csv(folder / HISTORY) for folder in (tmp_path / "run", small_run.folder))
    assert streamed["val/mae_s"].min() == pytest.approx(resident["val/mae_s"].min(), rel=0.05)


def test_what_would_not_fit_is_streamed(small_run):
    data = PreparedData(small_run.prepared, small_run.spec, batch_size=128, steps_per_call=8, seed=1)
    assert data.keeps("train", CPU)
    assert 1e8 < free_bytes(CPU) < 1e15
    report = {**small_run.prepared.report, "parts": {"train": {"rows": 10**12}}}
    data.prepared = replace(data.prepared, report=report)
    assert not data.keeps("train", CPU)


def test_resident_is_one_of_three(small_run):
    with pytest.raises(ConfigError, match=r"data\.resident must be auto, true or false, got 'maybe'"):
        PreparedData(small_run.prepared, small_run.spec, batch_size=8, steps_per_call=8, seed=1, resident="maybe")


def test_files_that_a_container_has_read_do_not_count_as_memory_taken(tmp_path):
    for name, text in {
        "max": "1000000",
        "current": "990000",
        "stat": "anon 90000\nactive_file 500000\ninactive_file 400000\nshmem 7\n",
    }.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert free_bytes(CPU, tmp_path) == 910_000


def test_what_stays_in_memory_is_settled_once_for_a_run(small_run, tmp_path):
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"fingerprint": "x"}))
    settings = {"batch_size": 64, "steps_per_call": 1, "seed": 1}
    PreparedData(small_run.prepared, small_run.spec, **settings, resident=False).choose(file, CPU)
    PreparedData(small_run.prepared, small_run.spec, **settings, resident=True).choose(file, CPU)
    chosen = {"train": False, "validation": False}
    assert json.loads(file.read_text()) == {"fingerprint": "x", "resident": chosen}
    data = PreparedData(small_run.prepared, small_run.spec, **settings)
    data.chosen = chosen
    assert not data.keeps("train", CPU)
