"""How the property tests choose their examples: the same ones each time."""

from hypothesis import settings


def examples(number: int) -> settings:
    """Settings for so many examples, which are a function of the test alone."""
    return settings(max_examples=number, derandomize=True, deadline=None)
