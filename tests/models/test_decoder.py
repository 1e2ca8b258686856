"""The token decoder: whole equals stepped, nothing leaks, and rows of a beam share a memory."""

import pytest
import torch
from torch import Tensor

from vidmamba.models.decoder import DecoderConfig, DecoderState, TokenDecoder
from vidmamba.nn.mamba2 import Mamba2Config

WORDS, ROWS, CHANNELS = 11, 7, 5
MAMBA2 = Mamba2Config(state=8, head_size=16)
CONFIGS = {
    "mamba1": DecoderConfig(vocabulary=WORDS, width=32, depth=2, memory_width=CHANNELS),
    "mamba2 looking after every second block": DecoderConfig(
        vocabulary=WORDS,
        width=32,
        depth=3,
        mixer="mamba2",
        mamba2=MAMBA2,
        attend_every=2,
        memory_width=CHANNELS,
        tied=False,
    ),
    "lstm": DecoderConfig(vocabulary=WORDS, width=32, depth=2, mixer="lstm", memory_width=CHANNELS),
    "transformer": DecoderConfig(
        vocabulary=WORDS, width=32, depth=2, mixer="attention", memory_width=CHANNELS
    ),
}


@pytest.fixture(params=[*CONFIGS.values()], ids=[*CONFIGS])
def decoder(request: pytest.FixtureRequest) -> TokenDecoder:
    return TokenDecoder(request.param).eval()


def video(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """A memory of two videos, of which the second has two rows less."""
    mask = torch.ones(2, rows, dtype=torch.bool)
    mask[1, rows - 2 :] = False
    return torch.randn(2, rows, CHANNELS), mask


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.detach().abs().max()))


@pytest.mark.parametrize("sizes", [(1,) * 9, (4, 1, 3, 1), (9,)], ids=str)
def test_steps_with_carried_state_equal_the_whole_caption(
    decoder: TokenDecoder, sizes: tuple[int, ...]
) -> None:
    tokens, (memory, mask) = torch.randint(WORDS, (2, 9)), video()
    state, parts = decoder.begin(2, memory=memory, memory_mask=mask), []
    for part in tokens.split(list(sizes), dim=1):
        logits, state = decoder.step(part, state)
        parts.append(logits)
    close(torch.cat(parts, dim=1), decoder(tokens, memory=memory, memory_mask=mask))


def test_a_later_token_never_changes_an_earlier_logit(decoder: TokenDecoder) -> None:
    tokens, (memory, mask) = torch.randint(WORDS, (2, 9)), video()
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % WORDS
    one = decoder(tokens, memory=memory, memory_mask=mask)
    other = decoder(changed, memory=memory, memory_mask=mask)
    torch.testing.assert_close(one[:, :5], other[:, :5], rtol=0, atol=0)
    assert (one[:, 5:] != other[:, 5:]).any()


@pytest.mark.parametrize("filling", [1e6, float("nan"), float("inf")], ids=str)
def test_a_masked_row_of_the_memory_never_matters(decoder: TokenDecoder, filling: float) -> None:
    tokens, (memory, mask) = torch.randint(WORDS, (2, 4)), video()
    filled = memory.masked_fill(~mask.unsqueeze(-1), filling)
    one = decoder(tokens, memory=memory, memory_mask=mask)
    assert torch.equal(one, decoder(tokens, memory=filled, memory_mask=mask))
    without = decoder(tokens[1:], memory=memory[1:, : ROWS - 2])
    close(one[1:], without)


def test_a_real_row_of_the_memory_matters(decoder: TokenDecoder) -> None:
    tokens, (memory, mask) = torch.randint(WORDS, (2, 4)), video()
    one = decoder(tokens, memory=memory, memory_mask=mask)
    other = decoder(tokens, memory=memory + 1, memory_mask=mask)
    assert ((one - other).abs().amax(dim=(1, 2)) > 1e-4).all()


def test_a_video_of_no_real_row_is_written_as_without_a_video(decoder: TokenDecoder) -> None:
    tokens = torch.randint(WORDS, (2, 4))
    nothing = torch.zeros(2, ROWS, dtype=torch.bool)
    logits = decoder(tokens, memory=torch.randn(2, ROWS, CHANNELS), memory_mask=nothing)
    close(logits, decoder(tokens))
    close(decoder(tokens, memory=torch.randn(2, 0, CHANNELS)), decoder(tokens))


def test_gradients_stay_finite_and_reach_every_parameter(decoder: TokenDecoder) -> None:
    memory, mask = video()
    mask[1] = False
    memory = memory.masked_fill(~mask.unsqueeze(-1), float("nan")).requires_grad_()
    decoder(torch.randint(WORDS, (2, 6)), memory=memory, memory_mask=mask).square().sum().backward()
    assert memory.grad is not None
    assert memory.grad.isfinite().all()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def written(decoder: TokenDecoder, state: DecoderState, tokens: Tensor) -> Tensor:
    return decoder.step(tokens, state)[0]


def test_rows_of_a_beam_go_on_as_each_would_alone(decoder: TokenDecoder) -> None:
    memory, mask = video()
    prompt, after = torch.randint(WORDS, (6, 3)), torch.randint(WORDS, (6, 2))
    start = decoder.begin(2, memory=memory, memory_mask=mask).spread(3)
    _, state = decoder.step(prompt, start)
    assert state.rows == 6
    assert state.memory[0].keys.shape[0] == 2, "the memory was copied for each row"
    index = torch.tensor([2, 2, 0, 5, 4, 3])  # each stays with its video
    for row, logits in enumerate(written(decoder, state.reorder(index), after)):
        which = row // 3
        whole = torch.cat([prompt[index[row]], after[row]])[None]
        seen = decoder(whole, memory=memory[which, None], memory_mask=mask[which, None])
        close(logits, seen[0, 3:])


def test_selected_rows_take_their_memory_with_them(decoder: TokenDecoder) -> None:
    memory, mask = video()
    prompt, after = torch.randint(WORDS, (4, 3)), torch.randint(WORDS, (3, 2))
    start = decoder.begin(2, memory=memory, memory_mask=mask).spread(2)
    _, state = decoder.step(prompt, start)
    index = torch.tensor([3, 0, 3])
    for row, logits in enumerate(written(decoder, state.select(index), after)):
        which = int(index[row]) // 2
        whole = torch.cat([prompt[index[row]], after[row]])[None]
        seen = decoder(whole, memory=memory[which, None], memory_mask=mask[which, None])
        close(logits, seen[0, 3:])


def test_the_state_stays_of_one_size_however_much_is_written_but_attentions(
    decoder: TokenDecoder,
) -> None:
    state = decoder.begin(1)
    sizes = [x.shape for each in state.mixers for x in each]
    _, state = decoder.step(torch.randint(WORDS, (1, 300)), state)
    after = [x.shape for each in state.mixers for x in each]
    assert (after == sizes) == (decoder.config.mixer != "attention")


def test_what_does_not_fit_is_refused_with_its_shape(decoder: TokenDecoder) -> None:
    tokens = torch.randint(WORDS, (2, 4))
    with pytest.raises(ValueError, match=r"2 videos, rows, 5 channels\), got \[2, 7, 6\]"):
        decoder(tokens, memory=torch.randn(2, 7, 6))
    with pytest.raises(ValueError, match=r"got \[3, 7, 5\]"):
        decoder.begin(2, memory=torch.randn(3, 7, 5))
    with pytest.raises(ValueError, match="masks nothing"):
        decoder.begin(2, memory_mask=torch.ones(2, 7, dtype=torch.bool))
    blind = TokenDecoder(DecoderConfig(vocabulary=3, width=8, depth=1, attend_every=0))
    with pytest.raises(ValueError, match="never looks"):
        blind.begin(2, memory=torch.randn(2, 7, 8))


def test_a_shape_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        DecoderConfig(vocabulary=0)
    with pytest.raises(ValueError, match="width 30 must split into 4"):
        DecoderConfig(vocabulary=5, width=30)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        DecoderConfig(vocabulary=5, attend_every=-1)
    with pytest.raises(ValueError, match=r"got 1\.0"):
        DecoderConfig(vocabulary=5, dropout=1.0)
    with pytest.raises(ValueError, match=r"norm_epsilon in \(0, 1\), got 0\.0, nan"):
        DecoderConfig(vocabulary=5, norm_epsilon=float("nan"))
