"""How the property tests choose their examples: the same ones each time."""

from hypothesis import settings

settings.register_profile("any", deadline=None, derandomize=True)
settings.load_profile("any")  # also for tests that don't say how many: a busy machine meets no deadline

share = 5
"""Of the examples one in so many is tried; with --slow all are."""


def examples(number: int) -> settings:
    """Settings for so many examples, which are a function of the test alone."""
    return settings(max_examples=max(20, number // share), derandomize=True, deadline=None)
