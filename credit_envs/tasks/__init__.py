"""Tasks: what the bottom-up networks learn."""

from credit_envs.tasks.classification import ClassificationTask
from credit_envs.tasks.control import ControlTask
from credit_envs.tasks.surfaces import SurfaceTask
from credit_envs.tasks.task import Task

__all__ = ["ClassificationTask", "ControlTask", "SurfaceTask", "Task"]
