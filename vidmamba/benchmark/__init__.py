"""Compare recipes over splits and seeds, every choice made without the split's test videos."""

from vidmamba.benchmark.command import benchmark
from vidmamba.benchmark.protocol import Protocol
from vidmamba.benchmark.recipes import Recipe

__all__ = ["Protocol", "Recipe", "benchmark"]
