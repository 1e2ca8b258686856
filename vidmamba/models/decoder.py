"""Tokens out of video states: Mamba blocks over the tokens, each looking at the video's memory."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidmamba.models.memory import Memory, MemoryAttention
from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import Mamba1Mixer, MambaConfig, MixerState
from vidmamba.nn.token_rivals import AttentionTokens, LSTMTokens

TokenMixer = Mamba1Mixer | Mamba2Mixer | LSTMTokens | AttentionTokens
"""What a decoder's block may carry tokens on with."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of a `TokenDecoder`."""

    vocabulary: int
    """V, the tokens that exist; they are the integers 0..V - 1."""

    width: int = 256
    """D, the channels of every block."""

    depth: int = 4
    """How many blocks follow each other."""

    mixer: Literal["mamba1", "mamba2", "lstm", "attention"] = "mamba1"
    """What carries the tokens before into the next one; attention makes each block a Transformer's,
    with a feed-forward layer."""

    mamba1: MambaConfig = field(default_factory=MambaConfig)
    """Sizes of the mixers where ``mixer`` is mamba1."""

    mamba2: Mamba2Config = field(default_factory=Mamba2Config)
    """Sizes of the mixers where ``mixer`` is mamba2."""

    attend_every: int = 1
    """Blocks from one look at the video to the next; 0 never looks."""

    heads: int = 4
    """Sets of queries, keys and values of a look at the video; they divide the width."""

    memory_width: int = 0
    """F, the channels of the video's memory; 0 stands for the decoder's own width."""

    dropout: float = 0.0
    """Share of what a block finds that is dropped in training."""

    tied: bool = True
    """Whether the logits are read off with the tokens' own embeddings."""

    norm_epsilon: float = 1e-5
    """What keeps the norms of a silent block's input from dividing by zero."""

    def __post_init__(self) -> None:
        if min(self.vocabulary, self.width, self.depth, self.heads) < 1:
            raise ValueError(
                "vocabulary, width, depth and heads must be at least 1, got "
                f"{self.vocabulary}, {self.width}, {self.depth}, {self.heads}"
            )
        if min(self.attend_every, self.memory_width) < 0:
            raise ValueError(
                "attend_every and memory_width must not be negative, got "
                f"{self.attend_every}, {self.memory_width}"
            )
        if (self.attend_every or self.mixer == "attention") and self.width % self.heads:
            raise ValueError(f"width {self.width} must split into {self.heads} equal heads")
        if self.mixer not in ("mamba1", "mamba2", "lstm", "attention"):
            raise ValueError(f"mixer must be mamba1, mamba2, lstm or attention, got {self.mixer!r}")
        if not 0 <= self.dropout < 1 or not 0 < self.norm_epsilon < 1:
            raise ValueError(
                "dropout must lie in [0, 1) and norm_epsilon in (0, 1), got "
                f"{self.dropout}, {self.norm_epsilon}"
            )


class DecoderState(NamedTuple):
    """What a `TokenDecoder` must remember to go on with the next token, a row each caption.

    The memory is kept once a video: where each of V videos has several rows, as in a beam search,
    they lie next to each other and share it.
    """

    mixers: tuple[MixerState, ...]
    memory: tuple[Memory, ...]
    """One for each block that looks at the video, none without a video."""

    @property
    def rows(self) -> int:
        """B, the captions that are being written."""
        return self.mixers[0].scan.shape[0]

    def spread(self, copies: int) -> "DecoderState":
        """Return ``copies`` rows next to each other for each row; the memory is not copied."""
        index = torch.arange(self.rows, device=self.mixers[0].scan.device)
        return self.reorder(index.repeat_interleave(copies))

    def reorder(self, index: Int[Tensor, " rows"]) -> "DecoderState":
        """Return the rows that ``index`` names, which must stay in the place of their video."""
        mixers = (MixerState(*(x.index_select(0, index) for x in state)) for state in self.mixers)
        return DecoderState(tuple(mixers), self.memory)

    def select(self, index: Int[Tensor, " rows"]) -> "DecoderState":
        """Return the rows that ``index`` names, any of them, each with its own memory."""
        if not self.memory:
            return self.reorder(index)
        video = index // (self.rows // self.memory[0].keys.shape[0])
        memory = (Memory(*(x.index_select(0, video) for x in each)) for each in self.memory)
        return DecoderState(self.reorder(index).mixers, tuple(memory))


class DecoderBlock(nn.Module):
    """x + mixer(norm(x)), then, where the block looks at the video, x + attention(norm(x))."""

    def __init__(self, config: DecoderConfig, *, attends: bool) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.mixer = _make_mixer(config)
        self.attention: MemoryAttention | None = None
        if attends:
            self.attention = MemoryAttention(
                config.width,
                heads=config.heads,
                memory_width=config.memory_width or config.width,
                norm_epsilon=config.norm_epsilon,
            )
        self.feed: nn.Sequential | None = None
        if config.mixer == "attention":
            self.feed = nn.Sequential(
                nn.RMSNorm(config.width, eps=config.norm_epsilon),
                nn.Linear(config.width, 4 * config.width),
                nn.GELU(),
                nn.Linear(4 * config.width, config.width),
            )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "B S D"], memory: Memory | None) -> Float[Tensor, "B S D"]:
        """Return whole captions after this block."""
        return self._look(x + self.dropout(self.mixer(self.norm(x))), memory)

    def step(
        self, x: Float[Tensor, "B S D"], memory: Memory | None, state: MixerState
    ) -> tuple[Float[Tensor, "B S D"], MixerState]:
        """Return the next tokens after this block, and the state that they leave."""
        found, state = self.mixer.continue_from(self.norm(x), state)
        return self._look(x + self.dropout(found), memory), state

    def _look(self, x: Tensor, memory: Memory | None) -> Tensor:
        if self.attention is not None and memory is not None:
            x = x + self.dropout(self.attention(x, memory))
        return x if self.feed is None else x + self.dropout(self.feed(x))


def _make_mixer(config: DecoderConfig) -> TokenMixer:
    if config.mixer == "lstm":
        return LSTMTokens(config.width)
    if config.mixer == "attention":
        return AttentionTokens(config.width, heads=config.heads)
    if config.mixer == "mamba1":
        return Mamba1Mixer(config.width, config.mamba1)
    mixer = Mamba2Mixer(config.width, config.mamba2)
    mixer.norm.eps = config.norm_epsilon
    return mixer


class TokenDecoder(nn.Module):
    """Logits of the next token, given those before and, where there is one, a video's memory.

    The state is of one size however many tokens went before (Gu and Dao, 2023), and the memory's
    keys and values are computed once, so a token's cost depends on the memory's rows alone.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        every = config.attend_every
        self.blocks = nn.ModuleList(
            DecoderBlock(config, attends=every > 0 and (i + 1) % every == 0)
            for i in range(config.depth)
        )
        self.norm = nn.RMSNorm(config.width, eps=config.norm_epsilon)
        self.logits = nn.Linear(config.width, config.vocabulary, bias=False)
        nn.init.normal_(self.logits.weight, std=0.02)
        if config.tied:
            self.logits.weight = self.embed.weight

    def forward(
        self,
        tokens: Int[Tensor, "B S"],
        *,
        memory: Float[Tensor, "B M F"] | None = None,
        memory_mask: Bool[Tensor, "B M"] | None = None,
    ) -> Float[Tensor, "B S V"]:
        """Return, for each token of whole captions, the logits of the one after it.

        Raises:
            ValueError: the memory or its mask do not fit the decoder or each other.
        """
        memories = self._memories(self._remember(tokens.shape[0], memory, memory_mask))
        x = self.embed(tokens)
        for block, each in zip(self.blocks, memories, strict=True):
            x = block(x, each)
        return self.logits(self.norm(x))

    def begin(
        self,
        videos: int,
        *,
        memory: Float[Tensor, "B M F"] | None = None,
        memory_mask: Bool[Tensor, "B M"] | None = None,
    ) -> DecoderState:
        """Return the state before the first token of one caption a video.

        Raises:
            ValueError: the memory or its mask do not fit the decoder or each other.
        """
        mixers = (block.mixer.empty_state(videos) for block in self._blocks())
        return DecoderState(tuple(mixers), self._remember(videos, memory, memory_mask))

    def step(
        self, tokens: Int[Tensor, "B S"], state: DecoderState
    ) -> tuple[Float[Tensor, "B S V"], DecoderState]:
        """Return the logits after each of the next tokens, and the state that these leave."""
        x, mixers = self.embed(tokens), []
        memories = self._memories(state.memory)
        for block, memory, before in zip(self._blocks(), memories, state.mixers, strict=True):
            x, after = block.step(x, memory, before)
            mixers.append(after)
        return self.logits(self.norm(x)), DecoderState(tuple(mixers), state.memory)

    def _blocks(self) -> list[DecoderBlock]:
        return [block for block in self.blocks if isinstance(block, DecoderBlock)]

    def _memories(self, memory: tuple[Memory, ...]) -> list[Memory | None]:
        """The memory of each block, None for those that do not look."""
        left = iter(memory)
        return [next(left, None) if block.attention else None for block in self._blocks()]

    def _remember(
        self, videos: int, memory: Tensor | None, mask: Tensor | None
    ) -> tuple[Memory, ...]:
        attending = [block.attention for block in self._blocks() if block.attention]
        if memory is None:
            if mask is not None:
                raise ValueError("a memory_mask without a memory masks nothing; pass both")
            return ()
        if not attending:
            raise ValueError("this decoder never looks at a memory: attend_every leaves no block")
        width = self.config.memory_width or self.config.width
        if memory.shape[0] != videos or memory.shape[2] != width:
            raise ValueError(
                f"memory must be ({videos} videos, rows, {width} channels), got {[*memory.shape]}"
            )
        seen = memory.new_ones(memory.shape[:2], dtype=torch.bool) if mask is None else mask
        if seen.shape != memory.shape[:2]:
            raise ValueError(
                f"memory_mask must be {[*memory.shape[:2]]} like the memory, got {[*seen.shape]}"
            )
        if memory.shape[1] == 0:
            return ()
        return tuple(attention.remember(memory, seen) for attention in attending)
