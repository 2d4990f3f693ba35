"""From a configuration to a prepared folder: what train.py, the pipeline and scripts/prepare.py share."""

import json
import logging
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hailtime.errors import ConfigError
from hailtime.preparation.dataset import check_settings, prepare
from hailtime.preparation.prepared import Prepared, load_prepared

log = logging.getLogger(__name__)


def prepare_source(config: DictConfig) -> Prepared:
    """Loads the configured source and prepares it, whatever is there already."""
    settings = source_settings(config)
    log.info("prepare %s", check_settings(settings).source)
    # called outside of Hydra, which would hide the source's own error in one of its own
    raw = instantiate(config.source.load, _partial_=True)()
    spark = OmegaConf.to_container(config.spark) if "spark" in config else {}
    assert isinstance(spark, dict)
    return prepare(raw, settings, Path(config.prepared), config.get("engine", "polars"), spark)  # type: ignore[arg-type]


def prepared_data(config: DictConfig) -> Prepared:
    """The prepared folder of a configuration, made first when it is not there or was made with other settings."""
    settings, folder = source_settings(config), Path(config.prepared)
    if not folder.exists():
        return prepare_source(config)
    prepared = load_prepared(folder)
    if prepared.report["settings"] != settings:
        log.info("%s was prepared with other settings: preparing it again", folder)
        return prepare_source(config)
    log.info("%s is there: %s", folder, ", ".join(f"{k} {v['rows']:,}" for k, v in prepared.report["parts"].items()))
    return prepared


def source_settings(config: DictConfig) -> dict[str, Any]:
    """The source's settings as JSON holds them. ConfigError naming every setting that must still be given."""
    missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"a setting without a default must be given: {' '.join(f'{key}=...' for key in missing)}")
    settings = OmegaConf.to_container(config.source, resolve=True)
    assert isinstance(settings, dict)
    return json.loads(json.dumps(settings, default=str))  # type: ignore[no-any-return]
