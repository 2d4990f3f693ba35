"""The settings of the challenger's training: the window of the log as its source, the live model's schema and network.

Parts follow in time within the rows since the change, so that a few hours after it the training part knows the new
world, and the test part, the latest rows, is what the challenger is judged by.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from hailtime.config import check_command_line, train_config
from hailtime.retraining.champion import Champion
from hailtime.retraining.decide import Decision
from hailtime.retraining.settings import RetrainSettings
from hailtime.sources.prediction_log import LogReader, join_settings

HOUR_S, DAY_S = 3600, 86_400
LIKE_CHAMPION = ("network", "loss", "features")  # unless the settings name them


def training_config(
    settings: RetrainSettings, decision: Decision, champion: Champion, data: Path, name: str
) -> DictConfig:
    """What `train` is given. ConfigError when a setting of `train:` is none of train.py's."""
    overrides = [f"{key}={_as_override(value)}" for key, value in settings.train.items()]
    check_command_line("train", overrides)
    fixed = ["source=prediction_log", f"prepared={data}", f"run_name={name}"]
    config = train_config([*fixed, *overrides])
    known: Any = OmegaConf.load(champion.run / "config.yaml") if champion.run is not None else OmegaConf.create()
    with open_dict(config):
        config.source = _source(config.source, settings, decision, champion, known)
        config.prepared, config.run_name = str(data), name
        for group in LIKE_CHAMPION:
            if group in known and not any(key.split(".")[0] in (group, "experiment") for key in settings.train):
                config[group] = known[group]
    return config


def recent_config(config: DictConfig, settings: RetrainSettings, data: Path) -> DictConfig | None:
    """The same training on the newest rows alone, with the same later parts; None where there is no such choice.

    The world may change without an alert, as when a road is opened again: then the older rows of the window are wrong.
    """
    load, days = config.source.load, settings.window.recent_days
    if days is None or (load.since_s is not None and settings.window.old_per_new == 0):
        return None
    validation_s = datetime.fromisoformat(config.source.split.validation).timestamp()
    from_s = max(validation_s - days * DAY_S, load.from_s if load.since_s is None else load.since_s)
    if from_s <= load.from_s and load.older is None:
        return None  # the whole window is no longer
    recent: DictConfig = OmegaConf.create(OmegaConf.to_container(config))  # type: ignore[assignment]
    recent.source.load.from_s, recent.source.load.since_s, recent.source.load.older = from_s, None, None
    recent.prepared = str(data)
    return recent


def _source(
    source: DictConfig, settings: RetrainSettings, decision: Decision, champion: Champion, known: Any
) -> dict[str, Any]:
    load = {
        "_target_": source.load._target_,
        "log": settings.log if "://" in settings.log else str(Path(settings.log).absolute()),
        "live": str(champion.folder.absolute()),
        "from_s": decision.from_s,
        "to_s": decision.to_s,
        "since_s": decision.since_s,
        "old_per_new": settings.window.old_per_new,
        "older": _older(champion, known),
    }
    return {
        "load": load,
        "schema": champion.schema.to_dict(),
        "conditions": join_settings(champion.schema),
        "split": {**boundaries(settings, decision), "gap_s": settings.gap_s},
        "slices": list(known.get("source", {}).get("slices", [])),
    }


def boundaries(settings: RetrainSettings, decision: Decision) -> dict[str, str]:
    """Where validation, calibration and test begin: at shares of the rows since the change, none longer than said."""
    from_s = decision.from_s if decision.since_s is None else decision.since_s
    times = LogReader(settings.log).frame(
        "SELECT p.requested_at_s AS at_s FROM predictions p JOIN actuals a ON a.request_id = p.request_id WHERE "
        f"p.requested_at_s >= {from_s:.0f} AND p.requested_at_s < {decision.to_s:.0f} "
        "AND a.pickup_time_s IS NOT NULL AND p.features IS NOT NULL ORDER BY 1"
    )["at_s"]
    parts, begins = settings.parts, {}
    share, until_s = 1.0, float(decision.to_s)
    for name, of in (("test", parts.test), ("calibration", parts.calibration), ("validation", parts.validation)):
        share -= of
        longest_s = parts.most_h * HOUR_S / (1 if name == "test" else 2)
        until_s = max(times[int(share * len(times))], until_s - longest_s)
        begins[name] = datetime.fromtimestamp(until_s, UTC).isoformat()
    return dict(reversed(begins.items()))


def _older(champion: Champion, known: Any) -> str | None:
    """The champion's own prepared folder, while it holds what the champion was trained on."""
    if champion.run is None:
        return None
    from hailtime.preparation.prepared import load_prepared
    from hailtime.training.run_folder import check_data

    try:
        prepared = load_prepared(Path(str(known.prepared)))
        check_data(prepared, champion.run)
    except Exception:  # it is gone, or another's by now: it is only the older part
        return None
    same = prepared.schema.fingerprint == champion.schema.fingerprint
    return str(prepared.folder.absolute()) if same else None


def _as_override(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
