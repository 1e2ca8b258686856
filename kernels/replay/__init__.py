"""What eager mode does again without the lines that worked it out; see `writer`."""

from vidmamba.kernels.replay.calls import can_watch, replayed, watched
from vidmamba.kernels.replay.nodes import Pass, Passes, key_of, may_replay

__all__ = ["Pass", "Passes", "can_watch", "key_of", "may_replay", "replayed", "watched"]
