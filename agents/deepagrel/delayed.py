"""AuGMEnT: learning from rewards that arrive after several actions.

"How attention can create synaptic tags for the learning of working memories in sequential tasks",
Rombouts, Bohte and Roelfsema, PLoS Computational Biology 11(3), 2015, for networks of any depth,
as "DeepAGREL: biologically plausible deep learning via direct reinforcement", 2019, has it in mind.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, safe_mean
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.deepagrel.base import LocalLearner
from agents.deepagrel.network import Activities
from agents.deepagrel.policy import (
    AuGMEnTPolicy,
    DeepAGRELCnnPolicy,
    DeepAGRELLocConPolicy,
    DeepAGRELPolicy,
    choose,
)
from agents.deepagrel.tags import Tags
from credit_envs.checks import require_at_least, require_unit

_Array = NDArray[Any]


class AuGMEnT(LocalLearner):
    """Learns Q-values of rewards to come, by tags at the synapses and one global error.

    In step t the network sees the state, and has chosen action s (max-Boltzmann). Feedback from
    s, gated as in `DeepAGREL`, leaves tags at the synapses, which decay (see `Tags`):

        e_t = γλ · e_{t−1} + ∂q_s(t)/∂w        (local: y_i · g_j · fb_j)

    Then come the reward and the next state, in which it chooses s'. The prediction error

        δ_t = r_t + γ · q_{s'}(t+1) − q_s(t)        (without q_{s'} where the episode has ended)

    reaches all synapses, and each changes by α · δ_t · e_t, averaged over the environments, which
    learn in parallel and have tags of their own. This is SARSA(λ) (Sutton and Barto, Reinforcement
    learning, 2018, Section 12.7) with tied feedback, and other feedback weights may carry it as in
    `DeepAGREL`; no autograd is involved. With λ = 0, and episodes of one step, it is DeepAGREL.

    An episode that is cut by a time limit goes on in the values: δ has the value of an action
    chosen in its last state.

    Networks have no biases, so that q is proportional to the state: 0 where all features are
    0. Rewards suit it that are 0 there, such as −1 for a failure; else let a feature be constant.
    Features should be of about the same size; the policy's `mean` and `std` see to that. The
    memory units of the paper are not here: states must tell what the next action depends on.

    | logged | meaning |
    |---|---|
    | `rollout/ep_rew_mean` | return, mean of the last 100 episodes |
    | `rollout/ep_len_mean` | their length |
    | `rollout/exploration_rate` | ε |
    | `train/mean_abs_rpe` | mean of |δ| since the last entry |
    | `train/learning_rate` | α |
    | `weights/norm_…` | norm of w by layer |
    | `feedback/angle_…` | angle between w and w' by layer, degrees; if w' has the shape of w |
    | `time/fps` | steps of all environments per second since `learn` began |

    Args:
        policy: "MlpPolicy", or a `DeepAGRELPolicy` class that is fully connected and has no
            dropout: filters are shared between places, and tags belong to one synapse.
        env: an environment id, of which `num_envs` are made, or an environment or a vector
            environment of Gymnasium or Stable-Baselines3.
        learning_rate: α, or a function of the remaining progress. The default is for returns of
            about one. With larger ones, such as CartPole's 1 for every step, networks diverge:
            pay failure alone, or take a tenth.
        num_envs: environments that are made if an id is given.
        gamma: γ, from 0 to 1, by which a reward counts less with every step.
        tag_decay: λ, from 0 to 1, which tags keep in every step besides γ. With 0 only the last
            action learns.
        epsilon: ε, how often the choice is Boltzmann's, or a function of the remaining progress.
        env_kwargs: keyword arguments of the environment, if an id is given.
        policy_kwargs: keyword arguments of the policy.
        seed: of everything drawn; None draws one.
        device: where the network lives.
        tensorboard_log: folder for TensorBoard; None: no log.
        verbose: 1 prints what is logged.

    Attributes:
        policy: with `q_net`, a module from raw observations to Q-values, and `feedback` weights.
        tags: at the synapses; none if γλ = 0.
        epsilon: ε of the last step.

    Raises:
        ValueError: bad arguments, or an environment of another kind.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": AuGMEnTPolicy,
        # So that their name is known, and what is refused is that they share weights.
        "CnnPolicy": DeepAGRELCnnPolicy,
        "LocConPolicy": DeepAGRELLocConPolicy,
    }

    def __init__(
        self,
        policy: str | type[DeepAGRELPolicy],
        env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv | None,
        learning_rate: float | Schedule = 0.2,
        num_envs: int = 8,
        gamma: float = 0.99,
        tag_decay: float = 0.9,
        epsilon: float | Schedule = 0.05,
        *,
        env_kwargs: Mapping[str, Any] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        seed: int | None = None,
        device: torch.device | str = "auto",
        tensorboard_log: str | None = None,
        verbose: int = 0,
        _init_setup_model: bool = True,
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        require_unit("gamma", gamma)
        require_unit("tag_decay", tag_decay)
        if not callable(epsilon):
            require_unit("epsilon", epsilon)
        self._num_envs_of_id = num_envs
        self.gamma = gamma
        self.tag_decay = tag_decay
        self.exploration = FloatSchedule(epsilon)
        self._next_actions: _Array | None = None
        super().__init__(
            policy,
            env,
            learning_rate,
            self.exploration(1.0),
            env_kwargs=env_kwargs,
            policy_kwargs=policy_kwargs,
            seed=seed,
            device=device,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            _init_setup_model=_init_setup_model,
        )

    @property
    def num_envs_of_id(self) -> int:
        """As given."""
        return self._num_envs_of_id

    def _setup_model(self) -> None:
        super()._setup_model()
        self.tags = Tags(self.policy.q_net, 0)
        self._sums = torch.zeros(2, dtype=torch.float64)

    # ------------------------------------------------------------------ learning

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn from `total_timesteps` steps of all environments together, or a few more.

        Args:
            total_timesteps: steps.
            callback: called after every step of the vector environment; returning False stops.
            log_interval: updates between log entries.
            tb_log_name: name of the TensorBoard run; None: that of the class.
            reset_num_timesteps: count from 0, in new episodes; False goes on from where learning
                stopped, tags included.
            progress_bar: show one, by steps.

        Returns:
            This.

        Raises:
            FloatingPointError: the network has diverged.
        """
        require_at_least("log_interval", log_interval, 1)
        require_at_least("total_timesteps", total_timesteps, 0)
        if self.env is None:
            self.env = self._make_env_anew()
        env = self.env
        episodes_begin = reset_num_timesteps or self._last_obs is None
        total_timesteps, callbacks = self._setup_learn(
            total_timesteps,
            callback,
            reset_num_timesteps,
            tb_log_name or type(self).__name__,
            progress_bar,
        )
        if episodes_begin:
            self._begin()
        callbacks.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self.epsilon = self.exploration(self._current_progress_remaining)
            self.policy.epsilon = self.epsilon
            activities, actions = self._act()
            observation, rewards, dones, infos = env.step(actions)
            assert isinstance(observation, np.ndarray)
            self._last_obs = observation
            self.num_timesteps += env.num_envs
            self._count(rewards, dones, infos)
            self._learn_from(activities, actions, rewards, dones, infos)
            if self._n_updates % log_interval == 0:
                self._log()
            callbacks.update_locals(locals())
            if not callbacks.on_step():
                break
        self._require_finite_weights()
        callbacks.on_training_end()
        return self

    def _begin(self) -> None:
        """New episodes in all environments: no tags, and nothing chosen yet."""
        self.tags = Tags(self.policy.q_net, self.n_envs)
        self._next_actions = None
        self._sums.zero_()
        self._returns = np.zeros(self.n_envs)
        self._lengths = np.zeros(self.n_envs, dtype=np.int64)

    @torch.no_grad()
    def _act(self) -> tuple[Activities, _Array]:
        """The network's activities, and the actions, chosen when their value was asked for."""
        assert isinstance(self._last_obs, np.ndarray)
        activities = self.policy.q_net.activities(self._to_tensor(self._last_obs))
        actions = self._next_actions
        if actions is None:
            actions = self._choose(activities.q_values).cpu().numpy()
        return activities, actions

    @torch.no_grad()
    def _learn_from(
        self,
        activities: Activities,
        chosen: _Array,
        rewards: _Array,
        dones: _Array,
        infos: Sequence[Mapping[str, Any]],
    ) -> None:
        """One update of all weights, and the choice of the next actions, before it."""
        actions = self._to_tensor(chosen)
        q_chosen = _of(activities.q_values, actions)
        next_values = self._look_ahead(dones, infos)
        rpe = self._to_tensor(rewards).to(q_chosen) + self.gamma * next_values - q_chosen
        rate = self.lr_schedule(self._current_progress_remaining) / self.n_envs
        policy, keep = self.policy, self.gamma * self.tag_decay
        if keep == 0:
            # A tag would be gone before the next; DeepAGREL's update needs none.
            policy.q_net.learn(
                activities, actions, rpe, policy.feedback, rate, kind=policy.feedback_kind
            )
        else:
            self.tags.mark(activities, actions, policy.feedback, policy.feedback_kind, keep)
            self.tags.learn(rpe, policy.feedback, policy.feedback_kind, rate)
            self.tags.forget(dones)
        self._n_updates += 1
        self._sums = self._sums.to(self.device)
        self._sums += torch.stack((rpe.abs().sum(), rpe.new_tensor(len(rpe))))

    def _look_ahead(self, dones: _Array, infos: Sequence[Mapping[str, Any]]) -> Tensor:
        """Choose the next actions; their Q-values, 0 where there are none, `(n_envs,)`."""
        assert isinstance(self._last_obs, np.ndarray)
        q_values = self.policy.q_net(self._to_tensor(self._last_obs))
        actions = self._choose(q_values)
        self._next_actions = actions.cpu().numpy()
        values = _of(q_values, actions)
        # Infos are made when looked at, which costs more than many a step.
        ended = np.flatnonzero(dones)
        if len(ended):
            values[torch.from_numpy(ended)] = 0.0
            cut = [i for i in ended.tolist() if infos[i].get("TimeLimit.truncated", False)]
            if cut:
                last = np.stack([infos[i]["terminal_observation"] for i in cut])
                q_last = self.policy.q_net(self._to_tensor(last))
                values[torch.tensor(cut)] = _of(q_last, self._choose(q_last))
        return values

    def _choose(self, q_values: Tensor) -> Tensor:
        return choose(q_values, self.epsilon, self.generator)

    # ------------------------------------------------------------------ logging

    def _count(self, rewards: _Array, dones: _Array, infos: Sequence[Mapping[str, Any]]) -> None:
        """Keep returns and lengths of episodes that have ended, as `Monitor` tells them if any."""
        assert self.ep_info_buffer is not None
        self._returns += rewards
        self._lengths += 1
        for i in np.flatnonzero(dones).tolist():
            own = {"r": float(self._returns[i]), "l": int(self._lengths[i])}
            self.ep_info_buffer.append(infos[i].get("episode", own))
        self._returns[dones] = 0
        self._lengths[dones] = 0

    def _log(self) -> None:
        assert self.ep_info_buffer is not None
        abs_rpe, count = self._sums.tolist()
        self._sums.zero_()
        if not np.isfinite(abs_rpe):
            raise self._divergence()
        record = self.logger.record
        if self.ep_info_buffer:
            episodes = self.ep_info_buffer
            record("rollout/ep_rew_mean", safe_mean([episode["r"] for episode in episodes]))
            record("rollout/ep_len_mean", safe_mean([episode["l"] for episode in episodes]))
        record("rollout/exploration_rate", self.epsilon)
        record("train/mean_abs_rpe", abs_rpe / count)
        record("train/learning_rate", self.lr_schedule(self._current_progress_remaining))
        self._record_network()
        self.logger.dump(self.num_timesteps)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy"], ["tags.values", "_sums"]


def _of(q_values: Tensor, actions: Tensor) -> Tensor:
    """Q-values of the chosen actions, `(B,)`."""
    return q_values.gather(1, actions[:, None])[:, 0]
