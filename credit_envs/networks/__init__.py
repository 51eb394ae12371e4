"""Bottom-up networks: batched forward pass and local update."""

from credit_envs.networks.diffusion import diffusion_kernel
from credit_envs.networks.inputs import GramInputs, Inputs, OwnInputs, SharedInputs
from credit_envs.networks.mlp import MLPBatch
from credit_envs.networks.optimizers import InnerOptimizer, OptimizerName, make_optimizer

__all__ = [
    "GramInputs",
    "InnerOptimizer",
    "Inputs",
    "MLPBatch",
    "OptimizerName",
    "OwnInputs",
    "SharedInputs",
    "diffusion_kernel",
    "make_optimizer",
]
