"""Programs that a test needs and that pip does not install."""

import os
import shutil

import pytest

# .ci/run sets this: there, a missing program is a fault of the run and not of the developer's machine.
IN_CI = os.environ.get("SKYLOOM_CI") == "1"


def required(program: str) -> str:
    """Return the path of `program`; without it skip the test, or fail it in CI."""
    path = shutil.which(program)
    if path is not None:
        return path
    if IN_CI:
        pytest.fail(f"{program} is not installed; in CI no test may be skipped for want of it")
    pytest.skip(f"{program} is not installed")
