"""The contender EvoTorch: its PGPE around an inner loop vectorised by `torch.func.vmap`.

One candidate's Hebbian gradient is written down and mapped over candidates. Samples lie along the
last axis, so that vmap makes a single matrix product of all candidates' first layers, and all
candidates share one fused `torch.optim.Adam`, which works element by element. Where there is a C++
compiler, `torch.compile` makes each candidate a tenth cheaper.
"""

import os
import shutil
import time
from collections.abc import Callable

import numpy as np
import torch
from evotorch import Problem as EvoTorchProblem
from evotorch.algorithms import PGPE
from evotorch.decorators import vectorized
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from benchmarks.peers.problem import (
    CENTER_LEARNING_RATE,
    LEARNING_RATE,
    MAX_CREDIT,
    MAX_GRAD_NORM,
    SEED,
    SIZES,
    STDEV_INIT,
    STDEV_LEARNING_RATE,
    STDEV_MAX_CHANGE,
    Problem,
    num_parameters,
    unpack,
)
from benchmarks.peers.turns import Precision, Turns

CANDIDATES_AT_ONCE = 16

Weights = tuple[Tensor, ...]
"""Weights `(units, inputs)` and biases `(units, 1)` of the hidden layer and of the output."""


def make_fitness(problem: Problem, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """From parameters of top-down networks `(c, d)` to the final losses `(c,)` of what they train.

    Args:
        problem: the life.
        dtype: of all that is computed.
    """
    rows = torch.tensor(problem.x, dtype=dtype)
    samples = rows.T.contiguous()
    labels = torch.tensor(problem.one_hot.T, dtype=dtype).contiguous()
    features, hidden, classes = SIZES

    def forward(weights: Weights) -> tuple[Tensor, Tensor]:
        weight_1, bias_1, weight_2, bias_2 = weights
        activity = torch.tanh(weight_1 @ samples + bias_1)
        return activity, weight_2 @ activity + bias_2

    def gradient(weights: Weights, beta: Tensor) -> Weights:
        activity, logits = forward(weights)
        probabilities = torch.softmax(logits, 0)
        (weight_1, bias_1), (weight_2, bias_2), (weight_3, bias_3) = unpack(beta)
        x = torch.tanh(weight_1 @ torch.cat([probabilities, labels]) + bias_1)
        x = torch.tanh(weight_2 @ x + bias_2)
        credit = (weight_3 @ x + bias_3).clamp(-MAX_CREDIT, MAX_CREDIT) / len(rows)

        error_1 = credit[:hidden] * (1 - activity * activity)
        weighted = probabilities * credit[hidden:]
        error_2 = weighted - probabilities * weighted.sum(0)
        gradients = (
            error_1 @ rows,
            error_1.sum(1, keepdim=True),
            error_2 @ activity.T,
            error_2.sum(1, keepdim=True),
        )
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        scale = (MAX_GRAD_NORM / (norm + 1e-6)).clamp(max=1.0)
        return tuple(g * scale for g in gradients)

    def loss(weights: Weights) -> Tensor:
        _, logits = forward(weights)
        return -(torch.log_softmax(logits, 0) * labels).sum(0).mean()

    mapped: dict[str, Callable[..., Weights]] = {}

    def gradients(weights: Weights, betas: Tensor) -> Weights:
        # Compiled when first called, because what is compiled cannot be sent to an actor.
        if not mapped:
            batched = vmap(gradient)
            compiler = shutil.which(os.environ.get("CXX", "g++"))
            mapped["gradient"] = torch.compile(batched, dynamic=False) if compiler else batched
        return mapped["gradient"](weights, betas)

    final_losses = vmap(loss)
    shapes = [(hidden, features), (hidden, 1), (classes, hidden), (classes, 1)]

    def train(betas: Tensor) -> Tensor:
        weights = tuple(torch.zeros(len(betas), *shape, dtype=dtype) for shape in shapes)
        optimizer = torch.optim.Adam(weights, LEARNING_RATE, maximize=True, fused=True)
        for _ in range(problem.num_updates):
            for weight, change in zip(weights, gradients(weights, betas), strict=True):
                weight.grad = change
            optimizer.step()
        final: Tensor = final_losses(weights)
        return final

    @torch.no_grad()
    def fitness(betas: Tensor) -> Tensor:
        torch.set_num_threads(1)
        return torch.cat([train(chunk) for chunk in torch.split(betas, CANDIDATES_AT_ONCE)])

    return fitness


def losses(problem: Problem, precision: Precision) -> NDArray[np.float64]:
    """Final losses of the problem's candidates."""
    dtype = getattr(torch, precision)
    final = make_fitness(problem, dtype)(torch.tensor(problem.betas, dtype=dtype))
    return final.double().numpy()


def race(problem: Problem, cores: int, turns: Turns) -> None:
    """Evolve; with several cores, in as many of EvoTorch's actors, which are processes."""
    # Not EvoTorch's `seed`, with which its actors of 0.6.1 die.
    torch.manual_seed(SEED)
    evolved = EvoTorchProblem(
        "min",
        vectorized(make_fitness(problem, torch.float32)),
        solution_length=num_parameters(),
        initial_bounds=(-0.1, 0.1),
        dtype=torch.float32,
        num_actors=cores if cores > 1 else None,
    )
    searcher = PGPE(
        evolved,
        popsize=problem.population_size,
        center_learning_rate=CENTER_LEARNING_RATE,
        stdev_learning_rate=STDEV_LEARNING_RATE,
        stdev_init=STDEV_INIT,
        stdev_max_change=STDEV_MAX_CHANGE,
        optimizer="adam",
    )
    # Compilation, a generation included.
    started = time.perf_counter()
    searcher.step()
    turns.answer(time.perf_counter() - started)
    while turns.next():
        searcher.step()
