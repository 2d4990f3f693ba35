"""Asking: what a ride-hailing backend installs. numpy and tritonclient, no torch and no pandas."""

from hailtime.client.eta_client import EtaClient
from hailtime.client.prediction import Prediction, Predictions

__all__ = ["EtaClient", "Prediction", "Predictions"]
