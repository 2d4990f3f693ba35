"""Everything Hailtime raises on purpose.

HailtimeError
├── ConfigError          a setting is unknown or has a value that cannot work
├── SchemaError          a schema is not valid, or data does not fit it
├── DataError            a source, a prepared folder or a run folder cannot be used
├── ExportError          the ONNX file does not say what the network says
├── DeployError          a model version was refused, or the repository cannot be written
├── ServerError          the embedded Triton cannot be set up or started
├── LogError             what came true could not be written down: report it again
└── PredictionError      no answer for these rows
    ├── RequestError     the rows are wrong: mend them, do not retry
    ├── ServerUnavailable  nobody answers at the address: retry or fall back
    ├── ModelUnavailable   the server answers, the model or version is not loaded
    └── DeadlineExceeded   the answer did not come in time
"""

from collections.abc import Iterable
from difflib import get_close_matches


class HailtimeError(Exception):
    """Base of all errors of this package; its text says the rule, what came and the way out."""


class ConfigError(HailtimeError):
    """A setting is unknown or has a value that cannot work."""


class SchemaError(HailtimeError):
    """A schema is not valid, or data does not fit it."""


class DataError(HailtimeError):
    """A source, a prepared folder or a run folder cannot be used."""


class ExportError(HailtimeError):
    """The ONNX file does not say what the network says."""


class DeployError(HailtimeError):
    """A model version was refused, or the repository cannot be written."""


class ServerError(HailtimeError):
    """The embedded Triton cannot be set up or started."""


class LogError(HailtimeError):
    """What came true could not be written down: report it again."""


class PredictionError(HailtimeError):
    """No answer for these rows."""


class RequestError(PredictionError):
    """The rows are wrong: mend them, do not retry."""


class ServerUnavailable(PredictionError):
    """Nobody answers at the address: retry or fall back."""


class ModelUnavailable(PredictionError):
    """The server answers, but the model or the version is not loaded."""


class DeadlineExceeded(PredictionError):
    """The answer did not come in time."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'network'?` when a known name is near, else all known names."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f", did you mean '{near[0]}'?"
    return f"; there is: {', '.join(known)}" if known else ""
