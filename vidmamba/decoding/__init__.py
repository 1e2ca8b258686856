"""From probabilities of frames to labels that make sense as segments in an order.

Four ways: each frame's likeliest class; as few changes as a constant cost leaves (`switch`); cuts
at likely boundaries (`boundaries`); the best order and lengths by what training videos show
(`grammar`, `durations`, `search`). `align` places a given order.
"""

from vidmamba.decoding.align import align
from vidmamba.decoding.boundaries import decode_boundaries
from vidmamba.decoding.config import DecodingConfig
from vidmamba.decoding.decoder import Decoder, learn_decoder
from vidmamba.decoding.durations import Durations, learn_durations
from vidmamba.decoding.grammar import Grammar, learn_grammar
from vidmamba.decoding.switch import decode_switch

__all__ = [
    "Decoder",
    "DecodingConfig",
    "Durations",
    "Grammar",
    "align",
    "decode_boundaries",
    "decode_switch",
    "learn_decoder",
    "learn_durations",
    "learn_grammar",
]
