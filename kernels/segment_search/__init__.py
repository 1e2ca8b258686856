"""Viterbi over segments, on the CPU: the inner loops of `vidmamba.decoding.search`."""
