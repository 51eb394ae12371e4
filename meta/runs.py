"""A run's folder: its configuration, its latest checkpoint, its results and figures."""

import json
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from stable_baselines3.common.callbacks import BaseCallback

from credit_envs import __version__
from credit_envs.files import atomic_path

_PACKAGES = ("credit-envs", "torch", "gymnasium", "stable-baselines3", "numpy")


@dataclass(frozen=True)
class Run:
    """One run of `train.py`.

    Attributes:
        folder: where everything of it lies.
        config: what was asked for, as resolved from the command line.
    """

    folder: Path
    config: Mapping[str, Any]

    @classmethod
    def create(cls, logdir: Path, config: Mapping[str, Any]) -> Self:
        """A new folder under `logdir`, named after agent, environment, seed and time.

        Raises:
            OSError: the folder cannot be written.
        """
        moment = time.strftime("%Y%m%d-%H%M%S")
        name = f"{config['agent']}_{config['env']}_seed{config['seed']}_{moment}"
        folder = logdir / name
        suffix = 1
        while folder.exists():
            suffix += 1
            folder = logdir / f"{name}_{suffix}"
        run = cls(folder, config)
        run._write("config.json", config)
        return run

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The run that lies in `folder`.

        Raises:
            ValueError: there is none, or not one of this version.
        """
        try:
            config = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{folder} holds no run ({error}); name the folder that an earlier run printed, "
                "the one with config.json in it"
            ) from error
        saved_by = config.get("version") if isinstance(config, dict) else None
        if saved_by != __version__:
            raise ValueError(
                f"{folder} holds a run of version {saved_by}, and this is {__version__}; go on "
                "with that version, or start a new run"
            )
        return cls(folder, config)

    @property
    def checkpoint(self) -> Path:
        """The latest complete checkpoint."""
        return self.folder / "model.zip"

    @property
    def figures(self) -> Path:
        """Where figures go."""
        return self.folder / "figures"

    def write_results(self, results: Mapping[str, Any]) -> Path:
        """Keep the results, with what made them."""
        self._write("results.json", {**results, "config": self.config, "made_by": provenance()})
        return self.folder / "results.json"

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        with atomic_path(self.folder / name) as unfinished:
            unfinished.write_text(json.dumps(content, indent=2) + "\n")


class Checkpoint(BaseCallback):
    """Saves the model after a generation, as often as costs no more than a twentieth of the time.

    A run that is killed goes on from the last checkpoint and ends as if it had not been, because
    every generation follows from the one before alone.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._next = 0.0

    def _on_step(self) -> bool:
        if time.monotonic() >= self._next:
            self._save()
        return True

    def _on_training_end(self) -> None:
        self._save()

    def _save(self) -> None:
        started = time.monotonic()
        self.model.save(self._path)
        now = time.monotonic()
        self._next = now + 20 * (now - started)


def provenance() -> dict[str, Any]:
    """Versions, hardware, commit and time, which every result carries."""
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "hardware": _processor(),
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _processor() -> str:
    """Cores, their name and, for names say little, the vector instructions that PyTorch uses."""
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{_named_processor()} ({vectors})"


def _named_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.machine()


def _commit() -> str:
    """The commit of the sources, "+" added where they were changed since; "unknown" outside git."""
    source = Path(__file__).parent
    try:
        head, changes = (
            subprocess.run(
                ["git", *command], cwd=source, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (
                ["rev-parse", "--short", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no", "--", ":/*.py"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changes else head
