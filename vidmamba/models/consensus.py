"""Write captions that many others agree with."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidmamba.models.decoder import DecoderState, TokenDecoder
from vidmamba.models.generation_rules import Generated, Rules
from vidmamba.models.sampling import sample
from vidmamba.models.token_cider import TokenCider


def agree(
    decoder: TokenDecoder, state: DecoderState, prompt: Tensor, rules: Rules, likeness: TokenCider
) -> Generated:
    """Draw many captions of each video, and return the one that is most like all of them.

    Minimum Bayes risk (Kumar and Byrne, 2004; Eikema and Aziz, 2020): the drawn captions stand for
    what people might say, and the one that would score best by them is told. The likeliest caption
    is often a short one that says little.
    """
    copies = rules.config.candidates
    written = sample(decoder, state.spread(copies), prompt.repeat_interleave(copies, dim=0), rules)
    rows = [torch.tensor([*row, rules.end]) for row in written.tokens]
    drawn = pad_sequence(rows, batch_first=True, padding_value=rules.end)
    drawn = drawn.unflatten(0, (-1, copies)).to(prompt.device)  # videos candidates tokens
    best = likeness(drawn, drawn).mean(dim=-1).argmax(dim=-1).tolist()
    chosen = [video * copies + place for video, place in enumerate(best)]
    return Generated(
        [written.tokens[row] for row in chosen], [written.scores[row] for row in chosen]
    )
