"""The convolution must equal its definition in float64, at awkward sizes, states and all."""

from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from vidmamba.kernels.causal_conv1d import (
    causal_conv1d,
    causal_conv1d_reference,
    causal_conv1d_step,
)

# (B, T, D, K): one frame, fewer frames than taps, odd everything, a block of frames, one more
SHAPES = [(1, 1, 1, 4), (2, 2, 3, 4), (2, 63, 5, 4), (1, 64, 16, 4), (2, 131, 17, 7)]
Inputs = dict[str, Any]


def make_inputs(
    shape: tuple[int, int, int, int], dtype: torch.dtype, videos: int | None = None
) -> Inputs:
    B, T, D, K = shape
    made = {
        "x": torch.randn(B, T, D),
        "weight": torch.randn(D, K) / K,
        "bias": torch.randn(D),
        "initial_state": torch.randn(videos or B, K - 1, D),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in made.items()}


def in_float64(inputs: Inputs) -> Inputs:
    return {name: t.detach().double().cpu().requires_grad_() for name, t in inputs.items()}


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    return {name: t.detach().to(device).requires_grad_() for name, t in inputs.items()}


def assert_close_to_float64(actual: Tensor | None, expected: Tensor | None) -> None:
    """Allow some roundings of the tested dtype relative to the whole tensor's size, and no more."""
    assert actual is not None
    assert expected is not None
    eps = torch.finfo(actual.dtype).eps
    actual, expected = actual.detach().double().cpu(), expected.detach()
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(actual, expected, rtol=8 * eps, atol=8 * eps * scale)


def check_against_reference(inputs: Inputs, **how: Any) -> None:
    exact = in_float64(inputs)
    offsets = how.get("offsets")
    how64 = how | {"offsets": None if offsets is None else offsets.cpu()}
    y, state = causal_conv1d(**inputs, **how, return_final_state=True)
    y64, state64 = causal_conv1d_reference(**exact, **how64)
    assert_close_to_float64(y, y64)
    assert_close_to_float64(state, state64)

    grad_y, grad_state = torch.randn_like(y), torch.randn_like(state)
    torch.autograd.backward([y, state], [grad_y, grad_state])
    torch.autograd.backward([y64, state64], [grad_y.double().cpu(), grad_state.double().cpu()])
    for name, tensor in inputs.items():
        assert_close_to_float64(tensor.grad, exact[name].grad)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_values_states_and_gradients_match_the_reference(
    shape: tuple[int, int, int, int], reverse: bool, device: torch.device
) -> None:
    inputs = moved(make_inputs(shape, torch.float32), device)
    check_against_reference(inputs, activation="silu", reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_videos_match_the_reference(reverse: bool, device: torch.device) -> None:
    # a single frame, an empty video, fewer frames than taps, a whole block, the rest
    offsets = torch.tensor([0, 1, 1, 3, 67, 90], device=device)
    inputs = moved(make_inputs((1, 90, 5, 4), torch.float32, videos=5), device)
    check_against_reference(inputs, activation="silu", reverse=reverse, offsets=offsets)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_rounds_only_its_results(dtype: torch.dtype, device: torch.device) -> None:
    check_against_reference(moved(make_inputs((2, 70, 6, 4), dtype), device), activation="silu")


@pytest.mark.parametrize("taps", [1, 2, 3, 5, 6, 8])
def test_every_kernel_size_works_without_the_activation(taps: int) -> None:
    check_against_reference(make_inputs((1, 9, 3, taps), torch.float64))


def test_derivatives_are_right_in_float64() -> None:
    inputs = make_inputs((1, 5, 2, 3), torch.float64)
    offsets = torch.tensor([0, 2, 5])

    def packed(x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return causal_conv1d(
            x, weight, bias, activation="silu", offsets=offsets, return_final_state=True
        )

    assert torch.autograd.gradcheck(packed, (inputs["x"], inputs["weight"], inputs["bias"]))


# opcheck itself reads .grad of tensors that are no leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_is_a_well_formed_operator(device: torch.device) -> None:
    inputs = moved(make_inputs((2, 5, 3, 4), torch.float32), device)
    arguments = (*inputs.values(), None, True, False, True)
    torch.library.opcheck(torch.ops.vidmamba.causal_conv1d.default, arguments)
    x, weight, bias, state = (t.detach() for t in inputs.values())
    arguments = (torch.randn_like(x), torch.randn_like(state), x, weight, bias, state)
    arguments = (*arguments, None, True, True)
    torch.library.opcheck(torch.ops.vidmamba.causal_conv1d_backward.default, arguments)
    torch.library.opcheck(
        torch.ops.vidmamba.causal_conv1d_step.default, (x, state, weight, bias, True)
    )


def test_wrong_inputs_are_refused_with_their_values() -> None:
    x, weight = torch.rand(1, 6, 3), torch.rand(3, 4)
    with pytest.raises(ValueError, match=r"x must be .* got torch.float32 \[6, 3\]"):
        causal_conv1d(x[0], weight)
    with pytest.raises(ValueError, match=r"without zeros, got \[1, 0, 3\]"):
        causal_conv1d(x[:, :0], weight, return_final_state=True)
    with pytest.raises(ValueError, match=r"weight must be .* D=3 .* got \[4, 3\]"):
        causal_conv1d(x, weight.T)
    with pytest.raises(ValueError, match=r"weight must be .* K from 1 to 8, got \[3, 9\]"):
        causal_conv1d(x, torch.rand(3, 9))
    with pytest.raises(ValueError, match=r"bias must be \[3\], got \[4\]"):
        causal_conv1d(x, weight, torch.rand(4))
    with pytest.raises(ValueError, match=r"initial_state must be \[1, 3, 3\], got \[1, 4, 3\]"):
        causal_conv1d(x, weight, initial_state=torch.rand(1, 4, 3))
    with pytest.raises(ValueError, match="got B=2"):
        causal_conv1d(torch.rand(2, 6, 3), weight, offsets=torch.tensor([0, 6]))
    with pytest.raises(ValueError, match=r"from 0 to T=6, got \[0, 5\]"):
        causal_conv1d(x, weight, offsets=torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"offsets must be .* got torch.float32 \[2\]"):
        causal_conv1d(x, weight, offsets=torch.tensor([0.0, 6.0]))
    with pytest.raises(ValueError, match="got 'relu'"):
        causal_conv1d(x, weight, activation="relu")
    with pytest.raises(ValueError, match=r"got torch.int64 \[1, 6, 3\]"):
        causal_conv1d(x.long(), weight)


def test_chunks_and_steps_equal_the_whole(device: torch.device) -> None:
    inputs = {
        n: t.detach() for n, t in moved(make_inputs((2, 71, 6, 4), torch.float32), device).items()
    }
    x, state = inputs.pop("x"), inputs.pop("initial_state")
    whole, last = causal_conv1d(
        x, **inputs, activation="silu", initial_state=state, return_final_state=True
    )
    parts = []
    for piece in (x[:, :2], x[:, 2:66]):
        y, state = causal_conv1d(
            piece, **inputs, activation="silu", initial_state=state, return_final_state=True
        )
        parts.append(y)
    parts.append(causal_conv1d_step(x[:, 66:70], state, **inputs, activation="silu"))
    parts.append(causal_conv1d_step(x[:, 70], state, **inputs, activation="silu")[:, None])
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert torch.equal(state, last)


def test_packed_videos_equal_videos_one_by_one(device: torch.device) -> None:
    x, weight = torch.randn(1, 90, 6, device=device), torch.randn(6, 4, device=device)
    offsets = torch.tensor([0, 7, 80, 90], device=device)
    for reverse in (False, True):
        packed = causal_conv1d(x, weight, offsets=offsets, reverse=reverse)
        for begin, end in [(0, 7), (7, 80), (80, 90)]:
            alone = causal_conv1d(x[:, begin:end], weight, reverse=reverse)
            assert torch.equal(packed[:, begin:end], alone)


def test_reverse_is_the_flipped_video_flipped_back(device: torch.device) -> None:
    x, weight = torch.randn(2, 70, 6, device=device), torch.randn(6, 4, device=device)
    flipped = causal_conv1d(x.flip(1), weight, activation="silu").flip(1)
    assert torch.equal(causal_conv1d(x, weight, activation="silu", reverse=True), flipped)


def test_a_later_frame_never_changes_an_earlier_output(device: torch.device) -> None:
    x, weight = torch.randn(1, 70, 6, device=device), torch.randn(6, 4, device=device)
    before = causal_conv1d(x, weight)
    x[:, 40:] += 100
    assert torch.equal(causal_conv1d(x, weight)[:, :40], before[:, :40])


def test_gradients_are_the_same_bits_for_any_number_of_threads() -> None:
    x, weight, bias = torch.randn(1, 3000, 16), torch.randn(16, 4), torch.randn(16)
    results, threads = [], torch.get_num_threads()
    for count in (1, 2, 2):
        torch.set_num_threads(count)
        parameters = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = causal_conv1d(*parameters, activation="silu")
        results.append(torch.autograd.grad(y.square().sum(), parameters))
    torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_inputs_need_not_be_contiguous(device: torch.device) -> None:
    x, weight = (
        torch.randn(6, 70, 1, device=device).transpose(0, 2),
        torch.randn(4, 6, device=device).T,
    )
    expected = causal_conv1d(x.contiguous(), weight.contiguous())
    assert torch.equal(causal_conv1d(x, weight), expected)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiles_whole_and_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    # the compiler cannot trace the checks of annotations that the tests turn on
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    x, weight = torch.randn(3, 2, 9, 5), torch.randn(5, 4)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        y, state = causal_conv1d(x, weight, activation="silu", return_final_state=True)
        return y.square().sum() + state.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x[0], weight), loss(x[0], weight))
    gradient = torch.func.grad(loss, argnums=(0, 1))
    batched = torch.func.vmap(gradient, in_dims=(0, None))(x, weight)
    for i in range(3):
        for many, one in zip(batched, gradient(x[i], weight), strict=True):
            torch.testing.assert_close(many[i], one)


def test_autocast_follows_the_input(device: torch.device) -> None:
    x, weight = torch.randn(1, 9, 5, device=device), torch.randn(5, 4, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert causal_conv1d(x, weight).dtype == torch.float32
        assert causal_conv1d(x.bfloat16(), weight).dtype == torch.bfloat16
