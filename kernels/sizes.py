"""Sizes of grids and tiles; Triton's functions of these names cost microseconds a call."""


def cdiv(a: int, b: int) -> int:
    """How many pieces of size b hold a."""
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()
