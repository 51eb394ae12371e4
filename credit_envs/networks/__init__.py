"""Bottom-up networks: batched forward pass and local update."""

from credit_envs.networks.cnn import CNNBatch, SharedPatches, image_patches
from credit_envs.networks.diffusion import diffusion_kernel
from credit_envs.networks.inputs import GramInputs, Inputs, OwnInputs, SharedInputs
from credit_envs.networks.mlp import MLPBatch, forward_weights
from credit_envs.networks.optimizers import InnerOptimizer, OptimizerName, make_optimizer
from credit_envs.networks.residual import ResidualBatch

__all__ = [
    "CNNBatch",
    "GramInputs",
    "InnerOptimizer",
    "Inputs",
    "MLPBatch",
    "OptimizerName",
    "OwnInputs",
    "ResidualBatch",
    "SharedInputs",
    "SharedPatches",
    "diffusion_kernel",
    "forward_weights",
    "image_patches",
    "make_optimizer",
]
