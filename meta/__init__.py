"""The outer loop: PGPE, meta-gradients, evaluation with controls, worker processes, runs."""

from meta.evaluation import Evaluation, evaluate
from meta.meta_gradient import MetaGradient
from meta.pgpe import PGPE
from meta.zoo import load

__all__ = ["PGPE", "Evaluation", "MetaGradient", "evaluate", "load"]
