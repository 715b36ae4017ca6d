"""An app: what a gateway serves under one prefix of routes.

    app = App("chat", agent=ChatAgent, services=[ChatHub], pushes=[ChatMessage], pages="skyloom_chat/page")

The same object runs in one process with the gateway, and will run on nodes of its own.
"""

from __future__ import annotations

import importlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from pydantic import PydanticUserError

from skyloom import CannotStart
from skyloom_gateway.wire.fields import is_route
from skyloom_gateway.wire.frame import ROUTE_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable

    from skyloom import Service
    from skyloom_gateway.agent import Agent
    from skyloom_gateway.push import Push
    from skyloom_gateway.watchdog import Watchdog

APP_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")

_RESERVED: Final = frozenset({"gateway", "play", "skyloom", "ws"})


class AppError(Exception):
    """An app is not put together right, or cannot be loaded. The text says what to change."""


class App:
    """What clients reach under ``<name>.``: an agent for each session, and the services behind it.

    Args:
        name: 1 to 32 of ``a-z0-9_``, beginning with a letter; its routes and pushes begin with ``<name>.``.
        agent: the class of its agents.
        services: classes started once, in this order, before the first client comes; each needs a `name`.
        pushes: the classes that its clients may be sent.
        pages: the package folder of its web page, as "package/folder", served at ``/<name>/``.
        title, description: for people, on the gateway's index page.
        watchdog: a service told of its clients' connections.

    Raises:
        AppError: something does not fit together.
    """

    def __init__(
        self,
        name: str,
        *,
        agent: type[Agent],
        services: Sequence[type[Service]] = (),
        pushes: Sequence[type[Push]] = (),
        pages: str | None = None,
        title: str | None = None,
        description: str = "",
        watchdog: type[Watchdog] | None = None,
    ) -> None:
        if not APP_NAME.match(name) or name in _RESERVED:
            raise AppError(f"app {name!r}: a name has 1 to 32 of a-z0-9_, begins with a letter and is not reserved")
        self.name = name
        self.agent = agent
        self.services = tuple(services)
        self.pushes = tuple(pushes)
        self.pages = pages
        self.title = title or name.capitalize()
        self.description = description
        self.watchdog = watchdog
        try:
            self.routes = agent.bind_routes()
        except (TypeError, NameError) as error:  # a type that is imported for type checkers only is a NameError
            raise AppError(f"app {name!r}: {error}") from error
        except PydanticUserError as error:
            raise AppError(f"app {name!r}: {error.message.splitlines()[0]}") from error
        for route in self.routes:
            self._own("route", route)
        for push in self.pushes:
            if not hasattr(push, "route"):
                raise AppError(
                    f"app {name!r}: push {push.__name__} needs a route: class {push.__name__}(Push, route=...)"
                )
            self._own("push", push.route)
        for service in self.services:
            if service.name is None:
                raise AppError(f"app {name!r}: service {service.__name__} needs a class attribute `name`")

    def _own(self, what: str, route: str) -> None:
        if not route.startswith(f"{self.name}."):
            raise AppError(f"app {self.name!r}: {what} {route!r} must begin with '{self.name}.'")
        if not is_route(route):
            raise AppError(
                f"app {self.name!r}: {what} {route!r} may hold a-z, 0-9, _ and ., {ROUTE_CHARACTERS_MAX} at most"
            )

    def check(self, env: Mapping[str, str]) -> None:
        """Ask its services and its agent, by `Service.on_check`, whether they could start. Raises AppError."""
        for cls in (*self.services, self.agent, *([] if self.watchdog is None else [self.watchdog])):
            try:
                cls.on_check(env)
            except CannotStart as error:
                raise AppError(f"app {self.name!r}: {cls.name or cls.__name__} cannot start: {error}") from error

    def page_folder(self) -> Traversable | None:
        """The folder of its web page. Raises AppError: there is none of that name."""
        if self.pages is None:
            return None
        package, _, folder = self.pages.partition("/")
        try:
            found = files(package).joinpath(folder)
        except (ImportError, TypeError, ValueError):
            raise AppError(f"app {self.name!r}: pages {self.pages!r}: there is no package {package!r}") from None
        if not found.is_dir():
            raise AppError(f"app {self.name!r}: pages {self.pages!r}: package {package!r} has no folder {folder!r}")
        return found


def load_app(spec: str) -> App:
    """Import the app that ``module:attribute`` names. Raises AppError."""
    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or module_name.startswith(".") or not attribute:
        raise AppError(f"app {spec!r}: write it as module:attribute, for example skyloom_chat:app")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise AppError(f"app {spec!r}: module {module_name!r} cannot be imported: {error}") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, App):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise AppError(f"app {spec!r}: {module_name}.{attribute} is {kind}, not an App")
    return found
