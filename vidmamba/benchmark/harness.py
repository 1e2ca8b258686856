"""A benchmark's runs, choices and test scores, from the files that runs leave."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from vidmamba.benchmark.choose import Choice, Option, Scorer, best_of, choose
from vidmamba.benchmark.decode import DecodingJob, Teachers
from vidmamba.benchmark.evidence import Evidence, Splits
from vidmamba.benchmark.outputs import RunFiles
from vidmamba.benchmark.protocol import Protocol
from vidmamba.benchmark.recipes import Candidate, Recipe, Settings, candidates_of
from vidmamba.benchmark.results import RecipeResult
from vidmamba.benchmark.runs import Run
from vidmamba.data import DataConfig
from vidmamba.datasets.records import VideoItem
from vidmamba.decoding import DecodingConfig
from vidmamba.metrics.videos import COMPATS

CHOSEN = "chosen recipe"
"""The row in which the recipe is chosen for each split as well."""

Choices = Mapping[str, Mapping[int, Choice]]
"""By recipe and split."""

RunJob = tuple[Run, Path]
"""A run and its folder."""


class Harness:
    """Everything about a benchmark but training and printing.

    Args:
        data: the data set; `split` and `validation` are set as the protocol says.
        protocol: splits, seeds, and how choices are made.
        recipes: what is compared.
        settings: what the recipes change.
        decodings: what each recipe's decoding is chosen among, by name.
        root: folder of the runs.

    Raises:
        ValueError: an option that does not exist, or data that choices cannot be made by.
    """

    def __init__(
        self,
        data: DataConfig,
        protocol: Protocol,
        recipes: Mapping[str, Recipe],
        settings: Settings,
        decodings: Mapping[str, DecodingConfig],
        root: Path,
    ) -> None:
        self.protocol = protocol
        self.decodings = dict(decodings)
        self.root = root
        candidates = candidates_of(recipes, settings)
        self.options = {
            name: [
                Option(candidate=candidate, decoding=decoding)
                for candidate in candidates[name]
                for decoding in self._decodings_of(name, recipe)
            ]
            for name, recipe in recipes.items()
        }
        self.splits = Splits(data, protocol)
        first = self.splits.data(protocol.splits[0])
        self.class_names = first.class_names
        self.scorer = Scorer(
            compat=COMPATS[protocol.compat],
            class_names=first.class_names,
            background=first.background,
            evaluation_stride=first.evaluation_stride,
        )
        self._teachers = Teachers()
        self._folders: dict[tuple[str, int, int, int | None], Path] = {}

    def choosing_runs(self) -> list[RunJob]:
        """Return the runs that choices are made by and that are not there yet."""
        return self._missing(
            self._run(option.candidate, one.model, seed, one.without)
            for option, one, seed in self._looked_at()
        )

    def choosing_decodings(self) -> list[DecodingJob]:
        """Return the labels that choices are made by and that are not there yet."""
        return _undone(self._evidence_job(*look) for look in self._looked_at())

    def choices(self) -> dict[str, dict[int, Choice]]:
        """Choose each recipe's variant and decoding, split by split."""
        return {
            name: {split: self.choose_among(split, options) for split in self.protocol.splits}
            for name, options in self.options.items()
        }

    def choose_among(self, split: int, options: Sequence[Option]) -> Choice:
        """Return the best of some options for a split; the only one there is, unseen."""
        if not self._is_a_choice:
            return Choice(split=split, option=options[0], scores={}, scored=())
        return choose(
            split,
            options,
            self.splits.evidence(split),
            lambda option, one, seed: self._evidence_job(option, one, seed).labels(),
            scorer=self.scorer,
            seeds=self.protocol.choosing_seeds,
        )

    def test_runs(self, choices: Choices) -> list[RunJob]:
        """Return the runs that are tested and that are not there yet."""
        return self._missing(
            self._run(option.candidate, split, seed)
            for option, split, seed in self._tested(choices)
        )

    def test_decodings(self, choices: Choices) -> list[DecodingJob]:
        """Return the labels that are tested and that are not there yet."""
        return _undone(self._test_job(*test) for test in self._tested(choices))

    def results(self, choices: Choices) -> list[RecipeResult]:
        """Score every recipe's choice on the test videos; and the best choice, if several."""
        rows = {name: dict(by_split) for name, by_split in choices.items()}
        if len(rows) > 1:
            rows[CHOSEN] = {
                split: best_of([by_split[split] for by_split in choices.values()])
                for split in self.protocol.splits
            }
        return [self._result(name, by_split) for name, by_split in rows.items()]

    def test_labels(
        self, option: Option, split: int, seed: int
    ) -> dict[str, Int[np.ndarray, " T"]]:
        """Return what is predicted for a split's test videos, at the model's frames."""
        return self._test_job(option, split, seed).labels()

    @property
    def _is_a_choice(self) -> bool:
        return sum(len(options) for options in self.options.values()) > 1

    def _decodings_of(self, name: str, recipe: Recipe) -> Sequence[str]:
        chosen = recipe.decodings or tuple(self.decodings)
        if unknown := [one for one in chosen if one not in self.decodings]:
            known = ", ".join(self.decodings)
            raise ValueError(f"recipes.{name}.decodings {unknown}: there are only {known}")
        return chosen

    def _looked_at(self) -> Iterator[tuple[Option, Evidence, int]]:
        """What choices are made by: options, videos of other splits or a validation part, seeds."""
        if self._is_a_choice:
            for options in self.options.values():
                for option in options:
                    for split in self.protocol.splits:
                        for one in self.splits.evidence(split):
                            for seed in self.protocol.choosing_seeds:
                                yield option, one, seed

    def _tested(self, choices: Choices) -> Iterator[tuple[Option, int, int]]:
        for by_split in choices.values():
            for split, choice in by_split.items():
                for seed in self.protocol.seeds:
                    yield choice.option, split, seed

    def _evidence_job(self, option: Option, one: Evidence, seed: int) -> DecodingJob:
        folder = self._folder(option.candidate, one.model, seed, one.without)
        return self._decoding_job(option, folder, one.part, one.taught)

    def _test_job(self, option: Option, split: int, seed: int) -> DecodingJob:
        data = self.splits.data(split)
        folder = self._folder(option.candidate, split, seed)
        # a validation part may teach by now: the choice it was for is made
        return self._decoding_job(option, folder, "test", (*data.train, *data.validation))

    def _decoding_job(
        self, option: Option, folder: Path, part: str, taught: Sequence[VideoItem]
    ) -> DecodingJob:
        config = self.decodings[option.decoding]
        return self._teachers.job(folder, part, config, len(self.class_names), taught)

    def _result(self, name: str, choices: dict[int, Choice]) -> RecipeResult:
        scores: dict[int, dict[int, dict[str, float]]] = {}
        records = []
        for split, choice in choices.items():
            scores[split] = {}
            for seed in self.protocol.seeds:
                labels = self.test_labels(choice.option, split, seed)
                scores[split][seed] = self.scorer(labels, self.splits.data(split).test)
                folder = self._folder(choice.option.candidate, split, seed)
                records.append(RunFiles(folder).record())
        return RecipeResult(name=name, choices=choices, scores=scores, records=tuple(records))

    def _run(self, candidate: Candidate, split: int, seed: int, without: int | None = None) -> Run:
        config = self.splits.configs[split]
        return Run(candidate=candidate, data=config, seed=seed, without=without)

    def _folder(
        self, candidate: Candidate, split: int, seed: int, without: int | None = None
    ) -> Path:
        at = candidate.name, split, seed, without
        if at not in self._folders:
            run = self._run(candidate, split, seed, without)
            self._folders[at] = run.folder(self.root, self.splits.data(split, without))
        return self._folders[at]

    def _missing(self, runs: Iterable[Run]) -> list[RunJob]:
        found = {
            self._folder(run.candidate, run.data.split, run.seed, run.without): run for run in runs
        }
        return [(run, folder) for folder, run in found.items() if not RunFiles(folder).done]


def _undone(jobs: Iterable[DecodingJob]) -> list[DecodingJob]:
    by_file = {(job.folder, job.key): job for job in jobs}
    return [job for job in by_file.values() if not job.done]
