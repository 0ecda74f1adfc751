"""What every part agrees on: the custom resources, names, states and the error body."""

__version__ = "0.1.0"
