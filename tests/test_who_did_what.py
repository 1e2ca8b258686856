from collections.abc import Sequence

import numpy as np
import pytest

from vidmamba.datasets.errands.appearance import draw_person_at_random
from vidmamba.datasets.errands.config import ErrandsConfig
from vidmamba.datasets.errands.grammar import write_script
from vidmamba.datasets.errands.script import Outcome
from vidmamba.datasets.errands.sentences import write_sentences
from vidmamba.metrics.who_did_what import ERRANDS, Statement, pair_captions, score_who_did_what
from vidmamba.timeline import Caption

ENDS: tuple[Outcome, ...] = ("pocket", "put_back", "put_on_table")


def captions(*texts: str) -> list[Caption]:
    return [Caption(start=float(k), end=k + 1.0, text=text) for k, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            "The woman in red takes the blue box from the left shelf.",
            Statement("woman in red", "takes", "blue box", "left shelf"),
        ),
        (
            "The child in white puts the pink ball into their satchel.",
            Statement("child in white", "puts", "pink ball", "satchel"),
        ),
        (
            "the man in black puts the red bag into the crate on the table",
            Statement("man in black", "puts", "red bag", "table"),
        ),
        (
            "The man in black puts the red bag back on the right shelf.",
            Statement("man in black", "puts", "red bag", "right shelf"),
        ),
        ("A man in blue passes by.", Statement("man in blue", "passes by", "", "")),
        ("The man in blue walks about.", Statement("man in blue", "walks", "", "about")),
        (
            "The man in blue walks to the left shelf.",
            Statement("man in blue", "walks", "", "left shelf"),
        ),
        (
            "The man in blue leaves with the green book.",
            Statement("man in blue", "leaves with", "green book", ""),
        ),
    ],
)
def test_a_sentence_falls_into_its_parts(sentence: str, expected: Statement) -> None:
    assert ERRANDS.parse(sentence) == expected


@pytest.mark.parametrize("sentence", ["", "The woman in red takes", "Something happens.", "waits"])
def test_what_is_no_sentence_of_the_grammar_has_no_parts(sentence: str) -> None:
    assert ERRANDS.parse(sentence) is None


def test_the_grammar_has_a_form_for_all_that_errands_say_and_tells_them_apart() -> None:
    config = ErrandsConfig(videos=1)
    said = {
        caption.text
        for clip in range(40)
        for caption in write_sentences(
            write_script(config, clip, (ENDS[clip % 3], "pocket"), (60, 90)), 10.0
        )
    }
    parsed = {text: ERRANDS.parse(text) for text in said}
    assert None not in parsed.values()
    # but for the article, nothing that is said twice alike differs
    assert len({*parsed.values()}) == len(said)
    person = draw_person_at_random(np.random.default_rng(0), avoid=frozenset())
    assert ERRANDS.parse(f"A {person.kind} in {person.clothing} passes by.") is not None


def score(predicted: Sequence[Caption], true: Sequence[Caption]) -> dict[str, float]:
    return score_who_did_what([(predicted, true)], ERRANDS)


def test_each_part_counts_among_the_sentences_that_have_it() -> None:
    true = captions(
        "The woman in red takes the blue box from the left shelf.",
        "The woman in red waits.",
        "The woman in red leaves with the blue box.",
        "The man in red leaves empty-handed.",
    )
    told = captions(
        "The woman in red takes the pink box from the right shelf.",
        "The woman in red waits.",
        "The man in red leaves with the blue box.",
        "The man in red leaves with the blue box.",
    )
    assert score(told, true) == {
        "sentence": 25.0,
        "subject": 75.0,
        "verb": 75.0,
        "object": 50.0,
        "place": 0.0,
        "found": 100.0,
        "memory_sentence": 0.0,
        "memory_subject": 50.0,
        "memory_verb": 50.0,
        "memory_object": 100.0,
        "memory_found": 100.0,
    }


def test_the_truth_is_wholly_right_and_nothing_wholly_wrong() -> None:
    true = captions("The man in red waits.", "The man in red leaves with the red bag.")
    assert set(score(true, true).values()) == {100.0}
    assert set(score([], true).values()) == {0.0}


def test_a_sentence_too_far_off_in_time_or_said_once_for_two_answers_nothing() -> None:
    true = captions("The man in red waits.", "The man in red waits.")
    late = [Caption(start=0.4, end=1.4, text="The man in red waits.")]  # IoU 0.6 / 1.4
    assert score(late, true)["sentence"] == 0
    both = [Caption(start=0.0, end=2.0, text="The man in red waits.")]  # IoU 1 / 2 with each
    assert score(both, true)["sentence"] == 50


def test_the_best_overlap_is_paired_first() -> None:
    true = [Caption(start=0.0, end=10.0, text="a"), Caption(start=2.0, end=10.0, text="b")]
    predicted = [Caption(start=2.0, end=10.0, text="x"), Caption(start=0.0, end=7.0, text="y")]
    assert pair_captions(predicted, true, least_overlap=0.5) == [1, 0]


def test_a_true_sentence_out_of_the_grammar_is_refused() -> None:
    with pytest.raises(ValueError, match="no form for the true sentence 'Hm'"):
        score([], captions("Hm"))
    with pytest.raises(ValueError, match="got none"):
        score_who_did_what([], ERRANDS)
