"""The parts of generation by themselves: nucleus, n-grams, penalties and settings, by hand."""

from collections import Counter
from typing import Any

import pytest
import torch

from vidmamba.models.generation import GenerationConfig
from vidmamba.models.generation_rules import penalise_repetition, repeated_ngrams
from vidmamba.models.sampling import choose


def test_a_nucleus_is_the_fewest_tokens_that_hold_its_share() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    chance = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    found = Counter(choose(logits.expand(100, -1), chance, 0.65).tolist())
    # 0.4 and 0.3 hold 0.7; of a hundred even chances 4/7 fall to the first
    assert found == {1: 57, 3: 43}
    found = Counter(choose(logits.expand(100, -1), chance, 1).tolist())
    assert found == {1: 40, 3: 30, 2: 20, 0: 10}


def test_chance_next_to_one_never_finds_a_token_of_no_share() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0, -torch.inf]])
    chance = torch.tensor([1 - 2**-53], dtype=torch.float64)
    # of the whole vocabulary the last of its own order, of a nucleus the least likely
    assert choose(logits, chance, 1.0).tolist() == [2]
    assert choose(logits, chance, 0.9).tolist() == [0]
    assert choose(logits, chance, 0.5).tolist() == [2]


def test_a_token_that_would_repeat_an_ngram_is_known() -> None:
    written = torch.tensor([[1, 2, 3, 1, 2], [4, 4, 4, 0, 4]])

    def barred(size: int) -> list[list[int]]:
        return [row.nonzero().flatten().tolist() for row in repeated_ngrams(written, size, 5)]

    assert barred(1) == [[1, 2, 3], [0, 4]]
    assert barred(2) == [[3], [0, 4]]
    assert barred(3) == [[3], []]
    assert barred(5) == barred(6) == [[], []]


def test_a_penalty_divides_what_is_above_zero_and_multiplies_what_is_below() -> None:
    logits = torch.tensor([[2.0, -2.0, 3.0, -3.0]])
    found = penalise_repetition(logits, torch.tensor([[0, 1, 1]]), 2)
    assert found.tolist() == [[1.0, -4.0, 3.0, -3.0]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "best"},
        {"beams": 0},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"length_penalty": float("inf")},
        {"repetition_penalty": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"max_tokens": 0},
        {"min_tokens": 41},
        {"no_repeat_ngram": -1},
        {"repetition_penalty": 0.5},
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_value(wrong: dict[str, Any]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(Exception, match=name) as error:
        GenerationConfig(**wrong)
    assert str(value) in str(error.value)
