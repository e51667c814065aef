"""Evaluation of models: quality, latency and throughput on held-out rows; comparison of two."""

from sm_launch.evaluation.client import RetryPolicy, Sender, session_invoker
from sm_launch.evaluation.comparison import LEAST_SHARED, Comparison, compare
from sm_launch.evaluation.gates import (
    GateResult,
    check_gates,
    gate_dict,
    parse_gates,
    require_gates,
)
from sm_launch.evaluation.latency import LatencyPlan
from sm_launch.evaluation.result import EvaluationResult, Prediction, RowFailure, RunInfo
from sm_launch.evaluation.rows import fetch_any, local_path, read_rows
from sm_launch.evaluation.runner import (
    EvaluationFailedError,
    evaluate_endpoint,
    evaluate_outputs,
)
from sm_launch.evaluation.store import PredictionStore, read_predictions
from sm_launch.evaluation.summary import render_summary
from sm_launch.evaluation.task import Task
from sm_launch.evaluation.tasks import TASKS, make_task, task_of_method
from sm_launch.evaluation.transform import read_outputs
from sm_launch.evaluation.wire import Invoke, InvokeReply

__all__ = [
    "LEAST_SHARED",
    "TASKS",
    "Comparison",
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
    "Task",
    "check_gates",
    "compare",
    "evaluate_endpoint",
    "evaluate_outputs",
    "fetch_any",
    "gate_dict",
    "local_path",
    "make_task",
    "parse_gates",
    "read_outputs",
    "read_predictions",
    "read_rows",
    "render_summary",
    "require_gates",
    "session_invoker",
    "task_of_method",
]
