"""The rule as its authors train, in Keras: a contender's process, in TensorFlow's environment.

    python -m benchmarks.deepagrel_speed.with_tensorflow graph check PROBLEM.npz WEIGHTS.npz
    python -m benchmarks.deepagrel_speed.with_tensorflow xla race PROBLEM.npz TRIALS

A model of Keras whose units are ReLU without biases, its outputs linear (Eq. 2–4); the loss is
½ (r − q_s)² of the chosen output alone, which the rule descends (Eq. 16). The whole trial, choice
(Eq. 5) included, is one `tf.function`, as a graph or compiled by XLA. On one thread.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Before TensorFlow is imported, which reads it then.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.deepagrel_speed.problem import EPSILON, Precision, Problem, save
from benchmarks.peers.turns import Turns

NUM_CHECKED = 3
"""Updates in the check."""


def main() -> None:
    """Do what the command line says."""
    form, what, file, argument = sys.argv[1:]
    turns = Turns()
    one_thread()
    problem = Problem.load(Path(file))
    if what == "check":
        weights = learned_weights(problem, compiled=form == "xla", precision="float64")
        save(Path(argument), weights)
    else:
        race(problem, form == "xla", int(argument), turns)


def one_thread() -> None:
    """For operators, and for one operator at a time."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def learned_weights(problem: Problem, compiled: bool, precision: Precision) -> list[NDArray[Any]]:
    """After updates from forced actions, without dropout."""
    silent = (0.0,) * len(problem.dropout)
    model = make_model(problem.weights, silent, problem.images.shape[1:], precision)
    update = make_update(model, problem.rate, compiled)
    for _ in range(NUM_CHECKED):
        update(
            tf.constant(problem.images),
            tf.constant(problem.rewards, precision),
            tf.constant(problem.actions),
        )
    return [weight.numpy() for weight in model.trainable_variables]


def race(problem: Problem, compiled: bool, num_trials: int, turns: Turns) -> None:
    """So many trials in a turn."""
    model = make_model(problem.weights, problem.dropout, problem.images.shape[1:], "float32")
    update = make_update(model, problem.rate, compiled)
    images, rewards = tf.constant(problem.images), tf.constant(problem.rewards)
    started = time.perf_counter()
    update(images, rewards)
    turns.answer(time.perf_counter() - started)
    while turns.next():
        for _ in range(num_trials // len(problem.rewards)):
            loss = update(images, rewards)
        loss.numpy()


def make_model(
    weights: Sequence[NDArray[Any]],
    dropout: Sequence[float],
    image_shape: Sequence[int],
    precision: Precision,
) -> Any:
    """A layer for each of the weights."""
    keras.config.set_dtype_policy(precision)
    model = keras.Sequential([keras.Input(image_shape, dtype=precision)])
    convolutions = [weight for weight in weights if weight.ndim == 4]
    for number, weight in enumerate(weights):
        is_output = number == len(weights) - 1
        activation = None if is_output else "relu"
        if weight.ndim == 4:
            model.add(
                keras.layers.Conv2D(
                    weight.shape[-1],
                    weight.shape[:2],
                    strides=1 if number == 0 else 2,
                    padding="valid" if number == 0 else "same",
                    activation=activation,
                    use_bias=False,
                )
            )
        else:
            if number == len(convolutions):
                model.add(keras.layers.Flatten())
            model.add(keras.layers.Dense(weight.shape[-1], activation=activation, use_bias=False))
        if not is_output and dropout[number] > 0:
            model.add(keras.layers.Dropout(dropout[number]))
    for variable, weight in zip(model.trainable_variables, weights, strict=True):
        variable.assign(weight)
    return model


def make_update(model: Any, rate: float, compiled: bool) -> Callable[..., Any]:
    """From images, rewards and, unless it chooses them itself, actions, one update; the loss."""
    weights = model.trainable_variables
    optimizer = keras.optimizers.SGD(rate)
    optimizer.build(weights)

    def update(images: Any, rewards: Any, actions: Any = None) -> Any:
        with tf.GradientTape() as tape:
            # Keras would scale by a float32 whatever the precision.
            q_values = model(tf.cast(images, model.compute_dtype) / 255, training=True)
            if actions is None:
                actions = choose(q_values)
            is_chosen = tf.one_hot(actions, q_values.shape[1], dtype=q_values.dtype)
            chosen = tf.reduce_sum(q_values * is_chosen, 1)
            loss = 0.5 * tf.reduce_mean(tf.square(rewards - chosen))
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    function: Callable[..., Any] = tf.function(update, jit_compile=compiled)
    return function


def choose(q_values: Any) -> Any:
    """Max-Boltzmann actions: the highest of q + Gumbel noise is a draw from Boltzmann's."""
    uniform = tf.random.uniform(tf.shape(q_values), 1e-7, 1.0, q_values.dtype)
    explores = tf.random.uniform(tf.shape(q_values[:, :1]), dtype=q_values.dtype) < EPSILON
    noise = -tf.math.log(-tf.math.log(uniform))
    return tf.argmax(tf.where(explores, q_values + noise, q_values), 1)


if __name__ == "__main__":
    main()
