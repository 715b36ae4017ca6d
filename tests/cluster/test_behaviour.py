"""The behaviour suite between two nodes that a NATS server joins."""

import pytest

from tests.behaviour.test_call import *  # noqa: F403  # all of them
from tests.behaviour.test_death import *  # noqa: F403  # all of them
from tests.behaviour.test_debug import *  # noqa: F403  # all of them
from tests.behaviour.test_errors import *  # noqa: F403  # all of them

pytestmark = [pytest.mark.quiet_time, pytest.mark.ci]
