"""The contender evosax: its PGPE around a jitted inner loop in JAX, on the CPU.

`jax.lax.scan` over updates, `jax.vmap` over the candidates of a chunk and `jax.lax.map` over
chunks, all of it compiled into one program.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import PGPE
from numpy.typing import NDArray

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

CANDIDATES_AT_ONCE = 8


def make_fitness(problem: Problem, dtype: Any) -> Any:
    """From parameters of top-down networks `(c, d)` to the final losses `(c,)` of what they train.

    Args:
        problem: the life.
        dtype: of all that is computed.

    Returns:
        A jitted function.
    """
    images = jnp.asarray(problem.x, dtype)
    one_hot = jnp.asarray(problem.one_hot.T, dtype)
    features, hidden, classes = SIZES
    shapes = [(hidden, features), (hidden, 1), (classes, hidden), (classes, 1)]

    def forward(weights: Any, samples: Any) -> Any:
        weight_1, bias_1, weight_2, bias_2 = weights
        activity = jnp.tanh(weight_1 @ samples + bias_1)
        return activity, weight_2 @ activity + bias_2

    def gradient(weights: Any, beta: Any, rows: Any, samples: Any, labels: Any) -> Any:
        activity, logits = forward(weights, samples)
        probabilities = jax.nn.softmax(logits, 0)
        (weight_1, bias_1), (weight_2, bias_2), (weight_3, bias_3) = unpack(beta)
        x = jnp.tanh(weight_1 @ jnp.concatenate([probabilities, labels]) + bias_1)
        x = jnp.tanh(weight_2 @ x + bias_2)
        credit = jnp.clip(weight_3 @ x + bias_3, -MAX_CREDIT, MAX_CREDIT) / len(rows)

        error_1 = credit[:hidden] * (1 - activity * activity)
        weighted = probabilities * credit[hidden:]
        error_2 = weighted - probabilities * weighted.sum(0)
        gradients = (
            error_1 @ rows,
            error_1.sum(1, keepdims=True),
            error_2 @ activity.T,
            error_2.sum(1, keepdims=True),
        )
        norm = jnp.sqrt(sum(jnp.square(g).sum() for g in gradients))
        scale = jnp.minimum(MAX_GRAD_NORM / (norm + 1e-6), 1.0)
        return [g * scale for g in gradients]

    def train(beta: Any, rows: Any, samples: Any, labels: Any) -> Any:
        def update(state: Any, count: Any) -> Any:
            weights, first, second = state
            gradients = gradient(weights, beta, rows, samples, labels)
            first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
            second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
            rate = LEARNING_RATE / (1 - 0.9**count)
            root = jnp.sqrt(1 - 0.999**count)
            weights = [
                w + rate * m / (jnp.sqrt(v) / root + 1e-8)
                for w, m, v in zip(weights, first, second, strict=True)
            ]
            return (weights, first, second), None

        zeros = [jnp.zeros(shape, dtype) for shape in shapes]
        counts = jnp.arange(1, problem.num_updates + 1).astype(dtype)
        (weights, _, _), _ = jax.lax.scan(update, (zeros, zeros, zeros), counts)
        _, logits = forward(weights, samples)
        return -(jax.nn.log_softmax(logits, 0) * labels).sum(0).mean()

    def losses_of(betas: Any, rows: Any, samples: Any, labels: Any) -> Any:
        return jax.lax.map(
            lambda beta: train(beta, rows, samples, labels), betas, batch_size=CANDIDATES_AT_ONCE
        )

    # Arguments rather than constants, which the compiler would try to fold.
    compiled = jax.jit(losses_of)
    return lambda betas: compiled(betas, images, images.T, one_hot)


def losses(problem: Problem, precision: Precision) -> NDArray[np.float64]:
    """Final losses of the problem's candidates."""
    jax.config.update("jax_enable_x64", precision == "float64")
    final = make_fitness(problem, precision)(jnp.asarray(problem.betas, precision))
    return np.asarray(final, dtype=np.float64)


def race(problem: Problem, cores: int, turns: Turns) -> None:
    """Evolve; XLA takes the cores it was given."""
    fitness = make_fitness(problem, "float32")
    searcher = PGPE(
        population_size=problem.population_size,
        solution=jnp.zeros(num_parameters()),
        optimizer=optax.adam(CENTER_LEARNING_RATE),
    )
    params = searcher.default_params.replace(
        std_init=STDEV_INIT, std_lr=STDEV_LEARNING_RATE, std_max_change=STDEV_MAX_CHANGE
    )
    key = jax.random.key(SEED)
    start = 0.1 * jax.random.normal(key, (num_parameters(),))
    state = searcher.init(key, start, params)

    def generation(key: Any, state: Any) -> Any:
        ask, tell = jax.random.split(key)
        population, state = searcher.ask(ask, state, params)
        state, _ = searcher.tell(tell, population, fitness(population), state, params)
        return jax.block_until_ready(state)

    # Compilation, two generations included: evosax compiles again for the state after the first.
    started = time.perf_counter()
    for _ in range(2):
        key, now = jax.random.split(key)
        state = generation(now, state)
    turns.answer(time.perf_counter() - started)
    while turns.next():
        key, now = jax.random.split(key)
        state = generation(now, state)
