"""Where a benchmark's runs lie, and which of them are not there yet."""

from collections.abc import Iterable
from pathlib import Path

from vidmamba.benchmark.evidence import Splits
from vidmamba.benchmark.outputs import RunFiles
from vidmamba.benchmark.recipes import Candidate
from vidmamba.benchmark.runs import Run

RunJob = tuple[Run, Path]
"""A run and its folder."""


class Folders:
    """Runs and their folders; what names a folder is worked out once.

    Args:
        root: holds them all.
        splits: what the runs learn from.
    """

    def __init__(self, root: Path, splits: Splits) -> None:
        self.root = root
        self.splits = splits
        self._known: dict[tuple[str, int, int, int | None], Path] = {}

    def run(self, candidate: Candidate, split: int, seed: int, without: int | None = None) -> Run:
        """Return a run of this benchmark."""
        config = self.splits.configs[split]
        return Run(candidate=candidate, data=config, seed=seed, without=without)

    def of(self, run: Run) -> Path:
        """Return a run's folder, whether it is there or not."""
        at = run.candidate.name, run.data.split, run.seed, run.without
        if at not in self._known:
            self._known[at] = run.folder(
                self.root, self.splits.data(run.data.split, without=run.without)
            )
        return self._known[at]

    def done(self, run: Run) -> bool:
        """Whether a run came to its end."""
        return RunFiles(self.of(run)).done

    def missing(self, runs: Iterable[Run]) -> list[RunJob]:
        """Return what is to be trained, seed by seed: a stopped benchmark has whole ones to show.

        Within a seed the candidates take turns, so that neither are one's kernels compiled by all
        workers at once, nor are all runs of the slowest left to the end.
        """
        found = {self.of(run): run for run in runs}
        jobs = [(run, folder) for folder, run in found.items() if not RunFiles(folder).done]
        return sorted(jobs, key=lambda job: (job[0].seed, job[0].data.split, job[0].without or 0))
