"""CIDEr-D of tokens against the scorer of sentences, which is tested against pycocoevalcap."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vidmamba.metrics.captions import score_captions
from vidmamba.models import token_cider
from vidmamba.models.token_cider import TokenCider, learn_rarities

WORDS, END = 7, 7
Captions = list[list[list[int]]]


def drawn(videos: int, captions: int, *, seed: int, longest: int = 9) -> Captions:
    """Captions of few different words, so that n-grams come again, in one caption too."""
    chance = random.Random(seed)
    return [
        [chance.choices(range(WORDS), k=chance.randint(1, longest)) for _ in range(captions)]
        for _ in range(videos)
    ]


def padded(captions: Captions, *, filler: Sequence[int] = (END,)) -> Tensor:
    """Captions as a tensor; behind each one's end stand other tokens."""
    longest = max(len(row) for own in captions for row in own) + 3
    rows = [[[*row, END, *([*filler] * longest)][:longest] for row in own] for own in captions]
    return torch.tensor(rows)


def scored(captions: Captions, references: Captions) -> float:
    """CIDEr-D by the field's scorer, of one caption a video."""
    texts = {f"v{n}": " ".join(f"w{t}" for t in own[0]) for n, own in enumerate(captions)}
    truth = {
        f"v{n}": [" ".join(f"w{t}" for t in row) for row in own] for n, own in enumerate(references)
    }
    return score_captions(texts, truth, metrics=("cider_d",))["cider_d"] / 10


@pytest.mark.parametrize("seed", range(4))
def test_it_is_cider_d_where_rarities_are_those_of_the_scored_set(seed: int) -> None:
    references, captions = drawn(6, 5, seed=seed), drawn(6, 1, seed=seed + 100)
    likeness = learn_rarities(references, vocabulary=WORDS + 1, end=END)
    found = likeness(padded(captions), padded(references))
    assert found.shape == (6, 1, 5)
    torch.testing.assert_close(
        float(found.double().mean()), scored(captions, references), rtol=1e-5, atol=1e-7
    )


def test_a_caption_is_wholly_like_itself_and_not_at_all_like_other_words() -> None:
    likeness = TokenCider(vocabulary=WORDS + 1, end=END)
    captions = torch.tensor([[[0, 1, 2, 3, 4, END], [5, 6, 5, 6, 5, END]]])
    torch.testing.assert_close(likeness(captions, captions), torch.eye(2)[None])


def test_what_stands_behind_an_end_does_not_count() -> None:
    references, captions = drawn(3, 4, seed=1), drawn(3, 2, seed=2)
    likeness = learn_rarities(references, vocabulary=WORDS + 1, end=END)
    plain = likeness(padded(captions), padded(references))
    filled = likeness(padded(captions, filler=(3, END, 1)), padded(references, filler=(2,)))
    torch.testing.assert_close(plain, filled, rtol=0, atol=0)


def test_an_empty_caption_is_like_none() -> None:
    likeness = TokenCider(vocabulary=WORDS + 1, end=END)
    found = likeness(torch.full((1, 1, 3), END), torch.tensor([[[1, 2, END], [END, 1, 2]]]))
    torch.testing.assert_close(found, torch.zeros(1, 1, 2))


def test_comparing_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    references, captions = padded(drawn(7, 4, seed=5)), padded(drawn(7, 3, seed=6))
    likeness = learn_rarities(drawn(7, 4, seed=5), vocabulary=WORDS + 1, end=END)
    whole = likeness(captions, references)
    monkeypatch.setattr(token_cider, "AT_ONCE", 3 * captions[0].numel() * references[0].numel())
    torch.testing.assert_close(likeness(captions, references), whole, rtol=0, atol=0)


def test_what_was_learned_is_saved_and_loaded() -> None:
    known = drawn(5, 4, seed=8)
    likeness = learn_rarities(known, vocabulary=WORDS + 1, end=END)
    again = TokenCider(vocabulary=WORDS + 1, end=END, ngrams=len(likeness.keys))
    again.load_state_dict(likeness.state_dict())
    captions = padded(known)
    torch.testing.assert_close(again(captions, captions), likeness(captions, captions))
    assert not TokenCider(vocabulary=WORDS + 1, end=END).state_dict()


def test_a_language_models_vocabulary_is_not_too_large() -> None:
    """256,000**4 is beyond 64 bits."""
    shift = 255_000
    references = [[[token + shift for token in row] for row in own] for own in drawn(5, 4, seed=3)]
    captions = drawn(5, 1, seed=4)
    likeness = learn_rarities(references, vocabulary=256_000, end=END)
    moved = [[[token + shift for token in row] for row in own] for own in captions]
    found = likeness(padded(moved), padded(references))
    plain = [[[token - shift for token in row] for row in own] for own in references]
    torch.testing.assert_close(
        float(found.double().mean()), scored(captions, plain), rtol=1e-5, atol=1e-7
    )
