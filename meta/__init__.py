"""The outer loop: PGPE, evaluation with controls, worker processes, runs."""

from meta.evaluation import Evaluation, evaluate
from meta.pgpe import PGPE
from meta.zoo import load

__all__ = ["PGPE", "Evaluation", "evaluate", "load"]
