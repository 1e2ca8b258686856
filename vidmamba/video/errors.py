"""What goes wrong with a video file, in one line."""


class VideoError(ValueError):
    """A video that cannot be read or written: the message names the file and says what to do."""


class DecoderFailed(Exception):  # noqa: N818
    """A decoder that cannot go on, inside `vidmamba.video`: the next one takes over.

    Attributes:
        stamps_differ: the decoder's time stamps are not those of the packets.
    """

    def __init__(self, reason: str, *, stamps_differ: bool = False) -> None:
        super().__init__(reason)
        self.stamps_differ = stamps_differ
