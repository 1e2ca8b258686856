"""Write captions by chance."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidmamba.models.decoder import DecoderState, TokenDecoder
from vidmamba.models.generation_rules import Generated, Rules


def sample(decoder: TokenDecoder, state: DecoderState, tokens: Tensor, rules: Rules) -> Generated:
    """Draw each token from what the rules leave, at the config's temperature and ``top_p``.

    The score is of the decoder's own probabilities, before temperature and ``top_p``.
    """
    config = rules.config
    # on the CPU: one seed draws the same everywhere
    generator = torch.Generator().manual_seed(config.seed)
    size = (config.max_tokens, state.rows)
    chances = torch.rand(size, generator=generator, dtype=torch.float64).to(tokens.device)
    logits, state = decoder.step(tokens, state)
    total = logits.new_zeros(state.rows, dtype=torch.float32)
    length = torch.zeros_like(total)
    writing = torch.ones_like(total, dtype=torch.bool)
    for chance in chances:
        found = rules.log_probabilities(logits[:, -1], tokens)
        # less the likeliest's: at a temperature next to 0 all but it are infinitely less likely
        above = found.double() - found.amax(dim=-1, keepdim=True)
        token = choose(above / config.temperature, chance, config.top_p)
        token = token.masked_fill(~writing, rules.end)
        total += found.gather(1, token[:, None])[:, 0].masked_fill(~writing, 0)
        length += writing
        tokens = torch.cat([tokens, token[:, None]], dim=1)
        writing &= token != rules.end
        if not writing.any():
            break
        logits, state = decoder.step(token[:, None], state)
    captions = [rules.caption(row) for row in tokens.tolist()]
    return Generated(captions, rules.score(total, length).tolist())


def choose(
    logits: Float[Tensor, "B V"], chance: Float[Tensor, " B"], top_p: float | int
) -> Int[Tensor, " B"]:
    """Return the token at each ``chance`` in [0, 1) of the fewest that hold ``top_p`` together.

    Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020), section 3.1.
    """
    share = logits.double().softmax(dim=-1)
    order = torch.arange(share.shape[-1], device=share.device).expand_as(share)
    if top_p < 1:  # sorting takes longer than all else here
        share, order = share.sort(dim=-1, descending=True, stable=True)
        share = share.masked_fill(share.cumsum(dim=-1) - share >= top_p, 0)
    reached = share.cumsum(dim=-1)
    goal = chance[:, None] * reached[:, -1:]
    place = torch.searchsorted(reached, goal, right=True)
    # the first token beyond the goal; rounding must not lead past the last that has a share
    place = place.minimum(last_of(share > 0))
    # logits that are no numbers give none a share: any token, for the caller to refuse
    return order.gather(1, place.clamp(min=0))[:, 0]


def last_of(found: Bool[Tensor, "B V"]) -> Int[Tensor, "B 1"]:
    """Return the last place in each row where something is true, -1 where nothing is."""
    place = torch.arange(1, found.shape[-1] + 1, device=found.device)
    return (place * found).amax(dim=-1, keepdim=True) - 1
