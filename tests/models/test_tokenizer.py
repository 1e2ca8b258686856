import json
import pickle
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from vidmamba.models.tokenizer import (
    CaptionTokenizer,
    TokenizerConfig,
    read_tokenizer,
    tokenizer_from_plain,
    train_tokenizer,
)

CAPTIONS = [
    "The woman in red takes the blue box from the left shelf.",
    "The woman in red leaves with the blue box.",
    "The man in green waits.",
] * 3


def trained(captions: Sequence[str] = CAPTIONS, **values: int | bool) -> CaptionTokenizer:
    return train_tokenizer(captions, TokenizerConfig(words=400, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "The woman in red waits.",
        "Une élève s'en va, « déjà ».",
        "女人把蓝色的盒子放进包里",
        "Женщина уходит",
        "المرأة تغادر",
        "she waves 👋🏽 to the 👨‍👩‍👧‍👦",
        'a <pad> <end> </s> \\ " {brace} \x07',
    ],
)
def test_any_script_and_emoji_come_back_though_none_was_trained_on(text: str) -> None:
    tokenizer = trained()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_character_of_the_basic_plane_comes_back() -> None:
    tokenizer = trained()
    for start in range(0x21, 0xD800, 0x400):
        text = "".join(map(chr, range(start, min(start + 0x400, 0xD800))))
        expected = " ".join(text.split())
        assert tokenizer.decode(tokenizer.encode(text)) == expected


def test_half_a_character_is_marked_and_the_rest_kept() -> None:
    tokenizer = trained()
    assert tokenizer.decode(tokenizer.encode("a\udce9b")) == "a\N{REPLACEMENT CHARACTER}b"


def test_white_space_becomes_single_spaces_and_none_is_no_token() -> None:
    tokenizer = trained()
    assert tokenizer.encode("  The\n man \t waits. ") == tokenizer.encode("The man waits.")
    assert tokenizer.encode(" \n") == []
    assert tokenizer.decode([]) == ""


def test_frequent_words_are_one_token_wherever_they_stand() -> None:
    tokenizer = trained(lower=True)
    assert len(tokenizer.encode("the woman")) == 2
    assert tokenizer.encode("The woman") == tokenizer.encode("woman the")[::-1]
    assert tokenizer.decode(tokenizer.encode("The WOMAN")) == "the woman"


def test_the_order_of_the_captions_changes_nothing() -> None:
    captions = [f"{a} {b} {c}" for a in "abcde" for b in "fghij" for c in ("klm", "kln")]
    shuffled = random.Random(0).sample(captions, len(captions))
    assert trained(captions).to_plain() == trained(shuffled).to_plain()


def test_it_comes_back_from_plain_json_and_from_a_pickle() -> None:
    tokenizer = trained(time_tokens=10)
    text = "The man in green takes the blue box."
    plain = json.loads(json.dumps(tokenizer.to_plain()))
    for again in (tokenizer_from_plain(plain), pickle.loads(pickle.dumps(tokenizer))):
        assert again.encode(text) == tokenizer.encode(text)
        assert len(again) == len(tokenizer)


def test_text_never_gives_a_special_token_and_every_token_fits() -> None:
    tokenizer = trained(time_tokens=10)
    tokens = tokenizer.encode("<pad> [PAD] <s> </s> 0 1 2 \0 \x01 \x02 The woman")
    assert max(tokens) < tokenizer.num_words == tokenizer.pad == len(tokenizer) - 13


def test_decoding_stops_at_the_end_and_skips_times_and_padding() -> None:
    tokenizer = trained(time_tokens=10)
    words = tokenizer.encode("The man waits.")
    times = [tokenizer.encode_time(0), tokenizer.encode_time(1)]
    row = [tokenizer.begin, *times, *words, tokenizer.pad, tokenizer.end, *words]
    assert tokenizer.decode(row) == "The man waits."


def test_times_are_bins_of_the_window() -> None:
    tokenizer = trained(time_tokens=11)
    for share, expected in ((0, 0.0), (0.04, 0.0), (0.06, 0.1), (0.5, 0.5), (1, 1.0), (1.7, 1.0)):
        assert tokenizer.decode_time(tokenizer.encode_time(share)) == pytest.approx(expected)
    assert tokenizer.decode_time(tokenizer.end) is None
    assert tokenizer.decode_time(len(tokenizer)) is None
    with pytest.raises(ValueError, match="no time tokens"):
        trained().encode_time(0.5)


def test_a_language_models_tokens_keep_their_numbers_and_room(tmp_path: Path) -> None:
    own = Tokenizer.from_str(trained().words)
    path = tmp_path / "tokenizer.json"
    path.write_text(own.to_str())
    tokenizer = read_tokenizer(path, TokenizerConfig(time_tokens=10), room=1000)
    text = "The woman in red waits."
    assert tokenizer.encode(text) == own.encode(text).ids
    assert (tokenizer.pad, len(tokenizer)) == (1000, 1013)
    again = tokenizer_from_plain(tokenizer.to_plain())
    assert again.decode(again.encode(text)) == text
    assert len(again) == 1013
    with pytest.raises(ValueError, match=r"nowhere\.json: no such file"):
        read_tokenizer(tmp_path / "nowhere.json", TokenizerConfig())
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer's JSON"):
        read_tokenizer(path, TokenizerConfig())


def test_bad_input_is_refused_with_its_value() -> None:
    with pytest.raises(ValueError, match="words must be at least 256, one a byte, got 100"):
        TokenizerConfig(words=100)
    with pytest.raises(ValueError, match="got 2, 1"):
        TokenizerConfig(time_tokens=1)
    with pytest.raises(ValueError, match="none of these has a word"):
        train_tokenizer(["", "  "], TokenizerConfig())
    with pytest.raises(ValueError, match="not a tokenizer's JSON"):
        CaptionTokenizer(TokenizerConfig(), "{}")
    with pytest.raises(ValueError, match=r"got \[99999\]"):
        trained().decode([99999])
