"""Who acts: Stable-Baselines3 policies that choose credits, and learners."""

from agents.agrel_rule import DeepAGRELCreditPolicy
from agents.base import CreditPolicy, NetworkState
from agents.credit_trainer import CreditTrainer
from agents.deepagrel import AuGMEnT, DeepAGREL, DeepAGRELPolicy, EarlyStopping, ErrorBackprop
from agents.rules import BackpropPolicy, DFAPolicy, DRTPPolicy, FAPolicy
from agents.shared import SharedTDCAPolicy
from agents.tdca import TDCAActorCriticPolicy, TDCAPolicy, TDCARNNPolicy, TopDownPolicy
from agents.vec_env import VectorEnvAdapter

__all__ = [
    "AuGMEnT",
    "BackpropPolicy",
    "CreditPolicy",
    "CreditTrainer",
    "DFAPolicy",
    "DRTPPolicy",
    "DeepAGREL",
    "DeepAGRELCreditPolicy",
    "DeepAGRELPolicy",
    "EarlyStopping",
    "ErrorBackprop",
    "FAPolicy",
    "NetworkState",
    "SharedTDCAPolicy",
    "TDCAActorCriticPolicy",
    "TDCAPolicy",
    "TDCARNNPolicy",
    "TopDownPolicy",
    "VectorEnvAdapter",
]
