"""DeepAGREL: deep networks that learn from reward by a local rule."""

from agents.deepagrel.algorithm import DeepAGREL
from agents.deepagrel.early_stopping import EarlyStopping
from agents.deepagrel.error_backprop import ErrorBackprop
from agents.deepagrel.learner import TrialLearner
from agents.deepagrel.network import Feedback, QNetwork
from agents.deepagrel.policy import (
    DeepAGRELCnnPolicy,
    DeepAGRELLocConPolicy,
    DeepAGRELPolicy,
)

__all__ = [
    "DeepAGREL",
    "DeepAGRELCnnPolicy",
    "DeepAGRELLocConPolicy",
    "DeepAGRELPolicy",
    "EarlyStopping",
    "ErrorBackprop",
    "Feedback",
    "QNetwork",
    "TrialLearner",
]
