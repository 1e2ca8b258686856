"""Words to numbers and back: learned from the training captions, kept inside the checkpoint."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

BYTES = 256
"""Words of one byte, which every vocabulary holds: no script and no emoji is out of reach."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How captions become tokens."""

    words: int = 8000
    """Most words and parts of words, the 256 bytes among them."""

    least_count: int = 2
    """How often a pair of parts must occur to become one."""

    lower: bool = False
    """Whether captions are lower-cased: the field's scorers do so anyway, and what is said of a
    sentence's first word then also counts for the same word elsewhere."""

    time_tokens: int = 0
    """Tokens that stand for times: bins of the window that a sentence is about; 0 is none. With
    them a sentence corrects the bounds that the event head found; on errands' validation part 100
    of them made things worse (recall 68 instead of 79), so by default the head's bounds stand."""

    def __post_init__(self) -> None:
        if self.words < BYTES:
            raise ValueError(f"words must be at least {BYTES}, one a byte, got {self.words}")
        if self.least_count < 1 or self.time_tokens < 0 or self.time_tokens == 1:
            raise ValueError(
                "least_count must be at least 1, and time_tokens 0 or at least 2, got "
                f"{self.least_count}, {self.time_tokens}"
            )


class CaptionTokenizer:
    """Text to tokens and back: words first, then `pad`, `begin` and `end`, then times.

    Words are byte-pair codes over UTF-8 bytes (Sennrich et al., "Neural Machine Translation of Rare
    Words with Subword Units", 2016; bytes as in Radford et al., "Language Models are Unsupervised
    Multitask Learners", 2019), so any text comes back as it was, but for its white space, which
    becomes single spaces. What stands after the words never comes from text, whatever it says.

    Args:
        config: how many times there are.
        words: the JSON of the words; `train_tokenizer` makes it, or a language model has it.
        room: tokens that a language model knows, where they are more than its words.

    Raises:
        ValueError: the words are no tokenizer of the `tokenizers` package.
    """

    def __init__(self, config: TokenizerConfig, words: str, *, room: int = 0) -> None:
        self.config = config
        self.words = words
        self.num_words = max(self._words.get_vocab_size(), room)
        self.pad, self.begin, self.end = range(self.num_words, self.num_words + 3)
        self.first_time = self.end + 1

    def __len__(self) -> int:
        return self.first_time + self.config.time_tokens

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text's words alone, none where it has no words."""
        return list(self._words.encode(_tidy(text), add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of the words before the first `end`; bytes that are no UTF-8 are marked.

        Raises:
            ValueError: a token that the vocabulary lacks.
        """
        tokens = [int(token) for token in tokens]
        if unknown := [token for token in tokens if not 0 <= token < len(self)]:
            raise ValueError(f"tokens must lie in 0..{len(self) - 1}, got {unknown[:5]}")
        if self.end in tokens:
            tokens = tokens[: tokens.index(self.end)]
        return self._words.decode([token for token in tokens if token < self.num_words]).strip()

    def encode_time(self, share: float | int) -> int:
        """Return the token of the bin that a share of the window, cut off at 0 and 1, falls into.

        Raises:
            ValueError: the tokenizer has no time tokens.
        """
        bins = self.config.time_tokens
        if not bins:
            raise ValueError("this tokenizer has no time tokens; time_tokens is 0")
        return self.first_time + round(min(max(share, 0.0), 1.0) * (bins - 1))

    def decode_time(self, token: int) -> float | None:
        """Return the share of the window that a time token stands for, None for other tokens."""
        bin_number = token - self.first_time
        bins = self.config.time_tokens
        return bin_number / (bins - 1) if 0 <= bin_number < bins else None

    def to_plain(self) -> dict[str, Any]:
        """Return what a checkpoint carries: strings and numbers alone."""
        return {"config": asdict(self.config), "words": self.words, "room": self.num_words}

    @cached_property
    def _words(self) -> Tokenizer:
        try:
            return Tokenizer.from_str(self.words)
        except Exception as error:  # the package raises nothing narrower
            raise ValueError(f"not a tokenizer's JSON: {error}") from error


def tokenizer_from_plain(values: dict[str, Any]) -> CaptionTokenizer:
    """Build the tokenizer again of what `to_plain` returned."""
    return CaptionTokenizer(
        TokenizerConfig(**values["config"]), values["words"], room=values["room"]
    )


def read_tokenizer(path: Path, config: TokenizerConfig, *, room: int = 0) -> CaptionTokenizer:
    """Return the tokenizer of a language model's `tokenizer.json`; of ``config`` the times count.

    Raises:
        ValueError: there is no such file, or it is no tokenizer.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a language model comes with its tokenizer")
    try:
        return CaptionTokenizer(config, path.read_text(encoding="utf-8"), room=room)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def train_tokenizer(captions: Iterable[str], config: TokenizerConfig) -> CaptionTokenizer:
    """Learn words from captions; the same captions, in any order, give the same words.

    Raises:
        ValueError: no caption has a word.
    """
    # sorted: ties between pairs that occur as often are broken by what came first
    texts = sorted(text for text in map(_tidy, captions) if text)
    if not texts:
        raise ValueError("a tokenizer is trained on captions, but none of these has a word")
    words = Tokenizer(models.BPE())
    words.normalizer = normalizers.Lowercase() if config.lower else normalizers.Sequence([])
    # a space before the first word too: a word is one token wherever it stands
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.words,
        min_frequency=config.least_count,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words.train_from_iterator(texts, trainer)
    return CaptionTokenizer(config, words.to_str())


def _tidy(text: str) -> str:
    # half a character, as of a file name that is no UTF-8, has no bytes: it is marked as such
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
