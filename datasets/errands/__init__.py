"""Errands: rendered surveillance clips whose labels depend on what happened long before.

Someone enters a room, takes a thing from a shelf, and pockets it, puts it back or puts it on the
table; hundreds of frames later they leave, `leave_with_item` or `leave_empty_handed`, and nothing
in the picture says which.
"""

from vidmamba.datasets.errands.config import ErrandsConfig
from vidmamba.datasets.errands.files import generate_errands
from vidmamba.datasets.errands.labelled import errands_set
from vidmamba.datasets.errands.read import Errands, ErrandsClip, read_errands

__all__ = [
    "Errands",
    "ErrandsClip",
    "ErrandsConfig",
    "errands_set",
    "generate_errands",
    "read_errands",
]
