"""Workers on a Ray cluster: actors, on whatever machines it has."""

import os
import socket
import warnings
from concurrent.futures import Future
from typing import Any

import torch

from credit_envs.memory import keep_freed_memory
from credit_envs.workers import Worker, WorkerError, WorkerPool
from meta.population import Evaluator, EvaluatorSettings, Generation
from meta.workers import OPTION, Losses

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise ImportError(
        'Ray is not installed: pip install -c constraints.txt ".[ray]", or leave out ray'
    ) from error


class RayWorkerPool(WorkerPool[Generation, int, Losses]):
    """Ray actors that evaluate candidates, on one CPU each.

    Args:
        settings: what each actor needs.
        num_workers: how many actors; 0: one for each CPU of the cluster. Those for which the
            cluster has no CPU now join in when it has.
        address: of the cluster; "auto": one that runs here or that `RAY_ADDRESS` names, or else
            one that is started on this machine and stopped in the end. If this process is
            connected already, that counts.
        timeout: seconds in which a chunk must be done; None: see `WorkerPool`.

    Raises:
        WorkerError: there is no cluster at that address.
    """

    deaths = (RayError,)
    # An actor for which there is no CPU yet is pending, however long.
    START_LIMIT = None

    def __init__(
        self,
        settings: EvaluatorSettings,
        num_workers: int,
        address: str = "auto",
        timeout: float | None = None,
    ) -> None:
        self._connected_here = not ray.is_initialized()
        if self._connected_here:
            _connect(address, num_workers)
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if num_workers > cpus:
            warnings.warn(
                f"the Ray cluster has {cpus} CPUs for {num_workers} workers; the others start "
                "when there are more",
                RuntimeWarning,
                stacklevel=2,
            )
        super().__init__(num_workers or max(cpus, 1), timeout, OPTION)
        self._settings = ray.put(settings)

    def _start(self) -> Worker:
        return RayWorker(self._settings)

    def _share(self, shared: Generation) -> Any:
        # Sent once to each machine, not once for each chunk.
        return ray.put(shared)

    def _error(self, future: Future[Any]) -> BaseException | None:
        error = super()._error(future)
        if isinstance(error, RayTaskError):
            # As it would have been raised here; with Ray's account of where it was.
            cause: BaseException = error.cause
            cause.__cause__ = error
            return cause
        return error

    def close(self) -> None:  # noqa: D102
        super().close()
        if self._connected_here:
            ray.shutdown()


class RayWorker(Worker):
    """One actor.

    Args:
        settings: reference to what it needs.
    """

    def __init__(self, settings: Any) -> None:
        self.actor = _Actor.remote()  # type: ignore[attr-defined]
        self.ready = self.actor.begin.remote(settings).future()

    def submit(self, shared: Any, task: int) -> Future[Losses]:  # noqa: D102
        future: Future[Losses] = self.actor.losses.remote(shared, task).future()
        return future

    def kill(self) -> None:  # noqa: D102
        ray.kill(self.actor)


@ray.remote(num_cpus=1)
class _Actor:
    def begin(self, settings: EvaluatorSettings) -> None:
        torch.set_num_threads(1)
        keep_freed_memory()
        self._evaluator = Evaluator(settings)

    def losses(self, generation: Generation, chunk: int) -> Losses:
        return self._evaluator.losses(generation, chunk)


def _connect(address: str, num_workers: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    try:
        _require_listener(address)
        ray.init(address, **quiet)
    except (OSError, ValueError) as error:
        if address != "auto":
            raise WorkerError(
                f"no Ray cluster at {address} ({error}); it takes host:port, as `ray start --head` "
                "prints it, or auto to start one on this machine"
            ) from error
        cpus = num_workers or os.cpu_count()
        ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)


def _require_listener(address: str) -> None:
    """Ray itself tries for minutes before it finds that nobody is there."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
