"""A few operations by oneDNN, which PyTorch ships but does not take for dense float32 tensors.

On processors with AVX-512, oneDNN computes tanh ten times faster than PyTorch's own loop, and on
those not made by Intel matrix products twice as fast as the MKL that PyTorch calls, which uses half
of their vector width. Elsewhere, and for other types and autograd, this is plain PyTorch.
"""

import ctypes
from collections.abc import Iterable
from functools import lru_cache
from math import prod
from threading import get_ident
from typing import NamedTuple

import torch
from torch import Tensor

_AVAILABLE = (
    torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and hasattr(torch.ops.mkldnn, "data_ptr")
)

_LARGEST_PART = 2**17
"""Elements of a part: 512 KiB."""
_SMALLEST_LAYER = 2**13
"""Elements of a layer for which the start of oneDNN, some 30 µs between other work, pays."""
_LARGEST_LAYER = 2**21
"""Elements of a layer that has memory of its own: 8 MiB."""
SMALLEST_PRODUCT = 2**21
"""Multiplications in a product for which the start of oneDNN, some 15 µs, pays."""
_SMALLEST_INNER = 32
"""Inner size from which a product of its own pays, though the sum passes over memory once more."""


def _suits(*tensors: Tensor) -> bool:
    return _AVAILABLE and all(
        x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() and not x.requires_grad
        for x in tensors
    )


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """`a @ b` of two matrices, or of two batches of them, into `out` if given."""
    if not _suits(a, b):
        return torch.matmul(a, b, out=out)
    if a.dim() == 3:
        if a[0].numel() * b.shape[2] < SMALLEST_PRODUCT:
            return torch.bmm(a, b, out=out)
        each = [product(left, right) for left, right in zip(a, b, strict=True)]
        return torch.stack(each, out=out)
    # PyTorch's compiler emits this operator for linear layers: a @ weightᵀ.
    result: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
    return result if out is None else out.copy_(result)


def add_product(
    targets: Iterable[Tensor], a: Tensor, b: Tensor, alpha: float, beta: float = 1.0
) -> None:
    """Replace each target by `beta · target + alpha · a @ b`."""
    if a.shape[1] < _SMALLEST_INNER or not _suits(a, b):
        for target in targets:
            target.addmm_(a, b, alpha=alpha, beta=beta)
        return
    change = product(a, b)
    for target in targets:
        if beta != 1.0:
            target.mul_(beta)
        target.add_(change, alpha=alpha)


def tanh(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Hyperbolic tangents of `(P, …)`, into `out` if given."""
    if not _suits(x):
        return torch.tanh(x, out=out)
    out = torch.empty_like(x) if out is None else out
    # In parts, so that the copies to and from oneDNN's memory stay in the cache.
    networks = max(1, _LARGEST_PART * len(x) // x.numel())
    for part, result in zip(torch.split(x, networks), torch.split(out, networks), strict=True):
        workspace = _workspace(part.shape, None, get_ident())
        workspace.elements.copy_(part)
        workspace.tensor.tanh_()
        result.copy_(workspace.elements)
    return out


def tanh_layer(bias: Tensor, weight: Tensor, x: Tensor, layer: int) -> Tensor:
    """`tanh(weight @ x + bias)` of batches of matrices.

    Args:
        bias: `(P, units, 1)`.
        weight: `(P, units, inputs)`.
        x: `(P, inputs, N)`.
        layer: number of the layer in its network; the result may be valid only until the next call
            with the same one.
    """
    shape = (*weight.shape[:2], x.shape[2])
    if prod(shape) < _SMALLEST_LAYER:
        return torch.tanh(torch.baddbmm(bias, weight, x))
    if not _suits(bias, weight, x) or prod(shape) > _LARGEST_LAYER:
        return tanh(torch.baddbmm(bias, weight, x))
    # In oneDNN's own memory: nothing is copied.
    workspace = _workspace(shape, layer, get_ident())
    torch.baddbmm(bias, weight, x, out=workspace.elements)
    workspace.tensor.tanh_()
    return workspace.elements


class _Workspace(NamedTuple):
    """A tensor of oneDNN, and its elements as an ordinary one."""

    tensor: Tensor
    elements: Tensor


@lru_cache(maxsize=16)
def _workspace(shape: tuple[int, ...], layer: int | None, thread: int) -> _Workspace:
    """Memory that PyTorch's conversions to and from oneDNN would allocate and copy every time.

    Every layer and every thread has its own.
    """
    # It outlives an inference mode in which it may be made.
    with torch.inference_mode(False):
        tensor = torch.zeros(shape).to_mkldnn()
        memory = (ctypes.c_float * tensor.numel()).from_address(torch.ops.mkldnn.data_ptr(tensor))
        # The elements keep `memory` alive, and with it the tensor that owns it.
        memory.owner = tensor  # type: ignore[attr-defined]
        elements = torch.frombuffer(memory, dtype=torch.float32).view(shape)
    return _Workspace(tensor, elements)
