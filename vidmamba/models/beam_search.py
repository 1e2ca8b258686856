"""Write the likeliest captions: those that a beam search finds, or, with one beam, greedily."""

import torch
from torch import Tensor

from vidmamba.models.decoder import DecoderState, TokenDecoder
from vidmamba.models.generation_rules import Generated, Rules


def search(decoder: TokenDecoder, state: DecoderState, prompt: Tensor, rules: Rules) -> Generated:
    """Follow the likeliest beginnings until none of them can become the best caption.

    A caption that ends leaves the beam and its place is not filled again (Sutskever et al.,
    "Sequence to Sequence Learning with Neural Networks", 2014, section 3.2), so that one beam is a
    greedy search.
    """
    config, videos = rules.config, state.rows
    beams = config.beams if config.kind == "beam" else 1
    logits, state = decoder.step(prompt, state)
    state = state.spread(beams)
    best = _Best(prompt, rules)
    tokens = prompt.repeat_interleave(beams, dim=0)
    logits = logits[:, -1].repeat_interleave(beams, dim=0)
    first = beams * torch.arange(videos, device=tokens.device).unsqueeze(1)
    rank = torch.arange(beams, device=tokens.device)
    places = torch.full_like(first, beams)
    # all beams of a video begin alike: only its first counts
    total = logits.new_full((videos, beams), -torch.inf, dtype=torch.float32)
    total[:, 0] = 0
    for length in range(1, config.max_tokens + 1):
        found = rules.log_probabilities(logits, tokens)
        total = (total.unsqueeze(-1) + found.unflatten(0, (videos, beams))).flatten(1)
        total, which = total.topk(beams, dim=1)
        total = total.masked_fill(rank >= places, -torch.inf)
        rows = (first + which // found.shape[1]).flatten()
        token = which % found.shape[1]
        tokens = torch.cat([tokens[rows], token.view(-1, 1)], dim=1)
        ended = (token == rules.end) & total.isfinite()
        over = torch.full_like(ended, fill_value=length == config.max_tokens)
        best.offer(total.masked_fill(~(ended | over), -torch.inf), tokens, length)
        places = places - ended.sum(dim=1, keepdim=True)
        total = total.masked_fill(ended, -torch.inf)
        if length == config.max_tokens or not best.beatable(total, length).any():
            break
        if beams > 1:
            state = state.reorder(rows)
        logits, state = decoder.step(token.view(-1, 1), state)
        logits = logits[:, -1]
    return Generated([rules.caption(row) for row in best.tokens.tolist()], best.scores.tolist())


class _Best:
    """The best caption of each video so far."""

    def __init__(self, prompt: Tensor, rules: Rules) -> None:
        self.rules = rules
        # wholly on the decoder's device: what is best is asked for once, when all is written
        unwritten = prompt.new_full((prompt.shape[0], rules.config.max_tokens), rules.end)
        self.tokens = torch.cat([prompt, unwritten], dim=1)
        self.scores = torch.full(prompt.shape[:1], -torch.inf, device=prompt.device)

    def offer(self, total: Tensor, tokens: Tensor, length: int) -> None:
        """Take what is better than the best among (videos, beams) captions, -inf for no caption."""
        scores, beam = self.rules.score(total, length).max(dim=1)
        better = scores > self.scores
        self.scores = torch.where(better, scores, self.scores)
        rows = beam + total.shape[1] * torch.arange(len(beam), device=beam.device)
        # later captions are longer, so that nothing of the one before is left behind
        size = tokens.shape[1]
        held = self.tokens[:, :size]
        self.tokens[:, :size] = torch.where(better.unsqueeze(1), tokens[rows], held)

    def beatable(self, total: Tensor, length: int) -> Tensor:
        """Return for each video whether what is still being written could become better.

        Log-probabilities only fall; divided by a power of the length, the least that they can fall
        is weighed at the longest caption for a positive power, and at the next one otherwise.
        """
        power = self.rules.config.length_penalty
        longest = self.rules.config.max_tokens if power > 0 else length + 1
        return self.rules.score(total.amax(dim=1), longest) > self.scores
