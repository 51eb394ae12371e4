"""A progress bar that counts generations."""

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from tqdm.auto import tqdm


class GenerationProgress(BaseCallback):
    """Shows generations done, the time left and the latest fitness."""

    @classmethod
    def join(cls, callback: MaybeCallback) -> CallbackList:
        """This after `callback`, whichever form that has."""
        if isinstance(callback, list):
            return CallbackList([*callback, cls()])
        if callback is None:
            return CallbackList([cls()])
        single = callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)
        return CallbackList([single, cls()])

    def _on_training_start(self) -> None:
        per_generation = self.model.timesteps_per_generation  # type: ignore[attr-defined]
        total = -(-self.locals["total_timesteps"] // per_generation)
        done = self.model.num_timesteps // per_generation
        self._bar = tqdm(total=total, initial=done, unit="gen", dynamic_ncols=True)

    def _on_step(self) -> bool:
        mean, best, _ = self.model.history[-1]  # type: ignore[attr-defined]
        self._bar.set_postfix(fitness=f"{mean:.4g}", best=f"{best:.4g}")
        self._bar.update(1)
        return True

    def _on_training_end(self) -> None:
        self._bar.close()
