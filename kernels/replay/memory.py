"""Which buffers a function asks for, where in them what lies, and how long they live."""

from collections.abc import Sequence
from typing import NamedTuple

from vidmamba.kernels.replay.watch import Operand
from vidmamba.kernels.sizes import cdiv

ALIGNED = 512
"""Bytes of which addresses are multiples, as those of PyTorch's allocator."""

WORTH = 2**20
"""Bytes for which two more buffers are asked for."""


class Block(NamedTuple):
    """Memory, and how the function that is written finds where it begins."""

    first: int
    end: int
    name: str
    begins: str = ""
    tensor: str = ""  # whose memory it is
    place: int = 0  # bytes in it
    like: Operand | None = None  # the whole of it, if that is known

    def has(self, pointer: int) -> bool:
        """Whether a kernel that is given this address reads or writes here."""
        return self.first <= pointer < self.end


class Result(NamedTuple):
    """Memory of a result."""

    lines: list[str]  # that ask for it
    size: int
    first: int  # launch that wants it


Span = tuple[int, int]
"""The first and the last launch that use memory."""


class Packed:
    """Blocks put into a buffer."""

    def __init__(self, spans: dict[Block, Span]) -> None:
        self.spans = spans
        sizes = [b.end - b.first for b in spans]
        self.places, self.size = pack(sizes, list(spans.values()))

    def blocks(self, buffer: str) -> list[Block]:
        """The blocks, where they are."""
        put = zip(self.spans, self.places, strict=True)
        return [b._replace(tensor=buffer, place=place, like=None) for b, place in put]


class Turn:
    """A launch before which one buffer is let go of, and another asked for; a third lives along.

    Results that are not wanted before are asked for then, too.
    """

    def __init__(self, turn: int, spans: dict[Block, Span], results: Sequence[Result]) -> None:
        self.turn = turn
        self.first = Packed({b: s for b, s in spans.items() if s[1] < turn})
        self.later = Packed({b: s for b, s in spans.items() if s[0] >= turn})
        self.along = Packed({b: s for b, s in spans.items() if s[0] < turn <= s[1]})
        self.early = [r for r in results if r.first < turn]
        self.late = [r for r in results if r.first >= turn]
        early, late = (sum(r.size for r in part) for part in (self.early, self.late))
        most = max(self.first.size, self.later.size + late)
        self.peak = self.along.size + early + most


def best_turn(launches: int, spans: dict[Block, Span], results: Sequence[Result]) -> Turn:
    """Return where to change buffers; before all launches if it does not pay: one buffer then."""
    turns = [Turn(turn, spans, results) for turn in range(launches)]
    best = min(turns, key=lambda turn: turn.peak)
    return best if best.peak <= turns[0].peak - WORTH else turns[0]


def pack(sizes: Sequence[int], spans: Sequence[Span]) -> tuple[list[int], int]:
    """Return where in a buffer to put blocks of these sizes, and the buffer's size.

    Blocks used in spans of launches, ends included, that meet do not overlap; large ones are put
    first, each as near to the beginning as there is room.
    """
    places = [0] * len(sizes)
    put: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        beside = [j for j in put if spans[i][0] <= spans[j][1] and spans[j][0] <= spans[i][1]]
        place = 0
        for j in sorted(beside, key=lambda j: places[j]):
            if place + sizes[i] <= places[j]:
                break
            place = max(place, cdiv(places[j] + sizes[j], ALIGNED) * ALIGNED)
        places[i] = place
        put.append(i)
    return places, max((p + s for p, s in zip(places, sizes, strict=True)), default=0)
