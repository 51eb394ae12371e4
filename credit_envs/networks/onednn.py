"""Two operations by oneDNN, which PyTorch ships but does not take for dense float32 tensors.

On processors with AVX-512, oneDNN computes tanh ten times faster than PyTorch's own loop, and on
those not made by Intel matrix products twice as fast as the MKL that PyTorch calls, which uses half
of their vector width. Elsewhere, and for other types and autograd, this is plain PyTorch.
"""

import torch
from torch import Tensor

_AVAILABLE = torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)

_LARGEST_PART = 2**17
"""Elements of a part: 512 KiB."""


def _suits(*tensors: Tensor) -> bool:
    return _AVAILABLE and all(
        x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() and not x.requires_grad
        for x in tensors
    )


def product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` of two matrices, or of two batches of them."""
    if not _suits(a, b):
        return torch.matmul(a, b)
    if a.dim() == 3:
        return torch.stack([product(left, right) for left, right in zip(a, b, strict=True)])
    # PyTorch's compiler emits this operator for linear layers: a @ weightᵀ.
    result: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
    return result


def tanh(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Hyperbolic tangents of `(P, …)`, into `out` if given."""
    if not _suits(x):
        return torch.tanh(x, out=out)
    out = torch.empty_like(x) if out is None else out
    # In parts, so that the copies to and from oneDNN's tensors stay in the cache.
    networks = max(1, _LARGEST_PART * len(x) // x.numel())
    for part, result in zip(torch.split(x, networks), torch.split(out, networks), strict=True):
        result.copy_(part.to_mkldnn().tanh_().to_dense())
    return out
