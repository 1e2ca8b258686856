"""Train captioners of clips as `fit` does, without what a step costs there beside the model.

A batch of clips is a few milliseconds on a GPU, and some fifty in Python, which draws and encodes
captions. Here features and captions lie on the device, all in one tensor each.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidmamba.benchmark.graphs import Graphs
from vidmamba.benchmark.quick import WAITING, Optimization
from vidmamba.config import from_plain
from vidmamba.datasets.batching import LengthBuckets, collate
from vidmamba.datasets.captions import events_of
from vidmamba.datasets.records import VideoItem
from vidmamba.models.captioner_events import EventMaps
from vidmamba.tasks.caption_batches import CaptionBatch, CaptionBatchConfig
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.training import TrainerConfig


def train_captioner_quickly(
    task: CaptioningTask,
    items: Sequence[VideoItem],
    config: TrainerConfig,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> None:
    """Train ``task`` in place for all epochs and leave it with the last, or averaged, weights.

    There is no log, no checkpoint and no validation; each batch holds the same videos as in `fit`,
    and captions that are drawn anew each time.

    Args:
        task: moved to ``device``.
        items: the training videos: clips, of one event each.
        config: epochs, batch size, clip and ema are read.
        seed: fixes the order of the videos.
        device: where to train.

    Raises:
        ValueError: a video has no event or several, or there are time tokens.
    """
    device = torch.device(device)
    task.to(device).train()
    order = LengthBuckets(
        [item.num_frames for item in items], batch_size=config.batch_size, shuffle=True, seed=seed
    )
    batches = [numbers for _ in range(config.epochs) for numbers in order]
    optimization = Optimization(task, config, steps=len(batches))
    clips = _Clips(task, items, device)
    if device.type == "cuda" and not {*task.net.config.stack.pattern} & {*WAITING}:
        _replay(optimization, task, clips, batches)
    else:
        for place, numbers in enumerate(batches):
            batch = clips.take(torch.tensor(numbers, device=device))
            optimization.step(batch, done=place / len(batches))
    optimization.finish()
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # so that whoever times this times all of it


def _replay(
    optimization: Optimization,
    task: CaptioningTask,
    clips: "_Clips",
    batches: Sequence[Sequence[int]],
) -> None:
    """Train on a GPU by graphs, one for each number of videos in a batch."""
    device = clips.tokens.device
    widest = max(len(numbers) for numbers in batches)
    rows = torch.tensor([[*numbers] + [0] * (widest - len(numbers)) for numbers in batches])
    rows = rows.to(device)
    graphs = Graphs()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for place, numbers in enumerate(batches):

            def step(videos: int = len(numbers), done: float = place / len(batches)) -> None:
                here = rows.index_select(0, optimization.done)[0, :videos]
                optimization.step(clips.take(here), done=done)

            if task.draws(place / len(batches)):  # how long what is drawn gets, no graph can know
                step()
            else:
                graphs.run(step, len(numbers))
    torch.cuda.current_stream(device).wait_stream(stream)
    stream.synchronize()  # the graphs go, and their memory with them


class _Clips:
    """All clips on the device: features, and every caption's tokens."""

    def __init__(
        self, task: CaptioningTask, items: Sequence[VideoItem], device: torch.device
    ) -> None:
        tokenizer = task.tokenizer
        if number := tokenizer.config.time_tokens:
            raise ValueError(
                f"a clip's event is all of it: words.time_tokens must be 0, got {number}"
            )
        config = from_plain(CaptionBatchConfig, dict(task.hparams["batches"]))
        captions = []
        for item in items:
            if len(events := events_of(item.captions)) != 1:
                raise ValueError(f"{item.name}: a clip has one event, but this has {len(events)}")
            words = [tokenizer.encode(one.text)[: config.most_words] for one in events[0]]
            captions.append([torch.tensor([tokenizer.begin, *w, tokenizer.end]) for w in words])
        most = max(len(own) for own in captions)
        nothing = torch.full((1,), tokenizer.pad)
        rows = [row for own in captions for row in own + [nothing] * (most - len(own))]
        tokens = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad)
        self.tokens = tokens.unflatten(0, (-1, most)).to(device)  # videos captions words
        self.counts = torch.tensor([len(own) for own in captions], device=device)
        self.references = config.references
        held = collate(items)
        self.features, self.mask = held.features.to(device), held.mask.to(device)

    def take(self, numbers: Int[Tensor, " B"]) -> CaptionBatch:
        """Return a batch of these videos, with captions drawn by the device's own chance."""
        mask = self.mask.index_select(0, numbers)
        tokens = self._draw(numbers)
        videos = torch.arange(len(numbers), device=numbers.device)
        length = mask.sum(dim=1).float()
        nothing = mask.new_zeros(*mask.shape, 0, dtype=torch.float32)
        return CaptionBatch(
            features=self.features.index_select(0, numbers),
            labels=torch.zeros_like(mask, dtype=torch.long),
            mask=mask,
            names=(),
            events=EventMaps(nothing, nothing.unsqueeze(-1).expand(*nothing.shape, 2)),
            videos=videos,
            spans=torch.stack([torch.zeros_like(length), length], dim=1),
            about=videos.repeat_interleave(self.references, output_size=len(tokens)),
            tokens=tokens,
            again=None,
            edges=(),
            truth=(),
        )

    def _draw(self, numbers: Int[Tensor, " B"]) -> Int[Tensor, "R S"]:
        """Draw captions of each video; one comes again where a video has fewer than are asked."""
        own = self.tokens.index_select(0, numbers)
        counts = self.counts.index_select(0, numbers).unsqueeze(1)
        place = torch.arange(own.shape[1], device=own.device)
        chance = torch.rand(own.shape[:2], device=own.device)
        order = chance.masked_fill(place >= counts, 2.0).argsort(dim=1)
        drawn = order.gather(1, torch.arange(self.references, device=own.device) % counts)
        return own.gather(1, drawn.unsqueeze(-1).expand(-1, -1, own.shape[2])).flatten(0, 1)
