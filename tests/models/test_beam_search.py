"""Narrow beams against a search in plain Python over the chances of every beginning there is."""

import itertools
from functools import cache
from typing import Literal

import pytest
import torch
from torch import Tensor

from vidmamba.models.decoder import DecoderConfig, TokenDecoder
from vidmamba.models.generation import Generated, GenerationConfig, generate

WORDS, START, END, MOST = 5, 3, 1, 6
Beginning = tuple[float, tuple[int, ...]]


def memory_and_decoder(seed: int) -> tuple[Tensor, TokenDecoder]:
    """Two videos, and a decoder to which the tokens before and the video matter much."""
    torch.manual_seed(seed)
    shape = DecoderConfig(vocabulary=WORDS, width=16, depth=1, heads=2, tied=False)
    decoder = TokenDecoder(shape).eval()
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            parameter.mul_({"embed.weight": 10, "logits.weight": 10}.get(name, 1))
            parameter.mul_(20 if name.endswith("mixer.out_proj.weight") else 1)
    return torch.randn(2, 5, 16), decoder


@cache
def tables(seed: int) -> list[dict[tuple[int, ...], list[float]]]:
    """For each video, log-probabilities of what comes after every beginning, by teacher forcing.

    All beginnings of MOST - 1 tokens are decoded whole; the shorter ones are what they begin with.
    """
    memory, decoder = memory_and_decoder(seed)
    others = [token for token in range(WORDS) if token != END]
    longest = [*itertools.product(others, repeat=MOST - 1)]
    told = torch.tensor([[START, *tokens] for tokens in longest])
    found: list[dict[tuple[int, ...], list[float]]] = []
    for video in memory:
        with torch.no_grad():
            logits = decoder(told, memory=video.expand(len(told), -1, -1)).double()
        rows = logits.log_softmax(dim=-1).tolist()
        found.append({})
        for tokens, row in zip(longest, rows, strict=True):
            found[-1] |= {tokens[:size]: each for size, each in enumerate(row)}
    return found


def found_by_hand(
    table: dict[tuple[int, ...], list[float]], beams: int, power: float | int
) -> tuple[list[int], float]:
    """The best caption of a search that never stops early."""
    beam: list[Beginning] = [(0.0, ())]
    written: list[Beginning] = []
    for length in range(1, MOST + 1):
        longer = [
            (total + each, (*tokens, token))
            for total, tokens in beam
            for token, each in enumerate(table[tokens])
        ]
        best = sorted(longer, reverse=True)[: beams - len(written)]
        over = [each for each in best if each[1][-1] == END or length == MOST]
        written += [(total / length**power, tokens) for total, tokens in over]
        beam = [each for each in best if each not in over]
    score, tokens = max(written)
    return [token for token in tokens if token != END], score


def found_by(decoder: TokenDecoder, memory: Tensor, beams: int, power: float | int) -> Generated:
    settings = GenerationConfig(kind="beam", beams=beams, max_tokens=MOST, length_penalty=power)
    state = decoder.begin(len(memory), memory=memory)
    return generate(decoder, state, start=START, end=END, config=settings)


@pytest.mark.parametrize("beams", [1, 2, 3, 8])
def test_a_narrow_beam_finds_what_a_search_in_plain_python_finds(beams: int) -> None:
    lengths = set()
    for seed, power in itertools.product(range(4), (-0.3, 0, 1.0, 3.0)):
        memory, decoder = memory_and_decoder(seed)
        found = found_by(decoder, memory, beams, power)
        for video, tokens in enumerate(found.tokens):
            expected, score = found_by_hand(tables(seed)[video], beams, power)
            assert tokens == expected, (seed, power, video)
            assert found.scores[video] == pytest.approx(score, rel=1e-4)
            lengths.add(len(tokens))
    assert len(lengths) > 2, "captions of like length prove little of how lengths are weighed"


@pytest.mark.parametrize("kind", ["greedy", "beam", "sample"])
def test_a_memory_that_holds_no_numbers_is_refused_with_its_rows(
    kind: Literal["greedy", "beam", "sample"],
) -> None:
    memory, decoder = memory_and_decoder(0)
    memory[1] = float("nan")
    settings = GenerationConfig(kind=kind, max_tokens=MOST)
    state = decoder.begin(2, memory=memory)
    with pytest.raises(ValueError, match=r"logits of rows \[1\] are no numbers"):
        generate(decoder, state, start=START, end=END, config=settings)
