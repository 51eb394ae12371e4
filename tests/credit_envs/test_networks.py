"""Credit diffusion, inner optimisers, inputs and products, on their own."""

from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import pytest
import torch

from benchmarks.common.reference_inner_loop import literal_diffusion
from credit_envs.networks import OptimizerName, SharedInputs, diffusion_kernel, make_optimizer
from credit_envs.networks.onednn import add_product, product, tanh, tanh_layer


@pytest.mark.parametrize(
    ("groups", "neurons", "sigma"),
    [(4, 12, 2.0), (1, 7, 0.5), (5, 5, 1.0), (3, 12, 50.0), ((2, 2), 16, 1.5), ((3, 1), 9, 4.0)],
)
def test_diffusion_follows_equation_2(
    groups: int | tuple[int, int], neurons: int, sigma: float
) -> None:
    kernel = diffusion_kernel(groups, neurons, sigma)
    torch.testing.assert_close(
        kernel, literal_diffusion(groups, neurons, sigma), rtol=0, atol=1e-15
    )


def test_diffusion_by_hand() -> None:
    """Two groups of three neurons: the centre gets all, its neighbours exp(−1/4)."""
    near = torch.exp(torch.tensor(-0.25, dtype=torch.float64)).item()
    expected = [[near, 0], [1, 0], [near, 0], [0, near], [0, 1], [0, near]]
    torch.testing.assert_close(
        diffusion_kernel(2, 6, 2.0), torch.tensor(expected, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("groups", "neurons", "message"),
    [
        (3, 10, "3 credit groups do not divide 10 neurons"),
        (0, 10, "0 credit groups do not divide"),
        ((2, 2), 10, "square number of neurons, not 10; use 9 neurons"),
        ((2, 3), 16, "3 credit groups do not divide 4"),
    ],
)
def test_diffusion_refuses_groups_that_do_not_tile(
    groups: int | tuple[int, int], neurons: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        diffusion_kernel(groups, neurons, 1.0)


def random_gradients(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, *shape, generator=generator) for shape in ((4, 6), (2, 5))]


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_optimizers_reset_one_network(name: OptimizerName) -> None:
    """A network that restarts goes like a fresh one; its neighbours go on undisturbed."""
    used, fresh, undisturbed = ([torch.zeros_like(g) for g in random_gradients(0)] for _ in "123")
    optimizers = [make_optimizer(name, w, 0.1, 1.0) for w in (used, fresh, undisturbed)]
    for seed in range(3):
        optimizers[0].step(random_gradients(seed))
        optimizers[2].step(random_gradients(seed))
    optimizers[0].reset(slice(1, 2))
    for weight in used:
        weight[1] = 0.0
    for seed in (7, 8):
        for optimizer in optimizers:
            optimizer.step(random_gradients(seed))
    for weight, like_new, like_old in zip(used, fresh, undisturbed, strict=True):
        torch.testing.assert_close(weight[1], like_new[1], rtol=0, atol=0)
        torch.testing.assert_close(weight[[0, 2]], like_old[[0, 2]], rtol=0, atol=0)
        if name != "sgd":
            assert not torch.allclose(weight[1], like_old[1])


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_optimizers_clip_each_network_on_its_own(name: OptimizerName) -> None:
    """A network's huge gradient must not touch its neighbours."""
    calm, disturbed = ([torch.zeros_like(g) for g in random_gradients(0)] for _ in "12")
    gradients, larger = random_gradients(1), random_gradients(1)
    for gradient in larger:
        gradient[0] *= 1e6
    make_optimizer(name, calm, 0.1, 1.0).step(gradients)
    make_optimizer(name, disturbed, 0.1, 1.0).step(larger)
    for one, other in zip(calm, disturbed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    if name == "sgd":
        norm = torch.cat([weight[0].flatten() for weight in disturbed]).norm()
        assert norm.item() == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 500, 300), (1, 1), (0, 4)])
def test_tanh_is_exact_to_the_last_digit(shape: tuple[int, ...]) -> None:
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tiny = x * 1e-16
    for values in (x, tiny):
        exact = values.double().tanh()
        padded = torch.full((*shape[:-1], shape[-1] + 1), 7.0)
        out = padded[..., :-1]
        for result in (tanh(values), tanh(values, out=out)):
            torch.testing.assert_close(result.double(), exact, rtol=3e-7, atol=0)
        assert (padded[..., -1] == 7.0).all()


@pytest.mark.parametrize("samples", [50, 1000], ids=["PyTorch", "oneDNN"])
def test_tanh_layers_of_equal_size_do_not_share_memory(samples: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(2, 6, n, generator=generator) for n in (samples, 6))
    bias = torch.randn(2, 6, 1, generator=generator)
    below = tanh_layer(bias, weight, x, 0)
    above = tanh_layer(bias, weight, below, 1)
    expected = torch.tanh(weight @ x + bias)
    torch.testing.assert_close(below, expected)
    torch.testing.assert_close(above, torch.tanh(weight @ expected + bias))


def test_tanh_made_in_inference_mode_goes_on_outside() -> None:
    x = torch.full((1, 3, 7), 0.5)
    with torch.inference_mode():
        tanh(x)
    torch.testing.assert_close(tanh(x), torch.tanh(x))


def test_tanh_in_threads() -> None:
    """Threads at work on the same shape do not meet in oneDNN's memory."""
    values = [torch.full((2, 100, 300), 0.1 * i) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for x, result in zip(values, pool.map(tanh, values), strict=True):
                torch.testing.assert_close(result, torch.tanh(x))


def test_tanh_and_product_have_gradients() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tanh(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 1 - x.detach().tanh() ** 2)
    x.grad = None
    tanh_layer(torch.zeros(1, 1, 1), torch.ones(1, 1, 3), x[None], 0).sum().backward()
    torch.testing.assert_close(x.grad, (1 - x.detach().sum(0).tanh() ** 2).expand(3, 4))
    x.grad = None
    product(x, torch.ones(4, 2)).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 2.0))


def test_product_of_a_batch_of_large_matrices() -> None:
    """Large enough for oneDNN, which takes them one by one."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 130, 130, generator=generator) for _ in "ab")
    expected = (a.double() @ b.double()).float()
    torch.testing.assert_close(product(a, b), expected, rtol=0, atol=1e-4)
    out = torch.empty_like(expected)
    assert product(a, b, out=out) is out
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_product_of_views(batch: tuple[int, ...]) -> None:
    """Transposed and cut out of larger tensors, as the first layer uses it."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(*batch, 6, 40, generator=generator)[..., 3:33]
    b = torch.randn(*batch, 7, 30, generator=generator).transpose(-1, -2)
    expected = (a.double() @ b.double()).float()
    torch.testing.assert_close(product(a, b), expected, rtol=1e-5, atol=1e-5)
    assert product(a[..., :0], b[..., :0, :]).eq(0).all()


def test_lives_share_the_sizes_of_their_products() -> None:
    """Each size costs memory in oneDNN for as long as the process lives."""
    generator = torch.Generator().manual_seed(0)
    radius_needed = torch.linspace(1, 0, 300)[:, None]
    sizes: set[tuple[int, ...]] = set()
    for _ in range(40):
        samples = torch.rand(300, 500, generator=generator)
        within = torch.rand(500, generator=generator) ** 2 > radius_needed
        inputs = SharedInputs(torch.where(within, samples, torch.zeros(())))
        sizes |= {tuple(step.difference.shape) for step in inputs._steps}
        assert inputs.fraction_multiplied < 0.9
    assert len(sizes) < 25


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inner", [0, 1, 40])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_add_product(beta: float, inner: int, dtype: torch.dtype) -> None:
    a, b = torch.randn(6, inner, dtype=dtype), torch.randn(inner, 7, dtype=dtype)
    targets = [torch.randn(6, 7, dtype=dtype), torch.randn(6, 7, dtype=dtype)]
    expected = [beta * target + 0.3 * a @ b for target in targets]
    add_product(targets, a, b, 0.3, beta)
    for target, one in zip(targets, expected, strict=True):
        torch.testing.assert_close(target, one, rtol=1e-5, atol=1e-5)
