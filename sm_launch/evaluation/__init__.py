"""Evaluation of models behind endpoints: quality, latency and throughput on held-out rows."""

from sm_launch.evaluation.client import RetryPolicy, Sender, session_invoker
from sm_launch.evaluation.gates import GateResult, check_gates, parse_gates, require_gates
from sm_launch.evaluation.latency import LatencyPlan
from sm_launch.evaluation.result import EvaluationResult, Prediction, RowFailure, RunInfo
from sm_launch.evaluation.rows import read_rows
from sm_launch.evaluation.runner import EvaluationFailedError, evaluate_endpoint
from sm_launch.evaluation.store import PredictionStore, read_predictions
from sm_launch.evaluation.summary import render_summary
from sm_launch.evaluation.wire import Invoke, InvokeReply

__all__ = [
    "EvaluationFailedError",
    "EvaluationResult",
    "GateResult",
    "Invoke",
    "InvokeReply",
    "LatencyPlan",
    "Prediction",
    "PredictionStore",
    "RetryPolicy",
    "RowFailure",
    "RunInfo",
    "Sender",
    "check_gates",
    "evaluate_endpoint",
    "parse_gates",
    "read_predictions",
    "read_rows",
    "render_summary",
    "require_gates",
    "session_invoker",
]
