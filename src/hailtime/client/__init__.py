"""Asking: what a ride-hailing backend installs. numpy and tritonclient, no torch and no pandas."""

from hailtime.client.connection import Tls
from hailtime.client.eta_client import AsyncEtaClient, EtaClient
from hailtime.client.observing import Call
from hailtime.client.prediction import Prediction, Predictions
from hailtime.client.prediction_log import PredictionLog

__all__ = ["AsyncEtaClient", "Call", "EtaClient", "Prediction", "PredictionLog", "Predictions", "Tls"]
