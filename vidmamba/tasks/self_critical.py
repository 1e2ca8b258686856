"""Learning from what the decoder itself writes: captions that people would score well get likelier.

Teacher forcing never shows a decoder its own mistakes, and cross-entropy is not what a caption is
scored by. Self-critical training (Rennie et al., 2017) draws captions, scores each by CIDEr-D
against what people said, and moves their probabilities by how much better or worse they are than
the others drawn of the same event (Kool et al., 2019; Luo, 2020).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vidmamba.models.captioner import Captioner
from vidmamba.models.decoder import TokenDecoder
from vidmamba.models.generation import GenerationConfig, generate
from vidmamba.models.telling import Sayable
from vidmamba.models.token_cider import TokenCider
from vidmamba.models.tokenizer import CaptionTokenizer
from vidmamba.tasks.caption_batches import CaptionBatch

SCALE = 10.0
"""CIDEr-D lies in 0..10, as the field's tables count it."""


def self_critical_loss(
    captioner: Captioner,
    batch: CaptionBatch,
    tokenizer: CaptionTokenizer,
    likeness: TokenCider,
    *,
    number: int,
) -> Float[Tensor, ""]:
    """Return minus what drawn captions are worth times their tokens' log-probabilities, a mean.

    Args:
        captioner: in training; captions are drawn without its dropout, and learned with it.
        batch: its sentences that are not told again are the references of their events.
        tokenizer: of the sentences.
        likeness: what scores them.
        number: captions that are drawn of each event, 2 at least.
    """
    new = slice(None) if batch.again is None else ~batch.again
    events, event = batch.about[new].unique(return_inverse=True)
    tokens = batch.tokens[new, 1:]
    tokens = tokens.masked_fill(tokens == tokenizer.pad, tokenizer.end)
    references = gather_references(tokens, event, end=tokenizer.end)
    states = captioner.encoder(batch.features, batch.mask)
    seen = captioner.view(states, batch.mask.sum(dim=1), batch.videos, batch.spans)
    memory = seen.memory[events]
    training = captioner.decoder.training  # validation's losses must leave it as it was
    captioner.decoder.eval()
    drawn = draw_captions(
        *(captioner.decoder, memory.detach(), tokenizer),
        number=number,
        most_words=tokens.shape[1] + 2,
    )
    captioner.decoder.train(training)
    weights = advantages(drawn, references, likeness)
    return weighted_loss(captioner.decoder, memory, drawn, weights, tokenizer)


def draw_captions(
    decoder: TokenDecoder,
    memory: Float[Tensor, "E M D"],
    tokenizer: CaptionTokenizer,
    *,
    number: int,
    most_words: int,
) -> Int[Tensor, "E K S"]:
    """Return so many captions by chance of each event, written from its window; all end."""
    seed = int(torch.randint(2**31, ()))
    written = generate(
        decoder,
        decoder.begin(len(memory), memory=memory).spread(number),
        start=tokenizer.begin,
        end=tokenizer.end,
        config=GenerationConfig(kind="sample", max_tokens=most_words, seed=seed),
        allowed=Sayable(tokenizer, memory.device),
    )
    rows = [torch.tensor([*row, tokenizer.end]) for row in written.tokens]
    drawn = pad_sequence(rows, batch_first=True, padding_value=tokenizer.end)
    return drawn.unflatten(0, (-1, number)).to(memory.device)


def gather_references(
    tokens: Int[Tensor, "R S"], event: Int[Tensor, " R"], *, end: int
) -> Int[Tensor, "E M S"]:
    """Return each event's sentences, as many as the event that has most; the rest are only ends.

    Args:
        tokens: of the sentences, without their beginning.
        event: of which event each is, all of 0..E - 1 among them.
        end: the token that ends one.
    """
    same = event.unsqueeze(0) == event.unsqueeze(1)
    place = same.tril(-1).sum(dim=1)  # how many of the event's sentences come before
    size = (int(event.max()) + 1, int(place.max()) + 1, tokens.shape[1])
    found = tokens.new_full(size, end)
    found[event, place] = tokens
    return found


def advantages(
    drawn: Int[Tensor, "E K S"], references: Int[Tensor, "E M L"], likeness: TokenCider
) -> Float[Tensor, "E K"]:
    """Return by how much each drawn caption's CIDEr-D is above the mean of the event's others.

    A reference that is only ends is none.
    """
    real = (references[..., 0] != likeness.end).sum(dim=-1, keepdim=True).clamp(min=1)
    rewards = SCALE * likeness(drawn, references).sum(dim=-1) / real
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (drawn.shape[1] - 1)
    return rewards - others


def weighted_loss(
    decoder: TokenDecoder,
    memory: Float[Tensor, "E M D"],
    drawn: Int[Tensor, "E K S"],
    weights: Float[Tensor, "E K"],
    tokenizer: CaptionTokenizer,
) -> Float[Tensor, ""]:
    """Return minus each caption's weight times its tokens' log-probability, a mean over tokens."""
    tokens = drawn.flatten(0, 1)
    told = F.pad(tokens, (1, 0), value=tokenizer.begin)[:, :-1]
    logits = decoder(told, memory=memory.repeat_interleave(drawn.shape[1], dim=0))
    missed = F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(), reduction="none")
    # the first end is a choice too, the ends behind it are not
    real = (tokens == tokenizer.end).cumsum(dim=1) <= 1
    weighted = weights.flatten().unsqueeze(1) * missed.unflatten(0, tokens.shape)
    return (weighted * real).sum() / real.sum()
