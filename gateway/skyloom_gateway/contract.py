"""What clients and server agree on: the routes, and what goes in and out of each."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyloom_gateway.app import App


def contract_hash(apps: Sequence[App]) -> str:
    """A hash of all routes and schemas, "sha256:" and 64 hex digits; the same for the same contract."""
    routes: dict[str, object] = {}
    for app in apps:
        for route in app.routes.values():
            routes[route.name] = {
                "kind": "request" if route.is_request else "notify",
                "body": None if route.body is None else route.body.json_schema(),
                "answer": None if route.answer is None else route.answer.json_schema(mode="serialization"),
            }
        for push in app.pushes:
            routes[push.route] = {"kind": "push", "body": push.model_json_schema(mode="serialization")}
    text = json.dumps(routes, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
