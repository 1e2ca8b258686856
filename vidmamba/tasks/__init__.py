"""LightningModules, one a task."""
