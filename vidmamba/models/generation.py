"""Write captions with a token decoder: greedily, by beam search, by sampling, by consensus."""

import math

import torch
from jaxtyping import Int
from torch import Tensor

from vidmamba.models.beam_search import search
from vidmamba.models.consensus import agree
from vidmamba.models.decoder import DecoderState, TokenDecoder
from vidmamba.models.generation_rules import Allowed, Generated, GenerationConfig, Rules
from vidmamba.models.sampling import sample
from vidmamba.models.token_cider import TokenCider

__all__ = ["Generated", "GenerationConfig", "generate"]


@torch.no_grad()
def generate(
    decoder: TokenDecoder,
    state: DecoderState,
    *,
    start: int | Int[Tensor, "B S"],
    end: int,
    config: GenerationConfig,
    allowed: Allowed | None = None,
    likeness: TokenCider | None = None,
) -> Generated:
    """Write one caption for each row of a state that `TokenDecoder.begin` returned.

    The decoder is used as it is: in training mode its dropout makes captions vary. Where the rules
    leave no token, a caption ends, whatever min_tokens and ``allowed`` say. ``allowed`` is asked
    before each token; in a beam search B counts its captions, those of one video together, and so
    it counts a consensus' candidates. It is asked about rows that have ended or left the beam too,
    whose answers change nothing. ``likeness`` says what a consensus is; by default all n-grams are
    equally rare.

    Raises:
        ValueError: a token that the decoder lacks, a start or mask of another shape, or logits that
            are no numbers.
    """
    videos, vocabulary = state.rows, decoder.config.vocabulary
    device = decoder.embed.weight.device
    prompt = start if isinstance(start, Tensor) else torch.full((videos, 1), start, device=device)
    if prompt.shape[0] != videos or prompt.shape[1] < 1:
        raise ValueError(
            f"start must be one token or ({videos}, at least 1) of them, got {[*prompt.shape]}"
        )
    used = torch.tensor([end, int(prompt.min()), int(prompt.max())])
    if used.min() < 0 or used.max() >= vocabulary:
        raise ValueError(f"start and end must lie in 0..{vocabulary - 1}, got {start}, {end}")
    rules = Rules(config, end, allowed, prompt.shape[1])
    if config.kind == "consensus":
        likeness = likeness or TokenCider(vocabulary=vocabulary, end=end).to(device)
        written = agree(decoder, state, prompt, rules, likeness)
    else:
        written = (sample if config.kind == "sample" else search)(decoder, state, prompt, rules)
    if broken := [row for row, score in enumerate(written.scores) if not math.isfinite(score)]:
        raise ValueError(
            f"the logits of rows {broken[:5]} are no numbers; their memory, the state or the "
            "decoder's weights hold NaN or infinity"
        )
    return written
