"""`vidmamba demo`: the whole way, in minutes."""

from pathlib import Path

from vidmamba.demo import DemoConfig, run_demo


def demo(*, out: Path = Path("demo"), settings: DemoConfig = DemoConfig()) -> int:
    """Render videos, embed, train, score and look: the whole way, offline, in minutes.

    Args:
        out: Folder for all that is made; delete it to start anew.
        settings: Size of the run.
    """
    run_demo(out, settings)
    return 0
