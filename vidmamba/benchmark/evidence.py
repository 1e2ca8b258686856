"""By what a split's choices may be made: never by anything of the split's test videos."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vidmamba.benchmark.protocol import Protocol
from vidmamba.benchmark.runs import without_videos
from vidmamba.data import DataConfig, load_data
from vidmamba.datasets.records import LabelledSet, VideoItem


class Splits:
    """The data of every split, as the runs see it, each read once.

    Raises:
        ValueError: choices are to be made by a validation part and there is none, or by the other
            splits' test videos and none of them is left, or no video to learn from beside them.
    """

    def __init__(self, config: DataConfig, protocol: Protocol) -> None:
        self.protocol = protocol
        # where the other splits choose, every training video is trained on
        share = config.validation if protocol.choose_by == "validation" else 0.0
        self.configs = {
            split: replace(config, split=split, validation=share) for split in protocol.splits
        }
        self._sets = {split: load_data(config) for split, config in self.configs.items()}
        self._evidence = {
            split: tuple(one for one in self._gather(split) if one.items)
            for split in protocol.splits
        }
        for split, evidence in self._evidence.items():
            if not evidence:
                raise ValueError(
                    f"split {split}: there are no videos to choose by ({protocol.choose_by}); "
                    "set data.validation above 0, or protocol.choose_by to other_splits where "
                    "other splits test other videos"
                )
            if alone := [one.model for one in evidence if not one.taught]:
                raise ValueError(
                    f"split {split}: of what split {alone[0]} trains on, nothing is left to learn "
                    f"from without split {split}'s test videos ({protocol.choose_by}); name three "
                    "splits of the data or more, or set protocol.choose_by to validation"
                )

    def data(self, split: int, without: int | None = None) -> LabelledSet:
        """Return a split's data, or what is left of it without the test videos of another."""
        if without is None:
            return self._sets[split]
        return without_videos(self._sets[split], self.tested(without))

    def tested(self, split: int) -> set[str]:
        """Return the names of a split's test videos."""
        return {item.name for item in self._sets[split].test}

    def evidence(self, split: int) -> tuple["Evidence", ...]:
        """Return what the choices for a split are made by, none of it without a video."""
        return self._evidence[split]

    def _gather(self, split: int) -> Iterator["Evidence"]:
        chosen_by = self.protocol.choose_by
        if chosen_by == "validation":
            data = self._sets[split]
            yield Evidence(model=split, part="validation", items=data.validation, taught=data.train)
            return
        for other in self.protocol.splits:
            if other != split:
                data = self.data(other, without=split)
                yield Evidence(
                    model=other,
                    without=split if chosen_by == "nested" else None,
                    part="test",
                    items=data.test,
                    taught=data.train,
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Held-out videos and whose model labels them; none of the split's test videos is here."""

    model: int
    """The split whose model it is."""

    without: int | None = None
    """The split whose test videos that model was not trained on either."""

    part: str
    """The part of that model's data that the videos are."""

    items: tuple[VideoItem, ...]
    """The videos that are scored."""

    taught: tuple[VideoItem, ...]
    """The videos whose labels the decoding learns from."""
