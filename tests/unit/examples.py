"""How the property tests choose their examples: the same ones each time."""

from hypothesis import settings

settings.register_profile("any", deadline=None, derandomize=True)
settings.load_profile("any")  # also for tests that don't say how many: a busy machine meets no deadline

share = 5
"""Of the examples one in so many is tried, and at most 150; with --slow all are."""


def examples(number: int) -> settings:
    """Settings for so many examples, which are a function of the test alone."""
    number = number if share == 1 else min(max(20, number // share), 150)
    return settings(max_examples=number, derandomize=True, deadline=None)
