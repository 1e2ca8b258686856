"""Sums over all channels by the programs that walk one chunk together, in Triton.

The programs of a chunk, one a block of channels, walk its segments at about the same time. Each
leaves its sums of a segment or two, a turn, for B and C in a part of its own, and says that it has.
Halfway through the next segment, when the others have too, each adds up a piece of all parts, in
their order, so that the bits are the same every time. Two slots of parts are enough: who then
writes to one has seen that all have left the other, which they did after they had read what this
one held. Where memory is short there is one slot, and they wait until all have read it.

Programs start in their order, and none waits for one that follows its chunk's: that all of a chunk
fit on the device at once, beside those of other scans, is all it takes.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import jit, locate
from vidmamba.kernels.selective_scan.kernel_memory import store

COUNTER = tl.constexpr(8)  # words of a counter, so that few share a line
PIECE = tl.constexpr(64)  # numbers that a program adds up at a time, two a lane
LEAVE = tl.constexpr(
    "{ .reg .pred p; .reg .b32 lane; mov.u32 lane, %laneid; setp.eq.u32 p, lane, 0;"
    "bar.warp.sync 0xffffffff; @p red.release.gpu.global.add.u32 [$1], 1; mov.u32 $0, lane; }"
)
LOOK = tl.constexpr("bar.warp.sync 0xffffffff; ld.acquire.gpu.global.u32 $0, [$1];")
# past the first-level cache, which may have what was there before
GET_PAIR = tl.constexpr("ld.global.cg.v2.f32 {$0, $1}, [$2];")


@jit
def leave_parts(counter):
    """Say that this program's sums of a segment are there, and that it has read those before."""
    tl.inline_asm_elementwise(
        LEAVE, "=r,l", [counter.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1
    )


@jit
def await_readers(counter, turn, blocks):
    """Say that this program has read what all left in the turns so far, and wait for the others."""
    leave_parts(counter)
    await_parts(counter, 2 * turn * blocks)


@jit
def await_parts(counter, wanted):
    """Wait until so many have been left."""
    left = _look(counter)
    while left < wanted:
        left = _look(counter)


@jit
def _look(counter):
    return tl.inline_asm_elementwise(
        LOOK, "=r,l", [counter.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1
    )


@jit
def add_up_parts(
    parts, counter, grad_B, grad_C, table, T, chunks_a_video, frames, chunk, first, turn, place,
    slots, block, blocks, size, lane, N: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
    ROWS: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Once all have left theirs, add up this block's pieces of the last turn's parts.

    Those are of a chunk's frames from ``first`` on, and of ``size`` numbers each.
    """
    # with one slot, all have also said that they had read each turn before
    await_parts(counter, (turn if slots > 1 else 2 * turn - 1) * blocks)
    p = parts + (place * slots + ((turn - 1) & (slots - 1))).to(tl.int64) * blocks * size
    row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
    for piece in range(block, size // PIECE, blocks):
        at = piece * PIECE + lane * 2
        x, y = lane * 0.0, lane * 0.0
        for other in tl.range(0, blocks, loop_unroll_factor=16):
            one, two = tl.inline_asm_elementwise(
                GET_PAIR, "=f,=f,l", [(p + other * size + at).to(tl.int64)],
                dtype=(tl.float32, tl.float32), is_pure=False, pack=1,
            )  # fmt: skip
            x, y = x + one, y + two
        # as the lanes leave them: four frames by four states of B and of C
        t = first + at // (8 * ROWS) * 4 + at % 32 // 8
        n = at // 32 % (ROWS // 4) * 4 + at % 4
        to = row * N + (-t if REVERSE else t) * N + n
        for k in tl.static_range(2):
            here, z = (t < count) & (n + k < N), y if k else x
            store(grad_B, to + k, z, here & (at % 8 < 4), NATIVE)
            store(grad_C, to + k, z, here & (at % 8 >= 4), NATIVE)
