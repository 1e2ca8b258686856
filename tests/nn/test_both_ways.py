"""Two mixers of Mamba-1 on one video leave by one step, and give what each gives alone."""

from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from vidmamba.nn import mixer as mixers
from vidmamba.nn.bidirectional import Bidirectional
from vidmamba.nn.mixer import Mamba1Mixer, MambaConfig, share_parameters

# PyTorch's own, where a product is the first thing that a thread of autograd does
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")

WIDTH = 24


def make(width: int = WIDTH) -> Bidirectional:
    config = MambaConfig(state=5, conv_size=3)
    return Bidirectional(Mamba1Mixer(width, config), Mamba1Mixer(width, config, reverse=True))


def alone(mixer: Bidirectional, x: Tensor, **how: Any) -> Tensor:
    """The mean by its definition."""
    along: Tensor = mixer.along(x, **how)
    return (along + mixer.against(x, **how)) / 2


def gradients(mixer: Bidirectional, run: Any, x: Tensor, grad: Tensor, **how: Any) -> list[Tensor]:
    """What comes out, and the gradients of what went in and of the parameters."""
    x = x.clone().requires_grad_()
    y = run(x, **how)
    if run is mixer:
        assert leave_together(y)
    # what holds on to a graph holds on to its streams
    return [y.detach(), *torch.autograd.grad(y, [x, *mixer.parameters()], grad)]


def leave_together(y: Tensor) -> bool:
    assert y.grad_fn is not None
    return "LeaveBoth" in y.grad_fn.name()


@pytest.mark.parametrize("bounds", [None, [0, 1, 18, 18, 40]], ids=["whole", "packed"])
def test_both_ways_at_once_give_the_mean_of_each_alone(
    bounds: list[int] | None, device: torch.device
) -> None:
    mixer = make().to(device)
    x, grad = torch.randn(2, 1, 40, WIDTH, device=device).unbind()
    how = {} if bounds is None else {"offsets": torch.tensor(bounds, device=device)}
    actual = gradients(mixer, mixer, x, grad, **how)
    expected = gradients(mixer, lambda x, **how: alone(mixer, x, **how), x, grad, **how)
    for ours, exactly in zip(actual, expected, strict=True):
        error = (ours - exactly).norm() / exactly.norm()
        assert error < 2e-6
    with torch.no_grad():
        assert torch.equal(mixer(x, **how), actual[0])


@pytest.mark.gpu
def test_both_ways_give_the_same_bits_however_often() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    mixer = make(64).cuda().bfloat16()
    x, grad = torch.randn(2, 2, 3000, 64, device="cuda", dtype=torch.bfloat16).unbind()
    first = gradients(mixer, mixer, x, grad)
    for _ in range(22):  # from the eighteenth on, done again
        for again, before in zip(gradients(mixer, mixer, x, grad), first, strict=True):
            assert torch.equal(again, before)


def test_a_graph_that_is_kept_gives_its_gradients_twice(device: torch.device) -> None:
    # on a GPU what is kept has the memory of gradients, once it is not asked for again
    both = Mamba1Mixer(32, MambaConfig()), Mamba1Mixer(32, MambaConfig(), reverse=True)
    mixer = Bidirectional(*both).to(device).bfloat16()
    x = torch.randn(1, 64, 32, device=device, dtype=torch.bfloat16, requires_grad=True)
    y = mixer(x).square().sum()
    given = [x, *mixer.parameters()]
    first = torch.autograd.grad(y, given, retain_graph=True)
    second = torch.autograd.grad(y, given)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_who_watches_a_mixer_is_told() -> None:
    mixer, x = make(), torch.randn(1, 9, WIDTH, requires_grad=True)
    expected = alone(mixer, x)
    told: list[Any] = []
    mixer.against.register_forward_hook(lambda *call: told.append(call))
    y = mixer(x)
    assert len(told) == 1
    assert not leave_together(y)
    torch.testing.assert_close(y, expected)


def test_who_wraps_the_forward_of_a_mixer_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer, x = make(), torch.randn(1, 9, WIDTH)
    plain = mixer.along.forward
    monkeypatch.setattr(mixer.along, "forward", lambda x, **how: 2 * plain(x, **how))
    torch.testing.assert_close(mixer(x), alone(mixer, x))


def test_hooks_on_all_modules_are_called_for_both_mixers() -> None:
    mixer, x = make(), torch.randn(1, 9, WIDTH)
    called: list[Any] = []
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: called.append(module)
    )
    try:
        mixer(x)
    finally:
        handle.remove()
    assert mixer.along in called
    assert mixer.against in called


def test_shared_parameters_get_the_gradients_of_both_ways() -> None:
    mixer, x = make(), torch.randn(1, 9, WIDTH, requires_grad=True)
    other = make()
    share_parameters(mixer.along, mixer.against)
    for module in (other.along, other.against):
        module.load_state_dict(mixer.along.state_dict())
    mixer(x).square().sum().backward()
    other(x).square().sum().backward()
    both = (dict(module.named_parameters()) for module in (other.along, other.against))
    first, second = both
    for name, parameter in mixer.along.named_parameters():
        parts = first[name].grad, second[name].grad
        assert parameter.grad is not None
        assert parts[0] is not None
        assert parts[1] is not None
        torch.testing.assert_close(parameter.grad, parts[0] + parts[1], rtol=1e-4, atol=1e-5)


def test_long_videos_go_through_one_mixer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer, x = make(), torch.randn(1, 40, WIDTH)
    expected = mixer(x)
    assert leave_together(expected)
    monkeypatch.setattr(mixers, "PIECE", 10)
    monkeypatch.setattr(mixers, "CHUNK", 2)
    y = mixer(x)
    assert not leave_together(y)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_autocast_computes_both_ways_in_bfloat16() -> None:
    mixer, x = make(), torch.randn(1, 9, WIDTH, requires_grad=True)
    expected = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x)
    assert y.dtype == torch.bfloat16
    assert float((y - expected).detach().norm()) < 0.02 * float(expected.detach().norm())
    for parameter in torch.autograd.grad(y.float().square().sum(), [*mixer.parameters()]):
        assert parameter.dtype == torch.float32


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_both_ways_compile_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    # the compiler cannot trace the checks of annotations that the tests turn on
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    mixer, x = make(), torch.randn(2, 9, WIDTH)
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), mixer(x), rtol=1e-5, atol=1e-6)


def test_offsets_that_do_not_fit_are_refused() -> None:
    mixer, x = make(), torch.zeros(2, 3, WIDTH)
    with pytest.raises(ValueError, match="B = 2"):
        mixer(x, offsets=torch.tensor([0, 3]))
