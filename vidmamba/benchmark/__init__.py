"""Compare recipes over splits and seeds, every choice made without the split's test videos."""

from vidmamba.benchmark.captions import CaptionRecipe, benchmark_captions
from vidmamba.benchmark.command import benchmark
from vidmamba.benchmark.protocol import Protocol
from vidmamba.benchmark.recipes import Recipe

__all__ = ["CaptionRecipe", "Protocol", "Recipe", "benchmark", "benchmark_captions"]
