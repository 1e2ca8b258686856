"""Which data set, where it lies and how its features are made: one config to one labelled set."""

from vidmamba.data.config import DataConfig, expand_folder
from vidmamba.data.load import load_data

__all__ = ["DataConfig", "expand_folder", "load_data"]
