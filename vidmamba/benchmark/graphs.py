"""Training steps as CUDA graphs: the same kernels, launched all at once.

Steps of short videos are a thousand kernels of a few microseconds each. Launched one by one, the
GPU waits for Python; replayed as a graph, a step is one call.
"""

from collections.abc import Callable, Hashable

import torch


class Graphs:
    """A function of nothing, run again and again: first as it is, then captured, then replayed.

    What it reads and writes must be tensors that stay where they are, and it must run on a stream
    that is not the default one. Random numbers go on from call to call, captured or not.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, step: Callable[[], None], key: Hashable) -> None:
        """Run a step on the current stream.

        Args:
            step: launches the same kernels whenever its key is the same.
            key: what its kernels hang on; every new one is captured.
        """
        graph = self._graphs.get(key)
        if graph is not None:
            graph.replay()
        elif key not in self._graphs:  # compiles kernels, makes the optimiser's state
            self._graphs[key] = None
            step()
        else:
            graph = self._graphs[key] = self._capture(step)
            graph.replay()

    def _capture(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        # not by `torch.cuda.graph`, which collects garbage and empties caches first
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(self._pool)
        try:
            step()
        finally:
            graph.capture_end()
        return graph
