"""The whole way in one call: rendered videos, features, trained models, scores and pages."""

from vidmamba.demo.captions import CAPTIONER
from vidmamba.demo.config import DemoConfig
from vidmamba.demo.run import MODEL, PROBE, run_demo

__all__ = ["CAPTIONER", "MODEL", "PROBE", "DemoConfig", "run_demo"]
