"""An app: what a gateway serves under one prefix of routes.

    app = App("chat", agent=ChatAgent, services=[ChatHub], pushes=[ChatMessage], pages="skyloom_chat/page")

The same object runs in one process with the gateway, and on nodes of its own.
"""

from __future__ import annotations

import re
from importlib.resources import files
from inspect import signature
from typing import TYPE_CHECKING, Final

from pydantic import PydanticUserError

from skyloom import CannotStart, Service
from skyloom_gateway.agent import Agent, routes_in
from skyloom_gateway.load import LoadError, kind, load
from skyloom_gateway.push import Push
from skyloom_gateway.watchdog import Watchdog
from skyloom_gateway.wire.fields import is_route
from skyloom_gateway.wire.frame import ROUTE_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable


APP_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")

_RESERVED: Final = frozenset({"gateway", "play", "skyloom", "ws"})


class AppError(LoadError):
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
        if not isinstance(name, str) or not APP_NAME.match(name):
            raise AppError(f"app {name!r}: a name is text of 1 to 32 of a-z0-9_ and begins with a letter")
        if name in _RESERVED:
            raise AppError(f"app {name!r}: the gateway needs this name itself; take another one")
        self.name = name
        _of_classes(name, "agent", [agent], Agent)
        _of_classes(name, "services", services, Service)
        _of_classes(name, "pushes", pushes, Push)
        _of_classes(name, "watchdog", [] if watchdog is None else [watchdog], Watchdog)
        self.agent = agent
        self.services = tuple(services)
        self.pushes = tuple(pushes)
        self.pages = pages
        self.title = title or name.capitalize()
        self.description = description
        self.watchdog = watchdog
        try:
            signature(agent).bind(None, "", {})
        except TypeError as error:
            raise AppError(
                f"app {name!r}: agent {agent.__name__}: {error}; it is made with client, user and claims: pass them on"
                " to super().__init__, or do what is yours in on_start"
            ) from None
        try:
            self.routes = agent.bind_routes()
        except TypeError as error:
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
            push.declared = True
        for number, service in enumerate(self.services):
            where = f"app {name!r}: service {service.__name__}"
            if service.name is None:
                raise AppError(f"{where} needs a class attribute `name`")
            for other in self.services[:number]:
                if other.name == service.name:
                    raise AppError(f"{where} and {other.__name__} have the same name {service.name!r}: change one")
            if routes := routes_in(service):
                raise AppError(
                    f"{where}: {next(iter(routes))!r} is a route; routes are the agent's, a service has @rpc"
                )
            try:
                signature(service).bind()
            except TypeError as error:
                raise AppError(
                    f"{where}: {error}; it is made without any: let it read what it needs in on_start"
                ) from None

    def _own(self, what: str, route: str) -> None:
        if not isinstance(route, str):
            raise AppError(f"app {self.name!r}: {what}'s route is {kind(route)}, not text")
        if not route.startswith(f"{self.name}."):
            raise AppError(f"app {self.name!r}: {what} {route!r} must begin with '{self.name}.'")
        if not is_route(route):
            raise AppError(
                f"app {self.name!r}: {what} {route!r} may hold a-z, 0-9, _ and ., {ROUTE_CHARACTERS_MAX} at most"
            )

    def check(self, env: Mapping[str, str]) -> None:
        """Ask its services and its agent, by `Service.on_check`, whether they could start. Raises AppError."""
        self._check(env, *self.services, self.agent, *([] if self.watchdog is None else [self.watchdog]))

    def check_services(self, env: Mapping[str, str]) -> None:
        """`check`, for a node on which none of its agents run."""
        self._check(env, *self.services)

    def _check(self, env: Mapping[str, str], *classes: type[Service]) -> None:
        for cls in classes:
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


def _of_classes(app: str, what: str, given: object, base: type) -> None:
    if not isinstance(given, list | tuple):
        raise AppError(f"app {app!r}: {what} is {kind(given)}, not a list of classes")
    for each in given:
        if not isinstance(each, type) or not issubclass(each, base):
            hint = f"; give the class itself: {type(each).__name__}" if isinstance(each, base) else ""
            raise AppError(f"app {app!r}: {what}: {kind(each)} is no subclass of {base.__name__}{hint}")


def load_app(spec: str) -> App:
    """Import the app that ``module:attribute`` names. Raises AppError."""
    try:
        app: App = load(spec, "an App", lambda found: isinstance(found, App))
    except AppError:
        raise
    except LoadError as error:
        raise AppError(f"app {spec!r}: {error}") from error
    return app
