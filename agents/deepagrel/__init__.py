"""Deep networks that learn from reward by a local rule: DeepAGREL, AuGMEnT for delayed ones."""

from agents.deepagrel.algorithm import DeepAGREL
from agents.deepagrel.delayed import AuGMEnT
from agents.deepagrel.early_stopping import EarlyStopping
from agents.deepagrel.error_backprop import ErrorBackprop
from agents.deepagrel.learner import TrialLearner
from agents.deepagrel.network import Feedback, QNetwork
from agents.deepagrel.policy import (
    AuGMEnTPolicy,
    DeepAGRELCnnPolicy,
    DeepAGRELLocConPolicy,
    DeepAGRELPolicy,
)

__all__ = [
    "AuGMEnT",
    "AuGMEnTPolicy",
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
