"""The selective scan on the CPU, in numba: sixteen channels to a vector, one pass over time.

A task is one video and one group of channels; threads share tasks, and nothing that a task writes
depends on another. Arrays are flat; states lie as (chunk, N, D), so that channels are neighbours.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from numba import float32

from vidmamba.kernels.simd import (
    LANES,
    compiled,
    exp2m1,
    fma,
    load,
    prefetch,
    prefetch_to_write,
    sigmoid,
    softplus,
    splat,
    store,
    total,
)

AHEAD = 8  # frames by which reads run ahead
PAD = 5 * LANES
LN2 = float32(0.6931471805599453)


@compiled
def scan_forward(
    first_task, last_task, scratch, u, delta, a, B, C, D, z, bias, initial, y, final, states,
    starts, lengths, first_chunks, sizes, flags,
):  # fmt: skip
    """Write outputs, last states and, if they are kept, the states at the chunks' starts."""
    width, num_states, groups, blocks, chunk_frames = sizes
    has_z, has_softplus, reverse, keep = flags
    size = blocks * num_states * LANES
    a_block, h_block = scratch[:size], scratch[size : 2 * size]
    # what rounding h lost, given back at the next frame: states that decay slowly stay exact
    lost_block = scratch[2 * size :]
    for task in range(first_task, last_task):
        video, group = task // groups, task % groups
        first_channel = group * blocks * LANES
        last_channel = min(first_channel + blocks * LANES, width)
        for c in range(first_channel, last_channel, LANES):
            for n in range(num_states):
                k = (c - first_channel) * num_states + n * LANES
                store(a_block, k, load(a, n * width + c))
                store(h_block, k, load(initial, (video * num_states + n) * width + c))
                store(lost_block, k, splat(float32(0.0)))
        frames = lengths[video]
        for chunk in range(-(-frames // chunk_frames)):
            for c in range(first_channel, last_channel, LANES):
                base = (c - first_channel) * num_states
                if keep:
                    chunk_row = (first_chunks[video] + chunk) * num_states
                    for n in range(num_states):
                        store(states, (chunk_row + n) * width + c, load(h_block, base + n * LANES))
                skip, shift = load(D, c), load(bias, c)
                for i in range(
                    chunk * chunk_frames, min(chunk * chunk_frames + chunk_frames, frames)
                ):
                    t = starts[video] + (frames - 1 - i if reverse else i)
                    here = t * width + c
                    ahead = here + (-AHEAD * width if reverse else AHEAD * width)
                    prefetch(u, ahead)
                    prefetch(delta, ahead)
                    prefetch_to_write(y, ahead)
                    step = load(delta, here) + shift
                    if has_softplus:
                        step = softplus(step)
                    value = load(u, here)
                    x = step * value
                    out = skip * value
                    for n in range(num_states):
                        k = base + n * LANES
                        decay = exp2m1(step * load(a_block, k))
                        h = load(h_block, k)
                        gain = fma(x, splat(B[t * num_states + n]), load(lost_block, k))
                        gain = fma(decay, h, gain)
                        new = h + gain
                        store(lost_block, k, gain - (new - h))
                        store(h_block, k, new)
                        out = fma(new, splat(C[t * num_states + n]), out)
                    if has_z:
                        gate = load(z, here)
                        prefetch(z, ahead)
                        out = out * gate * sigmoid(gate)
                    store(y, here, out)
        for c in range(first_channel, last_channel, LANES):
            for n in range(num_states):
                k = (c - first_channel) * num_states + n * LANES
                store(final, (video * num_states + n) * width + c, load(h_block, k))


@compiled
def scan_backward(
    first_task, last_task, scratch, u, delta, a, B, C, D, z, bias, grad_y, grad_final, states,
    grad_u, grad_delta, grad_z, grad_a, grad_B, grad_C, grad_D, grad_bias, grad_initial,
    starts, lengths, first_chunks, sizes, flags,
):  # fmt: skip
    """Write all gradients; those of B and C a group, those of A, D and the bias a video."""
    width, num_states, groups, blocks, chunk_frames = sizes
    has_z, has_softplus, reverse, rows = flags
    block = num_states * LANES
    # each array begins some cache lines further into a page: a read that follows a write at the
    # same place of another page would wait for it
    at, size = 0, blocks * block
    h_grad, at = scratch[:size], size + PAD  # the state's gradient
    lost, at = scratch[at : at + size], at + size + PAD  # what rounding it lost
    decay_next, at = scratch[at : at + size], at + size + PAD  # the decay that it awaits
    a_block, at = scratch[at : at + size], at + size + PAD
    a_sums, at = scratch[at : at + block], at + block + PAD
    size = (chunk_frames + 1) * block
    befores, at = scratch[at : at + size], at + size + PAD  # the state before each frame
    decays, at = scratch[at : at + size], at + size + PAD  # minus one
    size = chunk_frames * block
    B_lanes, at = scratch[at : at + size], at + size + PAD
    C_lanes, at = scratch[at : at + size], at + size + PAD
    size = chunk_frames * LANES
    raws, at = scratch[at : at + size], at + size + PAD
    steps, at = scratch[at : at + size], at + size + PAD
    outs = scratch[at : at + size]
    zero, one = splat(float32(0.0)), splat(float32(1.0))
    for task in range(first_task, last_task):
        video, group = task // groups, task % groups
        first_channel = group * blocks * LANES
        last_channel = min(first_channel + blocks * LANES, width)
        for c in range(first_channel, last_channel, LANES):
            for n in range(num_states):
                k = (c - first_channel) * num_states + n * LANES
                store(h_grad, k, load(grad_final, (video * num_states + n) * width + c))
                store(lost, k, zero)
                store(decay_next, k, zero)
                store(a_block, k, load(a, n * width + c))
        frames = lengths[video]
        for chunk in range(-(-frames // chunk_frames) - 1, -1, -1):
            first = chunk * chunk_frames
            count = min(chunk_frames, frames - first)
            B_lanes[: count * block] = 0.0
            C_lanes[: count * block] = 0.0
            for c in range(first_channel, last_channel, LANES):
                base = (c - first_channel) * num_states
                skip, shift = load(D, c), load(bias, c)
                for n in range(num_states):
                    row = (first_chunks[video] + chunk) * num_states + n
                    store(befores, n * LANES, load(states, row * width + c))
                    store(a_sums, n * LANES, zero)
                    store(decays, count * block + n * LANES, load(decay_next, base + n * LANES))
                # forwards again, from the state that the forward pass kept
                for i in range(count):
                    t = starts[video] + (frames - 1 - first - i if reverse else first + i)
                    ahead = t * width + c + (-AHEAD * width if reverse else AHEAD * width)
                    prefetch(u, ahead)
                    prefetch(delta, ahead)
                    prefetch(grad_y, t * width + c)
                    prefetch_to_write(grad_u, t * width + c)
                    prefetch_to_write(grad_delta, t * width + c)
                    if has_z:
                        prefetch(z, t * width + c)
                        prefetch_to_write(grad_z, t * width + c)
                    raw = load(delta, t * width + c) + shift
                    step = softplus(raw) if has_softplus else raw
                    store(raws, i * LANES, raw)
                    store(steps, i * LANES, step)
                    value = load(u, t * width + c)
                    x = step * value
                    out = skip * value
                    for n in range(num_states):
                        k = i * block + n * LANES
                        decay = exp2m1(step * load(a_block, base + n * LANES))
                        h = load(befores, k)
                        h = h + fma(decay, h, x * splat(B[t * num_states + n]))
                        store(decays, k, decay)
                        store(befores, k + block, h)
                        out = fma(h, splat(C[t * num_states + n]), out)
                    store(outs, i * LANES, out)
                skip_sum, bias_sum = zero, zero
                for i in range(count - 1, -1, -1):
                    t = starts[video] + (frames - 1 - first - i if reverse else first + i)
                    here = t * width + c
                    out_grad = load(grad_y, here)
                    if has_z:
                        gate = load(z, here)
                        open_ = sigmoid(gate)
                        slope = open_ * fma(gate, one - open_, one)
                        store(grad_z, here, out_grad * load(outs, i * LANES) * slope)
                        out_grad = out_grad * gate * open_
                    value, step = load(u, here), load(steps, i * LANES)
                    x = step * value
                    x_grad, step_grad = zero, zero
                    for n in range(num_states):
                        k, j = i * block + n * LANES, base + n * LANES
                        b, c_ = splat(B[t * num_states + n]), splat(C[t * num_states + n])
                        old = load(h_grad, j)
                        gain = fma(out_grad, c_, load(lost, j))
                        gain = fma(load(decays, k + block), old, gain)
                        g = old + gain
                        decay, before = load(decays, k), load(befores, k)
                        store(h_grad, j, g)
                        store(lost, j, gain - (g - old))
                        store(C_lanes, k, fma(out_grad, load(befores, k + block), load(C_lanes, k)))
                        store(B_lanes, k, fma(g, x, load(B_lanes, k)))
                        x_grad = fma(g, b, x_grad)
                        exponent_grad = g * fma(decay, before, before)
                        step_grad = fma(exponent_grad, load(a_block, j), step_grad)
                        k = n * LANES
                        store(a_sums, k, fma(exponent_grad, step, load(a_sums, k)))
                    # a holds log2(e) A
                    step_grad = fma(x_grad, value, step_grad * splat(LN2))
                    if has_softplus:
                        step_grad = step_grad * sigmoid(load(raws, i * LANES))
                    store(grad_delta, here, step_grad)
                    store(grad_u, here, fma(x_grad, step, out_grad * skip))
                    skip_sum = fma(out_grad, value, skip_sum)
                    bias_sum = bias_sum + step_grad
                for n in range(num_states):
                    store(decay_next, base + n * LANES, load(decays, n * LANES))
                store(raws, 0, skip_sum)
                store(steps, 0, bias_sum)
                for lane in range(LANES):
                    grad_D[video * width + c + lane] += raws[lane]
                    grad_bias[video * width + c + lane] += steps[lane]
                for n in range(num_states):
                    for lane in range(LANES):
                        k = (video * num_states + n) * width + c + lane
                        grad_a[k] += a_sums[n * LANES + lane]
            for i in range(count):
                t = starts[video] + (frames - 1 - first - i if reverse else first + i)
                row = (group * rows + t) * num_states
                for n in range(num_states):
                    k = i * block + n * LANES
                    grad_B[row + n] = total(load(B_lanes, k))
                    grad_C[row + n] = total(load(C_lanes, k))
        for c in range(first_channel, last_channel, LANES):
            for n in range(num_states):
                k = (c - first_channel) * num_states + n * LANES
                g = load(h_grad, k)
                g = fma(load(decay_next, k), g, g + load(lost, k))
                store(grad_initial, (video * num_states + n) * width + c, g)


def scratch_size(num_states, blocks, chunk_frames):
    """How many float32 one call of either kernel needs."""
    block = num_states * LANES
    arrays = 4 * blocks * block + block + 2 * (chunk_frames + 1) * block + 2 * chunk_frames * block
    return arrays + 3 * chunk_frames * LANES + 11 * PAD
