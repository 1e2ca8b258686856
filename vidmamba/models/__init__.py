"""Networks a paper would name."""
