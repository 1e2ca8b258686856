"""The scan must equal its definition in float64, values and gradients, on every device."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidmamba.kernels.selective_scan import selective_scan, selective_scan_reference

Shape = tuple[int, int, int, int]

CPU = torch.device("cpu")

# (B, T, D, N): one frame of one channel, odd everything, a chunk of frames and one more or less,
# a vector of channels and one more or less
SHAPES = [
    (1, 1, 1, 1),
    (2, 7, 3, 5),
    (2, 31, 15, 16),
    (1, 32, 16, 4),
    (1, 33, 17, 16),
    (1, 65, 40, 64),
]


def make_arguments(
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
    videos: int | None = None,
) -> dict[str, Any]:
    batch, frames, width, states = shape
    sequences = {
        "u": torch.randn(batch, frames, width),
        "delta": torch.randn(batch, frames, width) - 1,
        "B": torch.randn(batch, frames, states),
        "C": torch.randn(batch, frames, states),
        "z": torch.randn(batch, frames, width),
    }
    parameters = {
        "A": -4 * torch.rand(width, states),
        "D": torch.randn(width),
        "delta_bias": 0.1 * torch.randn(width),
        "initial_state": torch.randn(videos or batch, width, states),
    }
    arguments = {k: v.to(device, dtype) for k, v in sequences.items()}
    arguments |= {k: v.to(device) for k, v in parameters.items()}
    return {k: v.requires_grad_() for k, v in arguments.items()}


def detached(shape: Shape, device: torch.device = CPU) -> dict[str, Any]:
    arguments = make_arguments(shape, device=device)
    return {k: v.detach() for k, v in arguments.items()} | {"delta_softplus": True}


def part(arguments: dict[str, Any], first: int, last: int) -> dict[str, Any]:
    """The same call on some of the frames."""
    sequences = ("u", "delta", "B", "C", "z")
    return {k: v[:, first:last] if k in sequences else v for k, v in arguments.items()}


def as_float64(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: v.detach().double().cpu().requires_grad_() for k, v in arguments.items()}


def relative_error(actual: Tensor | None, expected: Tensor | None) -> float:
    assert actual is not None
    assert expected is not None
    assert actual.shape == expected.shape
    difference = (actual.detach().double().cpu() - expected.detach()).norm()
    return float(difference / expected.detach().norm().clamp_min(1e-12))


def assert_values_and_gradients_match(arguments: dict[str, Any], **options: Any) -> None:
    """Allow a few roundings of each result's dtype, in the L2 norm, and no more."""
    expected = as_float64(arguments)
    y64, final64 = selective_scan_reference(**expected, **options)
    weights = torch.randn_like(y64), torch.randn_like(final64)
    ((y64 * weights[0]).sum() + (final64 * weights[1]).sum()).backward()

    if (offsets := options.get("offsets")) is not None:
        options["offsets"] = offsets.to(arguments["u"].device)
    y, final = selective_scan(**arguments, **options, return_final_state=True)
    seen = [w.to(y.device, r.dtype) for w, r in zip(weights, (y, final), strict=True)]
    torch.autograd.backward([y, final], seen)

    assert relative_error(y, y64) < 4 * torch.finfo(y.dtype).eps
    assert relative_error(final, final64) < 16 * torch.finfo(final.dtype).eps
    # the weights of y were themselves rounded to y's dtype
    floor = torch.finfo(y.dtype).eps
    for name, argument in arguments.items():
        error = relative_error(argument.grad, expected[name].grad)
        assert error < 16 * max(torch.finfo(argument.dtype).eps, floor), f"{name}: {error}"


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_match_the_reference(
    shape: Shape, reverse: bool, device: torch.device
) -> None:
    arguments = make_arguments(shape, device=device)
    assert_values_and_gradients_match(arguments, delta_softplus=True, reverse=reverse)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_costs_one_rounding_of_the_results(
    dtype: torch.dtype, device: torch.device
) -> None:
    arguments = make_arguments((2, 70, 20, 16), dtype, device)
    assert_values_and_gradients_match(arguments, delta_softplus=True)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("bounds", [[0, 70], [0, 1, 33, 33, 65, 70]], ids=str)
def test_packed_videos_match_the_reference(
    bounds: list[int], reverse: bool, device: torch.device
) -> None:
    arguments = make_arguments((1, 70, 20, 16), device=device, videos=len(bounds) - 1)
    offsets = torch.tensor(bounds, dtype=torch.int32)
    assert_values_and_gradients_match(
        arguments, delta_softplus=True, reverse=reverse, offsets=offsets
    )


@pytest.mark.parametrize(
    "absent", ["D", "z", "delta_bias", "initial_state", "D z delta_bias initial_state"]
)
def test_every_optional_argument_may_be_left_out(absent: str, device: torch.device) -> None:
    arguments = make_arguments((2, 35, 18, 8), device=device)
    arguments["delta"] = arguments["delta"].detach().exp().requires_grad_()
    for name in absent.split():
        del arguments[name]
    assert_values_and_gradients_match(arguments)


def test_packed_equals_one_by_one_bit_for_bit(device: torch.device) -> None:
    bounds = [0, 3, 50, 82, 90]
    arguments = detached((1, 90, 32, 16), device)
    del arguments["initial_state"]
    packed = selective_scan(**arguments, offsets=torch.tensor(bounds, device=device))
    for first, last in itertools.pairwise(bounds):
        alone = selective_scan(**part(arguments, first, last))
        assert torch.equal(packed[:, first:last], alone)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_chunks_with_carried_state_equal_the_whole(reverse: bool, device: torch.device) -> None:
    arguments = detached((2, 100, 24, 16), device)
    whole, last = selective_scan(**arguments, reverse=reverse, return_final_state=True)
    state, parts = arguments.pop("initial_state"), {}
    cuts = [(0, 1), (1, 40), (40, 72), (72, 100)]
    for first, end in reversed(cuts) if reverse else cuts:
        parts[first], state = selective_scan(
            **part(arguments, first, end),
            initial_state=state, reverse=reverse, return_final_state=True,
        )  # fmt: skip
    # the carried state drops what rounding lost inside, so not bit for bit
    torch.testing.assert_close(
        torch.cat([parts[first] for first, _ in cuts], dim=1), whole, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)


def test_reverse_equals_flipping_before_and_after(device: torch.device) -> None:
    arguments = detached((2, 45, 20, 16), device)
    flipped = {
        k: v.flip(1) if k in ("u", "delta", "B", "C", "z") else v for k, v in arguments.items()
    }
    expected = selective_scan(**flipped).flip(1)
    assert torch.equal(selective_scan(**arguments, reverse=True), expected)


def test_a_later_frame_never_changes_an_earlier_output(device: torch.device) -> None:
    arguments = detached((1, 80, 20, 16), device)
    before = selective_scan(**arguments)
    for name in ("u", "delta", "B", "C", "z"):
        arguments[name][:, 41:] += 3
    assert torch.equal(selective_scan(**arguments)[:, :41], before[:, :41])


def test_the_order_of_the_batch_is_irrelevant(device: torch.device) -> None:
    arguments = detached((4, 40, 33, 16), device)
    order = [2, 0, 3, 1]
    batched = ("u", "delta", "B", "C", "z", "initial_state")
    permuted = {k: v[order] if k in batched else v for k, v in arguments.items()}
    assert torch.equal(selective_scan(**permuted), selective_scan(**arguments)[order])


def test_gradients_are_the_same_bits_on_any_number_of_threads(device: torch.device) -> None:
    arguments = make_arguments((2, 100, 160, 16), device=device)

    def gradients() -> list[Tensor]:
        y = selective_scan(**arguments, delta_softplus=True)
        return list(torch.autograd.grad(y.square().sum(), list(arguments.values())))

    first, threads = gradients(), torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        second = gradients()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_states_that_decay_slowly_do_not_drift(device: torch.device) -> None:
    # a state remembers some ten thousand frames: errors of one rounding a frame would reach 1e-4.
    # C adds the states, which are alike: their difference would measure its own cancelling
    frames, width, states = 30_000, 16, 2
    u, C = torch.randn(1, frames, width), 0.5 + torch.rand(states)
    delta = 1e-3 * (1 + torch.rand(1, frames, width))
    A = -0.1 * (1 + torch.rand(width, states))
    h, expected = np.zeros((width, states)), np.empty((frames, width))
    decays = np.exp(delta[0, :, :, None].double().numpy() * A.double().numpy())
    gains = (delta.double() * u.double()).numpy()[0, :, :, None]
    look = C.double().numpy()
    for t in range(frames):
        h = decays[t] * h + gains[t]
        expected[t] = h @ look
    B, C = torch.ones(1, frames, states), C.expand(1, frames, states)
    given = (t.to(device) for t in (u, delta, A, B, C))
    actual, final = selective_scan(*given, return_final_state=True)
    assert relative_error(final[0], torch.from_numpy(h)) < 1e-6
    assert relative_error(actual[0], torch.from_numpy(expected)) < 1e-6


def test_float64_passes_gradcheck() -> None:
    double = as_float64(make_arguments((1, 5, 2, 3)))
    names = list(double)

    def scan(*values: Tensor) -> Any:
        named: dict[str, Any] = dict(zip(names, values, strict=True))
        return selective_scan(**named, delta_softplus=True, return_final_state=True)

    assert torch.autograd.gradcheck(scan, tuple(double.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": torch.rand(1, 5, 2)}, r"delta must have shape \[1, 4, 2\], got \[1, 5, 2\]"),
        ({"A": torch.rand(3, 2)}, r"A must have shape \(2, 1 to 256\), got \[3, 2\]"),
        ({"B": torch.rand(1, 4, 7)}, r"B must have shape \[1, 4, 3\], got \[1, 4, 7\]"),
        ({"z": torch.rand(1, 4, 2).long()}, r"z must be one of .*, got torch.int64"),
        ({"D": torch.rand(2).double()}, r"u is torch.float32 but D is torch.float64"),
        ({"u": torch.rand(4, 2)}, r"got \[4, 2\]"),
        ({"offsets": torch.tensor([0.0, 4.0])}, r"int32 or int64, got torch.float32"),
        ({"offsets": torch.tensor([0, 4], device="meta")}, r"on cpu but offsets are on meta"),
        ({"offsets": torch.tensor([0, 3])}, r"from 0 to T = 4, got \[0, 3\]"),
        ({"offsets": torch.tensor([0, 3, 2, 4])}, r"from 0 to T = 4, got \[0, 3, 2, 4\]"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(
    change: dict[str, Any], message: str
) -> None:
    arguments = detached((1, 4, 2, 3))
    del arguments["initial_state"]
    with pytest.raises(ValueError, match=message):
        selective_scan(**{**arguments, **change})
