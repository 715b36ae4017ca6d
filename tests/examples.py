"""How many examples Hypothesis tries: all that are asked for under its profile `ci`, a quarter of them otherwise."""

from hypothesis import settings

QUICK_PART = 4
QUICK_EXAMPLES_MIN = 20

settings.register_profile("quick", max_examples=25)  # a quarter of Hypothesis' own 100
if settings.get_current_profile_name() == "default":  # Hypothesis itself loads `ci` where the CI variable is set
    settings.load_profile("quick")


def examples(count: int, *, steps: int = 50) -> settings:
    """Settings for a property that `dev.py ci` tries with `count` examples; `steps` is for state machines."""
    if settings.get_current_profile_name() != "ci":
        count = min(count, max(QUICK_EXAMPLES_MIN, count // QUICK_PART))
    return settings(max_examples=count, stateful_step_count=steps, deadline=None)
