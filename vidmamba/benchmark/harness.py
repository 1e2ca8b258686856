"""A benchmark's runs, choices and test scores, from the files that runs leave."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from vidmamba.benchmark.choose import Choice, Scorer, best_of, choose
from vidmamba.benchmark.decode import DecodingJob, Teachers
from vidmamba.benchmark.evidence import Evidence, Splits
from vidmamba.benchmark.folders import Folders, RunJob
from vidmamba.benchmark.looks import Look, look_key, without_features
from vidmamba.benchmark.options import Option, options_of
from vidmamba.benchmark.outputs import RunFiles
from vidmamba.benchmark.protocol import Protocol
from vidmamba.benchmark.recipes import Candidate, Recipe, Settings, candidates_of
from vidmamba.benchmark.results import RecipeResult
from vidmamba.benchmark.runs import Run
from vidmamba.data import DataConfig
from vidmamba.decoding import DecodingConfig
from vidmamba.metrics.videos import COMPATS

CHOSEN = "chosen recipe"
"""The row in which the recipe is chosen for each split as well."""

Choices = Mapping[str, Mapping[int, Choice]]
"""By recipe and split."""


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
        candidates = candidates_of(recipes, settings)
        self.options = {
            name: options_of(recipe, candidates[name], decodings)
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
        self._folders = Folders(root, self.splits)
        self._known_looks: dict[tuple[str, int, int], Look] = {}

    def choosing_runs(self) -> list[RunJob]:
        """Return the runs that choices are made by and that are not there yet."""
        return self._folders.missing(
            run
            for name in self.options
            for seed in self.protocol.choosing_seeds
            for run in self._choosing_runs(name, seed)
        )

    def looks(self) -> list[Look]:
        """Return the scores that choices are made by and that are not there yet."""
        looks = {
            id(look): look
            for name, options in self.options.items()
            for seed in self.choosing_seeds(name)
            for split in self.protocol.splits
            for one in self.splits.evidence(split)
            for look in (self._look(option, one, seed) for option in options)
            if self._is_a_choice
        }
        return [look for look in looks.values() if not look.done]

    def choosing_seeds(self, name: str) -> tuple[int, ...]:
        """Return the seeds that a recipe's choices are made by: those whose runs are all done."""
        return tuple(
            seed
            for seed in self.protocol.choosing_seeds
            if all(self._folders.done(run) for run in self._choosing_runs(name, seed))
        )

    def choices(self) -> dict[str, dict[int, Choice]]:
        """Choose variant and decoding split by split, for recipes that have a seed to choose by."""
        return {
            name: {
                split: self.choose_among(split, options, self.choosing_seeds(name))
                for split in self.protocol.splits
            }
            for name, options in self.options.items()
            if self.choosing_seeds(name)
        }

    def choose_among(
        self, split: int, options: Sequence[Option], seeds: Sequence[int] | None = None
    ) -> Choice:
        """Return the best of some options for a split; the only one there is, unseen."""
        if not self._is_a_choice:
            return Choice(split=split, option=options[0], scores={}, scored=())
        return choose(
            split,
            options,
            self.splits.evidence(split),
            lambda option, one, seed: self._look(option, one, seed).scores()[option.decoding],
            seeds=self.protocol.choosing_seeds if seeds is None else seeds,
        )

    def test_runs(self, choices: Choices) -> list[RunJob]:
        """Return the runs that are tested and that are not there yet, a seed after the other.

        So that a benchmark that is stopped has whole seeds of all recipes to show.
        """
        return self._folders.missing(
            self._folders.run(choice.option.candidate, split, seed)
            for seed in self.protocol.seeds
            for by_split in choices.values()
            for split, choice in by_split.items()
        )

    def tested_seeds(self, choices: Mapping[int, Choice]) -> tuple[int, ...]:
        """Return the seeds whose runs of what was chosen are done in every split."""
        return tuple(
            seed
            for seed in self.protocol.seeds
            if all(
                self._folders.done(self._folders.run(choice.option.candidate, split, seed))
                for split, choice in choices.items()
            )
        )

    def test_decodings(self, choices: Choices) -> list[DecodingJob]:
        """Return the labels that are tested and that are not there yet."""
        return _undone(
            self._test_job(choice.option, split, seed)
            for by_split in choices.values()
            for split, choice in by_split.items()
            for seed in self.tested_seeds(by_split)
        )

    def results(self, choices: Choices) -> list[RecipeResult]:
        """Score every recipe's choice on the test videos; and the best choice, if several."""
        rows = {name: dict(by_split) for name, by_split in choices.items()}
        if 1 < len(rows) == len(self.options):
            rows[CHOSEN] = {
                split: best_of([by_split[split] for by_split in choices.values()])
                for split in self.protocol.splits
            }
        found = {name: self.tested_seeds(by_split) for name, by_split in rows.items()}
        return [self._result(name, rows[name], seeds) for name, seeds in found.items() if seeds]

    def unfinished(self, results: Sequence[RecipeResult]) -> list[str]:
        """Say which seeds of which recipes are not in the results, a line a recipe."""
        shown = {result.name: result.seeds for result in results}
        lines = []
        for name in self.options:
            if gone := [seed for seed in self.protocol.seeds if seed not in shown.get(name, ())]:
                lines.append(f"{name}: seeds {', '.join(map(str, gone))}")
        return lines

    def test_labels(
        self, option: Option, split: int, seed: int
    ) -> dict[str, Int[np.ndarray, " T"]]:
        """Return what is predicted for a split's test videos, at the model's frames."""
        return self._test_job(option, split, seed).labels()

    @property
    def _is_a_choice(self) -> bool:
        return sum(len(options) for options in self.options.values()) > 1

    def _choosing_runs(self, name: str, seed: int) -> Iterator[Run]:
        """The runs that a recipe's choices hang on, of one seed; none if nothing is chosen."""
        candidates = {option.candidate.name: option.candidate for option in self.options[name]}
        for split in self.protocol.splits:
            for one in self.splits.evidence(split):
                for candidate in candidates.values():
                    if self._is_a_choice:
                        yield self._folders.run(candidate, one.model, seed, one.without)

    def _look(self, option: Option, one: Evidence, seed: int) -> Look:
        """Return an option's scores on some evidence, beside those of its other decodings."""
        at = option.candidate.name, id(one), seed
        if at not in self._known_looks:
            taught, teachers = self._teachers.of(one.taught)
            names = [
                other.decoding
                for other in self.options[option.candidate.recipe]
                if other.candidate == option.candidate
            ]
            self._known_looks[at] = Look(
                folder=self._folder(option.candidate, one.model, seed, one.without),
                part=one.part,
                items=without_features(one.items),
                taught=taught,
                decodings={name: self.decodings[name] for name in names},
                scorer=self.scorer,
                key=look_key(one.items, teachers, self.scorer, one.part),
            )
        return self._known_looks[at]

    def _folder(
        self, candidate: Candidate, split: int, seed: int, without: int | None = None
    ) -> Path:
        return self._folders.of(self._folders.run(candidate, split, seed, without))

    def _test_job(self, option: Option, split: int, seed: int) -> DecodingJob:
        data = self.splits.data(split)
        return self._teachers.job(
            self._folder(option.candidate, split, seed),
            "test",
            self.decodings[option.decoding],
            len(self.class_names),
            (*data.train, *data.validation),  # the choice that a validation part was for is made
        )

    def _result(self, name: str, choices: dict[int, Choice], seeds: Sequence[int]) -> RecipeResult:
        scores: dict[int, dict[int, dict[str, float]]] = {}
        records = []
        for split, choice in choices.items():
            scores[split] = {}
            for seed in seeds:
                labels = self.test_labels(choice.option, split, seed)
                scores[split][seed] = self.scorer(labels, self.splits.data(split).test)
                folder = self._folder(choice.option.candidate, split, seed)
                records.append(RunFiles(folder).record())
        return RecipeResult(name=name, choices=choices, scores=scores, records=tuple(records))


def _undone(jobs: Iterable[DecodingJob]) -> list[DecodingJob]:
    by_file = {(job.folder, job.key): job for job in jobs}
    return [job for job in by_file.values() if not job.done]
