"""The Triton kernels of Mamba-2's scan, in Triton's interpreter where there is no GPU."""

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from vidmamba.kernels.ssd import plan, ssd_reference
from vidmamba.kernels.ssd.chunked import Inputs
from vidmamba.kernels.ssd.cuda import launch_backward, launch_forward

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the parameters' gradients are sums over all frames, whose terms cancel
SUMMED = ("A", "D", "dt_bias")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    # several chunks and segments within few frames
    monkeypatch.setattr(plan, "CHUNK", 32)
    # a GPU multiplies tiles of 16 at least, which half a chunk is
    monkeypatch.setattr(plan, "SHORT_CHUNK", 16 if DEVICE == "cpu" else 32)
    monkeypatch.setattr(plan, "PROGRAMS", 6)


def draw(
    shape: tuple[int, int, int, int, int, int], videos: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    B, T, H, P, G, N = shape
    wide, rows, heads = (B, T, H, P), (B, T, G, N), (H,)
    shapes = (wide, (B, T, H), heads, rows, rows, heads, wide, heads, (videos, H, P, N))
    drawn = {name: torch.randn(s) for name, s in zip(Inputs._fields, shapes, strict=True)}
    drawn["A"] = -drawn["A"].abs()
    return {n: t.to(dtype) if n in ("x", "dt", "B", "C", "z") else t for n, t in drawn.items()}


def check(
    shape: tuple[int, int, int, int, int, int],
    bounds: list[int] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    reverse: bool = False,
    absent: tuple[str, ...] = (),
    allowed: float = 1e-6 if DEVICE == "cpu" else 3e-6,  # there, sums of products in TF32
) -> None:
    drawn = draw(shape, shape[0] if bounds is None else len(bounds) - 1, dtype)
    exact: Any = {n: t.double().requires_grad_() for n, t in drawn.items() if n not in absent}
    offsets = None if bounds is None else torch.tensor(bounds)
    y64, final64 = ssd_reference(**exact, dt_softplus=True, offsets=offsets, reverse=reverse)
    weights = torch.randn(y64.shape).to(dtype), torch.randn(final64.shape)
    found = torch.autograd.grad([y64, final64], [*exact.values()], [w.double() for w in weights])
    expected = dict(zip(exact, found, strict=True))

    tensors: Any = (None if n in absent else drawn[n].to(DEVICE) for n in Inputs._fields)
    given = Inputs(*tensors)
    place = None if offsets is None else offsets.to(DEVICE)
    alone, _, _ = launch_forward(given, place, True, reverse, keep=False)
    y, final, kept = launch_forward(given, place, True, reverse, keep=True)
    grad_y, grad_final = (w.to(DEVICE) for w in weights)
    grads = launch_backward(grad_y, grad_final, given, place, kept, True, reverse)
    for name, ours, exactly in [
        ("y", y, y64),
        ("y without gradients", alone, y64),
        ("final", final, final64),
        *((n, g, expected.get(n)) for n, g in zip(Inputs._fields, grads, strict=True)),
    ]:
        if exactly is None:
            assert ours is None, name
            continue
        assert ours is not None, name
        error = (ours.double().cpu() - exactly).norm() / exactly.norm()
        assert error < allowed * (10 if name in SUMMED else 1), f"{name}: {error}"


def test_kernels_match_the_reference_at_one_frame() -> None:
    check((1, 1, 1, 1, 1, 1))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("frames", [15, 16, 17])
def test_kernels_match_the_reference_around_a_chunk(frames: int, reverse: bool) -> None:
    check((1, frames, 2, 3, 1, 2), reverse=reverse)


@pytest.mark.slow  # the interpreter takes half a minute
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_kernels_match_the_reference_over_segments_of_two_videos(reverse: bool) -> None:
    check((2, 50, 4, 5, 2, 3), reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_videos_match_the_reference(reverse: bool) -> None:
    # a single frame, an empty video, a whole chunk, chunks and a frame, the rest
    check((1, 52, 2, 3, 2, 2), [0, 1, 1, 17, 34, 52], reverse=reverse)


@pytest.mark.parametrize(
    "absent", [("z",), ("D", "dt_bias"), ("initial_state",), ("D", "z", "dt_bias", "initial_state")]
)
def test_what_is_not_given_is_left_out(absent: tuple[str, ...]) -> None:
    check((1, 20, 2, 3, 1, 4), absent=absent)


@pytest.mark.parametrize(("width", "states"), [(64, 256), (128, 256), (256, 128)])
def test_kernels_take_heads_whose_tiles_a_gpu_has_room_for(width: int, states: int) -> None:
    def fits(width: int, states: int) -> bool:
        x, B = (torch.empty(1, 1, 1, size, device="meta") for size in (width, states))
        return plan.fits(x, B)

    assert fits(width, states)
    assert not fits(257, 1)
    assert not fits(129, 129)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_rounds_only_its_results(dtype: torch.dtype) -> None:
    # Triton's interpreter cuts a bfloat16 off instead of rounding it: twice the error
    check((1, 40, 2, 16, 1, 16), dtype=dtype, allowed=float(torch.finfo(dtype).eps))


@pytest.mark.parametrize("louder", [1e-9, 1e9])
def test_what_enters_a_segment_may_be_far_larger_or_smaller_than_what_it_adds(
    louder: float,
) -> None:
    drawn = draw((1, 160, 2, 16, 1, 16), 1, torch.bfloat16)
    drawn["A"] *= 0.02  # little is forgotten
    drawn["x"][:, :64] *= louder
    drawn["initial_state"] *= louder
    exact: Any = {n: t.double() for n, t in drawn.items()}
    y64, final64 = ssd_reference(**exact, dt_softplus=True)
    given = Inputs(**{n: t.to(DEVICE) for n, t in drawn.items()})
    y, final, _ = launch_forward(given, None, True, False, keep=False)
    rounding = float(torch.finfo(torch.bfloat16).eps)
    for ours, exactly in [
        *((y[:, part].cpu(), y64[:, part]) for part in (slice(64), slice(64, None))),
        (final.cpu(), final64),
    ]:
        assert (ours.double() - exactly).norm() < rounding * exactly.norm()


def test_what_enters_a_segment_counts_however_little_of_it_is_left() -> None:
    drawn = draw((1, 160, 2, 16, 1, 16), 1, torch.bfloat16)
    drawn["A"][:] = -0.7  # a chunk leaves some 1e-8
    drawn["initial_state"] *= 1e20
    part = slice(96, 128)  # the second chunk of the second segment
    exact: Any = {n: t.double() for n, t in drawn.items()}
    alone, _ = ssd_reference(**exact | {"initial_state": None}, dt_softplus=True)
    both, _ = ssd_reference(**exact, dt_softplus=True)
    # as much of it as of what the segment itself has added
    drawn["initial_state"] *= alone[:, part].norm() / (both - alone)[:, part].norm()
    exact["initial_state"] = drawn["initial_state"].double()
    y64, _ = ssd_reference(**exact, dt_softplus=True)
    given = Inputs(**{n: t.to(DEVICE) for n, t in drawn.items()})
    y, _, _ = launch_forward(given, None, True, False, keep=False)
    error = (y[:, part].double().cpu() - y64[:, part]).norm()
    assert error < float(torch.finfo(torch.bfloat16).eps) * y64[:, part].norm()


def test_no_frame_need_be_near_one() -> None:
    # videos of several segments, of which a later one's first chunk has nothing of its own
    drawn = draw((1, 160, 2, 16, 1, 16), 1, torch.bfloat16)
    drawn["A"] *= 0.02
    drawn["x"] *= 1e-9
    drawn["initial_state"] *= 1e-9
    exact: Any = {n: t.double() for n, t in drawn.items()}
    y64, _ = ssd_reference(**exact, dt_softplus=True)
    given = Inputs(**{n: t.to(DEVICE) for n, t in drawn.items()})
    for keep in (False, True):
        y, _, _ = launch_forward(given, None, True, False, keep=keep)
        rounding = float(torch.finfo(torch.bfloat16).eps)
        assert (y.double().cpu() - y64).norm() < rounding * y64.norm()


def test_frames_whose_steps_vanish_add_nothing_and_forget_nothing() -> None:
    drawn = draw((1, 80, 2, 16, 1, 16), 1, torch.bfloat16)
    drawn["A"] *= 0.02
    drawn["dt"][:, 20:50] = -200  # softplus is zero there, as is no number's exponential
    exact: Any = {n: t.double() for n, t in drawn.items()}
    y64, final64 = ssd_reference(**exact, dt_softplus=True)
    given = Inputs(**{n: t.to(DEVICE) for n, t in drawn.items()})
    rounding = float(torch.finfo(torch.bfloat16).eps)
    for keep in (False, True):
        y, final, _ = launch_forward(given, None, True, False, keep=keep)
        for ours, exactly in ((y[:, 20:50], y64[:, 20:50]), (y, y64), (final, final64)):
            assert (ours.double().cpu() - exactly).norm() < rounding * exactly.norm()
