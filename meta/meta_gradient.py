"""Meta-gradients: training top-down networks by backpropagation through what they teach.

Andrychowicz et al., "Learning to learn by gradient descent by gradient descent" (2016); Metz et
al., "Understanding and correcting pathologies in the training of learned optimizers" (2019), who
train for the loss on held-out data.
"""

from collections.abc import Mapping, Sequence
from math import cos, pi
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents import TopDownPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import (
    require_at_least,
    require_fraction,
    require_not_negative,
    require_one_of,
    require_positive,
    require_share,
)
from credit_envs.tasks import ClassificationTask
from meta.outer_loop import OuterLoop, ids_of
from meta.population import check_columns
from meta.unroll import Unroll

_BETAS = (0.9, 0.99)


class MetaGradient(OuterLoop):
    """Trains a top-down network on the gradient of the loss that its credits lead to.

    A bottom-up network learns for a whole life from the credits of the top-down network with
    parameters β. Its final loss L is a differentiable function of β, through all M local updates:

        W_{t+1} = W_t + U( mean_n( (c_β(p_t, y) ⊙ f′(a_t)) [x; 1]ᵀ ) ),   ∇β = ∂L(W_M)/∂β,

    where U is the inner optimiser (see `meta.unroll`). In each generation a few lives are lived,
    each on a subset of its own; their gradients, each clipped, are averaged, and Adam (β₁ = 0.9,
    β₂ = 0.99) takes a step at a rate that falls along a half cosine.

    Use `loss_on="held-out"` in `env_kwargs`: what pays is generalisation, which the loss on the
    images that a life trains on does not reward.

    One "timestep" is one update of one bottom-up network, and one generation one call of a
    callback's `on_step`, as in `PGPE`.

    Args:
        policy: `TDCAPolicy`, its name, or another `TopDownPolicy` that autograd can follow.
        env: id of a classification environment, or of several, in all of which the network teaches;
            not with `architecture="residual"` or `credit="parameters"`.
        env_kwargs: keyword arguments of the environment; for several ids the same for all, or a
            sequence with those of each.
        policy_kwargs: keyword arguments of the policy.
        lives: lives per generation in each environment.
        resample_lives: draw new lives every generation; otherwise always the same.
        learning_rate: of Adam.
        anneal_over: number of generations over which the rate falls; None: never.
        anneal_to: fraction of itself to which it falls.
        max_grad_norm: to which the gradient of each life is scaled down.
        learn_rate: learn the inner learning rate too, from the environment's on.
        jitter: factor of a Xavier-uniform start that is added to the policy's own. It wakes units
            that a `start="feedback-alignment"` leaves at 0, where their gradient is 0 too.
        shortest: lives have as many images and updates as the environment says, or each of the two
            is drawn anew for every life (for all of a chunk alike), uniformly on a scale of
            logarithms, from this fraction of it on. Timesteps count the environment's updates
            whatever the life has.
        lengthen_over: a curriculum: over so many generations the largest life grows, evenly on
            that scale, from the `shortest` to the whole one. Early generations are then cheap, and
            their gradients well-behaved. None: whole ones from the beginning.
        relative_loss: take the gradient of log L in place of L, so that where losses are large,
            one environment does not drown the others.
        calibrated_loss: take every loss at the temperature of the outputs that is best for it:
            what counts is then which answers are right, not how sure they are.
        smoothing: of Adam's step inside when it is differentiated; see `meta.unroll`. More of it
            tames gradients at the price of a bias.
        recompute: recompute each update when differentiating it. It saves memory in long lives
            with many samples, and costs half as much time again.
        last_updates: differentiate the last so many updates of a life alone (truncated
            backpropagation), so that memory and most of the time do not grow with its length.
            Gradients are then biased: credits count for what they do in this window, not for
            where they lead later. None: all.
        chunk_size: lives differentiated at once; more fill a GPU.
        seed: of everything drawn; None draws one.
        device: where the networks live.
        tensorboard_log: folder for TensorBoard; None: no log.
        verbose: 1 prints what is logged.

    Attributes:
        policy: the policy that is trained.
        generation: generations done.
        seconds: that they took.
        history: per generation the mean, best and standard deviation of fitness, which is minus
            the final loss of each life.

    Raises:
        ValueError: an environment that autograd cannot follow.
        FloatingPointError: in learning, all lives of a generation diverged; one that does while
            others do not counts as no gradient.
    """

    def __init__(
        self,
        policy: str | type[TopDownPolicy],
        env: str | Sequence[str] | None,
        env_kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        *,
        lives: int = 2,
        resample_lives: bool = True,
        learning_rate: float = 0.005,
        anneal_over: int | None = None,
        anneal_to: float = 0.05,
        max_grad_norm: float = 1.0,
        learn_rate: bool = False,
        jitter: float = 0.03,
        shortest: float = 1.0,
        lengthen_over: int | None = None,
        relative_loss: bool = False,
        calibrated_loss: bool = False,
        smoothing: float = 1e-8,
        recompute: bool = False,
        last_updates: int | None = None,
        chunk_size: int = 1,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        tensorboard_log: str | None = None,
        verbose: int = 0,
        _init_setup_model: bool = True,
    ) -> None:
        require_positive("learning_rate", learning_rate)
        if anneal_over is not None:
            require_at_least("anneal_over", anneal_over, 1)
        require_fraction("anneal_to", anneal_to)
        require_positive("max_grad_norm", max_grad_norm)
        require_not_negative("jitter", jitter)
        require_share("shortest", shortest)
        if lengthen_over is not None:
            require_at_least("lengthen_over", lengthen_over, 1)
            if shortest == 1.0:
                raise ValueError(
                    f"lengthen_over={lengthen_over} has nothing to grow from: give a shortest "
                    "below 1.0"
                )
        for name, choice in (
            ("learn_rate", learn_rate),
            ("relative_loss", relative_loss),
            ("calibrated_loss", calibrated_loss),
            ("recompute", recompute),
        ):
            require_one_of(name, choice, (True, False))
        require_positive("smoothing", smoothing)
        if last_updates is not None:
            require_at_least("last_updates", last_updates, 1)
        require_at_least("chunk_size", chunk_size, 1)
        super().__init__(
            policy,
            None,
            () if env is None else ids_of(env),
            env_kwargs,
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            lives=lives,
            resample_lives=resample_lives,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
        )
        self.initial_rate = learning_rate
        self.anneal_over = anneal_over
        self.anneal_to = anneal_to
        self.max_grad_norm = max_grad_norm
        self.learn_rate = learn_rate
        self.jitter = jitter
        self.shortest = shortest
        self.lengthen_over = lengthen_over
        self.relative_loss = relative_loss
        self.calibrated_loss = calibrated_loss
        self.smoothing = smoothing
        self.recompute = recompute
        self.last_updates = last_updates
        self.chunk_size = chunk_size
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        assert self.seed is not None
        self._require_environment()
        device = {} if str(self.device) == "cpu" else {"device": str(self.device)}
        envs = [
            _followable(env_id, {**device, **kwargs})
            for env_id, kwargs in zip(self.env_ids, self.env_kwargs, strict=True)
        ]
        check_columns(self.policy_class, self.env_ids, envs)
        self._take_spaces(envs[0])
        self.policy = self._make_policy(envs[0])
        for env in envs:
            # Some refuse networks that they cannot read.
            self.policy.attach(env)
        self._unrolls = [self._unroll(env) for env in envs]
        # The inner learning rate is the environment's times exp of this.
        self.log_rate_factor = nn.Parameter(torch.zeros((), device=self.policy.beta.device))
        learned = [self.policy.beta, *([self.log_rate_factor] if self.learn_rate else [])]
        self.optimizer = torch.optim.Adam(learned, lr=self.initial_rate, betas=_BETAS)

    def _make_policy(self, env: CreditAssignVectorEnv) -> TopDownPolicy:
        assert self.seed is not None
        policy: TopDownPolicy = self.policy_class(  # type: ignore[assignment]
            env.single_observation_space, env.single_action_space, **self.policy_kwargs
        )
        generator = torch.Generator().manual_seed(self.seed)
        policy.initialise(generator)
        if self.jitter:
            start = policy.beta.detach().clone()
            policy.network.initialise(generator)
            with torch.no_grad():
                policy.beta.mul_(self.jitter).add_(start)
        return policy.to(env.task.device)

    def _unroll(self, env: CreditAssignVectorEnv) -> Unroll:
        assert isinstance(env.task, ClassificationTask)
        return Unroll(
            env.task,
            self.policy.act_on,
            env.num_updates,
            env.credit_scale,
            recompute=self.recompute,
            last_updates=self.last_updates,
            smoothing=self.smoothing,
            calibrated=self.calibrated_loss,
        )

    @property
    def meta_training(self) -> dict[str, Mapping[str, Any]]:
        """Keyword arguments with which networks were trained, by environment id.

        With the inner learning rate as learned, so that the policy can be used without this.
        """
        trained = super().meta_training
        if not self.learn_rate:
            return trained
        pairs = zip(trained.items(), self.inner_learning_rates, strict=True)
        return {env_id: {**kwargs, "learning_rate": rate} for (env_id, kwargs), rate in pairs}

    # ------------------------------------------------------------------ learning

    @property
    def timesteps_per_generation(self) -> int:
        """Updates of bottom-up networks in one generation."""
        return self.lives * sum(unroll.num_updates for unroll in self._unrolls)

    @property
    def inner_learning_rates(self) -> tuple[float, ...]:
        """Of the inner optimiser in each environment, as learned so far."""
        factor = float(self.log_rate_factor.detach().exp())
        return tuple(unroll.learning_rate * factor for unroll in self._unrolls)

    def _advance(self) -> NDArray[np.float64]:
        """One generation: live, differentiate, and move the parameters."""
        rate = self.initial_rate * self._annealing()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seeds = self.life_seeds
        chunks = [
            self._gradients(place, seeds[start : start + self.chunk_size])
            for place in range(len(self._unrolls))
            for start in range(0, self.lives, self.chunk_size)
        ]
        losses = torch.cat([losses for losses, _ in chunks])
        gradients = torch.cat([gradients for _, gradients in chunks])
        norms = gradients.norm(dim=1)
        if not norms.isfinite().any():
            raise FloatingPointError(
                f"all {len(norms)} lives of generation {self.generation + 1} diverged; lower the "
                "environment's learning_rate"
            )
        gradient = self._clipped(gradients, norms).mean(0)
        self.policy.beta.grad, self.log_rate_factor.grad = gradient[:-1], gradient[-1]
        self.optimizer.step()
        self._log(norms, rate)
        return -losses.cpu().numpy().astype(np.float64)

    def _annealing(self) -> float:
        if self.anneal_over is None:
            return 1.0
        progress = min(self.generation / self.anneal_over, 1.0)
        return self.anneal_to + (1.0 - self.anneal_to) * (1.0 + cos(pi * progress)) / 2.0

    def _gradients(self, place: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Losses `(L,)` of these lives in one environment, and their gradients `(L, d + 1)`.

        By the parameters and, in the last column, by the logarithm of the learning rate's factor.
        """
        unroll = self._unrolls[place]
        learned = torch.cat([self.policy.beta.detach(), self.log_rate_factor.detach()[None]])
        each = learned.expand(len(seeds), -1).clone().requires_grad_()
        rates = unroll.learning_rate * each[:, -1].exp()
        losses = unroll.losses(seeds, each[:, :-1], rates, *self._sizes(place, seeds[0]))
        objective = losses.log() if self.relative_loss else losses
        (gradients,) = torch.autograd.grad(objective.sum(), each)
        return losses.detach(), gradients

    def _sizes(self, place: int, seed: int) -> tuple[int, int]:
        """Images and updates of a life, and of those that are differentiated with it."""
        unroll = self._unrolls[place]
        most = np.array([unroll.num_samples, unroll.num_updates])
        # Other ones in every environment, although the lives have the same seeds.
        drawn = np.random.default_rng([seed, place]).random(2)
        fractions = self._longest * (self.shortest / self._longest) ** drawn
        samples, updates = np.maximum(np.round(most * fractions), 1).astype(int)
        return int(samples), int(updates)

    @property
    def _longest(self) -> float:
        """Fraction of the whole life that the largest one has in this generation."""
        if self.lengthen_over is None:
            return 1.0
        progress = min(self.generation / self.lengthen_over, 1.0)
        return float(self.shortest ** (1 - progress))

    def _clipped(self, gradients: Tensor, norms: Tensor) -> Tensor:
        """Gradients `(L, d + 1)` scaled down; those of lives that diverged are 0."""
        factor = (self.max_grad_norm / norms.clamp(min=1e-12)).clamp(max=1.0)
        return (gradients * factor[:, None]).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    def _log(self, norms: Tensor, rate: float) -> None:
        record = self.logger.record
        record("meta_gradient/norm", norms.mean().item())
        record("meta_gradient/learning_rate", rate)
        record("meta_gradient/inner_learning_rate", self.inner_learning_rates[0])

    # ------------------------------------------------------------------ saving

    def _excluded_save_params(self) -> list[str]:
        derived = ["_unrolls", "optimizer", "log_rate_factor"]
        return [*super()._excluded_save_params(), *derived]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "optimizer"], ["log_rate_factor"]


def _followable(env_id: str, env_kwargs: Mapping[str, Any]) -> CreditAssignVectorEnv:
    """A classification environment that autograd can follow.

    Raises:
        ValueError: it cannot follow this one.
    """
    env = gymnasium.make_vec(env_id, num_envs=1, **env_kwargs)
    task = env.task if isinstance(env, CreditAssignVectorEnv) else None
    if isinstance(task, ClassificationTask):
        settings = task.settings
        if settings.architecture != "residual" and settings.credit != "parameters":
            assert isinstance(env, CreditAssignVectorEnv)
            return env
        kind = f'architecture="{settings.architecture}" and credit="{settings.credit}"'
    else:
        kind = "another task"
    raise ValueError(
        'meta-gradients go through the updates of image classifiers with architecture="mlp" or '
        f'"cnn" and credit="neurons" or "groups"; {env_id} has {kind}: use PGPE there'
    )
