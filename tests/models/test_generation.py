"""Generation against exhaustive enumeration, loops in plain Python, and laws of large numbers."""

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.models.decoder import DecoderConfig, TokenDecoder
from vidmamba.models.generation import Generated, GenerationConfig, generate

WORDS, START, END = 5, 3, 1
VIDEOS = 3


@pytest.fixture
def decoder() -> TokenDecoder:
    """A decoder whose next token depends much on the tokens before and on the video."""
    config = DecoderConfig(vocabulary=WORDS, width=16, depth=2, heads=2, tied=False)
    decoder = TokenDecoder(config).eval()
    with torch.no_grad():
        decoder.embed.weight.mul_(50)
        decoder.logits.weight.mul_(30)
    return decoder


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(VIDEOS, 6, 16)


def written(
    decoder: TokenDecoder, memory: Tensor, start: int | Tensor = START, **config: Any
) -> Generated:
    allowed = config.pop("allowed", None)
    state = decoder.begin(memory.shape[0], memory=memory)
    settings = GenerationConfig(**config)
    return generate(decoder, state, start=start, end=END, config=settings, allowed=allowed)


def log_probabilities(decoder: TokenDecoder, memory: Tensor, tokens: list[int]) -> Tensor:
    """What teacher forcing gives every next token after START and each of ``tokens``, float64."""
    with torch.no_grad():
        logits: Tensor = decoder(torch.tensor([[START, *tokens]]), memory=memory[None])[0]
    return logits.double().log_softmax(dim=-1)


def scores_of(
    decoder: TokenDecoder, memory: Tensor, captions: list[list[int]], most: int
) -> list[float]:
    """Log-probabilities of captions, their ends among them unless they are cut at ``most``."""
    said = torch.tensor([(tokens + [END] * most)[:most] for tokens in captions])
    told = torch.cat([torch.full((len(captions), 1), START), said[:, :-1]], dim=1)
    with torch.no_grad():
        logits = decoder(told, memory=memory.expand(len(captions), -1, -1)).double()
    each = logits.log_softmax(dim=-1).gather(2, said.unsqueeze(-1)).squeeze(-1)
    return [float(row[: len(tokens) + 1].sum()) for row, tokens in zip(each, captions, strict=True)]


def every_caption(most: int) -> list[list[int]]:
    others = [token for token in range(WORDS) if token != END]
    return [[*t] for n in range(most + 1) for t in itertools.product(others, repeat=n)]


@pytest.mark.parametrize("power", [0, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("fewest", [0, 2])
def test_a_wide_beam_finds_the_best_of_all_captions(
    decoder: TokenDecoder, memory: Tensor, power: float | int, fewest: int
) -> None:
    most = 3
    found = written(
        decoder,
        memory,
        kind="beam",
        beams=WORDS**most,  # no beginning is ever dropped
        max_tokens=most,
        min_tokens=fewest,
        length_penalty=power,
    )
    captions = [tokens for tokens in every_caption(most) if len(tokens) >= fewest]
    for video in range(VIDEOS):
        totals = scores_of(decoder, memory[video], captions, most)
        scores = [
            total / min(len(tokens) + 1, most) ** power
            for total, tokens in zip(totals, captions, strict=True)
        ]
        best = max(range(len(captions)), key=scores.__getitem__)
        assert found.tokens[video] == captions[best]
        assert found.scores[video] == pytest.approx(scores[best], rel=1e-4)


def test_a_wider_beam_finds_what_a_greedy_search_misses() -> None:
    better = 0
    for seed in range(3):
        torch.manual_seed(seed)
        decoder = TokenDecoder(
            DecoderConfig(vocabulary=WORDS, width=16, depth=1, tied=False, heads=2)
        )
        with torch.no_grad():
            decoder.embed.weight.mul_(50)
            decoder.logits.weight.mul_(10)
        memory = torch.randn(VIDEOS, 6, 16)
        settings: dict[str, Any] = {"max_tokens": 6, "min_tokens": 6, "length_penalty": 0}
        greedy = written(decoder, memory, **settings)
        beam = written(decoder, memory, kind="beam", beams=30, **settings)
        for one, other in zip(beam.scores, greedy.scores, strict=True):
            assert one >= other - 1e-5
            better += one > other + 1e-3
    assert better > 0


def test_greedy_and_a_beam_of_one_take_the_likeliest_token_each_time(
    decoder: TokenDecoder, memory: Tensor
) -> None:
    greedy = written(decoder, memory, max_tokens=12)
    assert greedy == written(decoder, memory, kind="beam", beams=1, max_tokens=12)
    for video in range(VIDEOS):
        tokens: list[int] = []
        while len(tokens) < 12:
            token = int(log_probabilities(decoder, memory[video], tokens)[-1].argmax())
            if token == END:
                break
            tokens.append(token)
        assert greedy.tokens[video] == tokens
        mean = scores_of(decoder, memory[video], [tokens], 12)[0] / min(len(tokens) + 1, 12)
        assert greedy.scores[video] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_a_video_gets_the_same_caption_alone_and_in_a_batch(
    decoder: TokenDecoder, memory: Tensor, kind: str
) -> None:
    together = written(decoder, memory, kind=kind, max_tokens=9)
    for video in range(VIDEOS):
        alone = written(decoder, memory[video, None], kind=kind, max_tokens=9)
        assert alone.tokens == [together.tokens[video]]
        assert alone.scores == pytest.approx([together.scores[video]], rel=1e-4)


@pytest.mark.parametrize("kind", ["greedy", "beam", "sample", "consensus"])
def test_a_prompt_is_gone_on_from_and_not_returned(
    decoder: TokenDecoder, memory: Tensor, kind: str
) -> None:
    greedy = written(decoder, memory, max_tokens=6, min_tokens=6)
    taken = torch.tensor([[START, *row[:2]] for row in greedy.tokens])
    rest = written(decoder, memory, taken, kind=kind, max_tokens=4, min_tokens=4)
    assert [len(row) for row in rest.tokens] == [4] * VIDEOS
    if kind == "greedy":
        assert rest.tokens == [row[2:] for row in greedy.tokens]


def test_samples_occur_as_often_as_the_decoder_says(decoder: TokenDecoder) -> None:
    draws, most = 3000, 2
    memory = torch.randn(1, 6, 16)
    settings: dict[str, Any] = {"kind": "sample", "max_tokens": most, "length_penalty": 0}
    found = written(decoder, memory.expand(draws, -1, -1), **settings)
    counts = Counter(map(tuple, found.tokens))
    captions = every_caption(most)
    totals = scores_of(decoder, memory[0], captions, most)
    for tokens, total in zip(captions, totals, strict=True):
        chance = math.exp(total)
        # five standard deviations of a binomial, and one draw
        spread = 5 * (draws * chance * (1 - chance)) ** 0.5 + 1
        assert abs(counts[tuple(tokens)] - draws * chance) <= spread, tokens
    totals = scores_of(decoder, memory[0], found.tokens, most)
    assert found.scores == pytest.approx(totals, rel=1e-4)


def test_a_seed_decides_the_samples(decoder: TokenDecoder, memory: Tensor) -> None:
    settings: dict[str, Any] = {"kind": "sample", "max_tokens": 9, "min_tokens": 9}
    one = written(decoder, memory, seed=1, **settings)
    torch.rand(7)
    assert one == written(decoder, memory, seed=1, **settings)
    assert one.tokens != written(decoder, memory, seed=2, **settings).tokens


def test_a_low_temperature_and_a_small_nucleus_are_greedy(
    decoder: TokenDecoder, memory: Tensor
) -> None:
    greedy = written(decoder, memory, max_tokens=9).tokens
    for temperature in (1e-4, 1e-40, 5e-324):
        cold = written(decoder, memory, kind="sample", max_tokens=9, temperature=temperature)
        assert cold.tokens == greedy, temperature
    narrow = written(decoder, memory, kind="sample", max_tokens=9, top_p=1e-6)
    assert narrow.tokens == greedy


def test_a_consensus_is_the_drawn_caption_that_is_most_like_all_that_were_drawn(
    decoder: TokenDecoder, memory: Tensor
) -> None:
    copies = 12
    settings: dict[str, Any] = {"max_tokens": 6, "seed": 3, "temperature": 1.5}
    drawn = generate(
        decoder,
        decoder.begin(VIDEOS, memory=memory).spread(copies),
        start=START,
        end=END,
        config=GenerationConfig(kind="sample", **settings),
    )
    found = written(decoder, memory, kind="consensus", candidates=copies, **settings)
    for video, (told, score) in enumerate(zip(*found, strict=True)):
        own = range(video * copies, (video + 1) * copies)
        agreed = {row: sum(alike(drawn.tokens[row], drawn.tokens[r]) for r in own) for row in own}
        best = max(own, key=lambda row: round(agreed[row], 4))
        assert round(agreed[drawn.tokens.index(told, video * copies)], 4) == round(agreed[best], 4)
        assert score == pytest.approx(drawn.scores[drawn.tokens.index(told, video * copies)])


def alike(one: list[int], other: list[int]) -> float:
    """CIDEr-D, in 0..1, where all n-grams are equally rare."""
    total = 0.0
    for size in range(1, 5):
        a, b = (Counter(zip(*(x[i:] for i in range(size)), strict=False)) for x in (one, other))
        norm = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
        total += sum(min(n, b[gram]) * b[gram] for gram, n in a.items()) / norm if norm else 0.0
    return total / 4 * math.exp(-((len(one) - len(other)) ** 2) / 72)


@pytest.mark.parametrize("kind", ["greedy", "beam", "sample", "consensus"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_occurs_twice_where_it_must_not(
    decoder: TokenDecoder, memory: Tensor, kind: str, size: int
) -> None:
    def repeats(rows: list[list[int]]) -> int:
        ngrams = ([*zip(*(row[i:] for i in range(size)), strict=False)] for row in rows)
        return sum(len(each) - len(set(each)) for each in ngrams)

    # WORDS - 1 words have no more than 4 different 1-grams: captions end where none is left
    settings: dict[str, Any] = {"kind": kind, "max_tokens": 14, "min_tokens": 14}
    assert repeats(written(decoder, memory, **settings).tokens) > 0
    found = written(decoder, memory, no_repeat_ngram=size, **settings)
    assert repeats(found.tokens) == 0
    if size == 1:
        assert [len(row) for row in found.tokens] == [WORDS - 1] * VIDEOS
    else:
        assert all(len(row) > WORDS - 1 for row in found.tokens)


def test_a_repetition_penalty_follows_its_formula(decoder: TokenDecoder, memory: Tensor) -> None:
    found = written(decoder, memory, max_tokens=8, min_tokens=8, repetition_penalty=1.7)
    for video in range(VIDEOS):
        tokens: list[int] = []
        for _ in range(8):
            whole = torch.tensor([[START, *tokens]])
            logits = decoder(whole, memory=memory[video, None])[0, -1].tolist()
            for token in set(tokens):
                logits[token] *= 1.7 if logits[token] < 0 else 1 / 1.7
            logits[END] = -1e9
            tokens.append(max(range(WORDS), key=logits.__getitem__))
        assert found.tokens[video] == tokens


@pytest.mark.parametrize("kind", ["greedy", "beam", "sample", "consensus"])
def test_only_what_is_allowed_is_written_and_the_start_is_told(
    decoder: TokenDecoder, memory: Tensor, kind: str
) -> None:
    def rising(tokens: Tensor) -> Tensor:
        """Words grow, from START on, round the vocabulary; END may come from 4 on alone."""
        mask = torch.zeros(tokens.shape[0], WORDS, dtype=torch.bool)
        for row, last in enumerate(tokens[:, -1].tolist()):
            mask[row, [2, 3] if last == START else [(last + 1) % WORDS]] = True
        return mask

    found = written(decoder, memory, kind=kind, max_tokens=5, allowed=rising)
    for row in found.tokens:
        for one, other in itertools.pairwise([START, *row]):
            assert other in ((2, 3) if one == START else ((one + 1) % WORDS,))


@pytest.mark.parametrize("kind", ["greedy", "beam", "sample", "consensus"])
def test_where_nothing_is_allowed_a_caption_ends(
    decoder: TokenDecoder, memory: Tensor, kind: str
) -> None:
    nothing = lambda tokens: torch.zeros(tokens.shape[0], WORDS, dtype=torch.bool)  # noqa: E731
    found = written(decoder, memory, kind=kind, min_tokens=3, allowed=nothing)
    assert found.tokens == [[]] * VIDEOS
    for video in range(VIDEOS):
        end = float(log_probabilities(decoder, memory[video], [])[0, END])
        assert found.scores[video] == pytest.approx(end, rel=1e-4)


def test_a_higher_length_penalty_never_writes_shorter(
    decoder: TokenDecoder, memory: Tensor
) -> None:
    lengths = []
    for power in (-1.0, 0.0, 1.0, 3.0):
        settings: dict[str, Any] = {
            "kind": "beam",
            "beams": 600,
            "max_tokens": 4,
            "length_penalty": power,
        }
        lengths.append([len(row) for row in written(decoder, memory, **settings).tokens])
    for one, other in itertools.pairwise(lengths):
        assert all(a <= b for a, b in zip(one, other, strict=True))
    assert lengths[0] != lengths[-1]


def test_what_cannot_be_written_is_refused(decoder: TokenDecoder, memory: Tensor) -> None:
    with pytest.raises(ValueError, match=r"0\.\.4, got 5, 1"):
        written(decoder, memory, start=5)
    with pytest.raises(ValueError, match=r"\(3, at least 1\) of them, got \[2, 4\]"):
        written(decoder, memory, start=torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"bool mask of \[3, 5\], got torch.bool of \[1, 5\]"):
        written(decoder, memory, allowed=lambda _: torch.ones(1, WORDS, dtype=torch.bool))
