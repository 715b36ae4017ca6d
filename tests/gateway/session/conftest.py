"""Every test of a session is run in both encodings."""

import pytest

from skyloom_gateway.wire import JSON, MSGPACK, Codec


@pytest.fixture(params=[JSON, MSGPACK], ids=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> Codec:
    chosen: Codec = request.param
    return chosen
