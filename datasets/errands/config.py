"""What to make: the dials of the errands data set."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ErrandsConfig:
    """The dials of the errands data set; the same values give the same bytes of pixels and labels.

    Raises:
        ValueError: a value is out of range.
    """

    videos: int
    """How many clips."""
    seed: int = 0
    """Fixes everything: people, rooms, times, noise, split."""
    gap: tuple[int, int] = (200, 260)
    """Fewest and most frames between the last sight of the thing and the first frame of leaving."""
    train_gap: tuple[int, int] | None = None
    """The gap of the training part, if it is another: a long memory is learned sooner where short
    gaps are among the long ones."""
    fps: float = 10.0
    """Frames a second of the files; the actions are laid out in frames."""
    size: tuple[int, int] = (192, 144)
    """Width and height in pixels, even; all that matters lies in the central square."""
    errands: int = 1
    """Errands a clip, one after the other."""
    rooms: int = 1
    """Different rooms (cameras) in the set; each clip shows one of them."""
    passers_by: float = 0.4
    """Passers-by for each 100 frames in which nothing decisive happens."""
    noise: float = 4.0
    """Standard deviation of the sensor's noise, of 255."""
    light: float = 0.15
    """How far the light drifts up and down, as a share."""
    validation: float = 0.15
    """Share of the clips in the validation part."""
    test: float = 0.2
    """Share of the clips in the test part."""

    def __post_init__(self) -> None:
        if min(self.videos, self.errands, self.rooms) < 1:
            got = f"{self.videos}, {self.errands}, {self.rooms}"
            raise ValueError(f"videos, errands and rooms must be positive, got {got}")
        for gap in (self.gap, self.train_gap or self.gap):
            if not 0 <= gap[0] <= gap[1]:
                raise ValueError(f"a gap is (fewest, most) frames, got {gap}")
        width, height = self.size
        if width % 2 or height % 2 or height < 64 or not 1 <= width / height <= 3:
            raise ValueError(
                f"size must be even, 64 or more high, and 1 to 3 times as wide, got {self.size}"
            )
        if not self.fps > 0 or self.noise < 0 or self.passers_by < 0 or self.seed < 0:
            raise ValueError(
                "fps must be positive and seed, noise, passers_by not negative, got "
                f"{self.fps}, {self.seed}, {self.noise}, {self.passers_by}"
            )
        if not 0 <= self.light < 1:
            raise ValueError(f"light must lie in 0..1, got {self.light}")
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"validation and test are shares that leave some to train on, got "
                f"{self.validation}, {self.test}"
            )
