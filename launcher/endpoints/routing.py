"""Which container answers a request: production variants by weight, and of a variant the container with least to do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from launcher.endpoints.forwarding import (
    Answer,
    AnswerTimeoutError,
    AnswerTooLongError,
    ModelConnection,
    NoAnswerError,
)

T = TypeVar("T")
_RETRY_SECONDS = 0.02
_MOST_SENDS = 3  # of a request to containers that go away over it: it may be the request that ends them
_KEPT_CONNECTIONS = 64


class UnknownVariantError(Exception):
    """A request names a variant that the endpoint does not have."""


class NoInstanceError(Exception):
    """No container could be reached in the time that a request has."""


class Instance:
    """A container of a variant, as the router sees it.

    Attributes:
        name: of the container.
        address: where it listens; None until that is known.
        up: whether it answered its last ping.
    """

    def __init__(self, name: str, variant: str, address: tuple[str, int] | None = None, *, up: bool = False) -> None:
        self.name = name
        self.variant = variant
        self.address = address
        self.up = up
        self.in_flight = 0
        self._idle: list[ModelConnection] = []

    def connection(self) -> tuple[ModelConnection, bool]:
        """Return a connection, and whether it was used before.

        Raises:
            NoAnswerError: nobody listens.
        """
        while (connection := self._kept_connection()) is not None:
            if connection.usable:
                return connection, True
            connection.close()
        return self.fresh_connection(), False

    def _kept_connection(self) -> ModelConnection | None:
        try:
            return self._idle.pop()
        except IndexError:  # threads of other requests take them as well
            return None

    def fresh_connection(self) -> ModelConnection:
        """Return a new connection.

        Raises:
            NoAnswerError: nobody listens.
        """
        if self.address is None:
            raise NoAnswerError("the container has no address yet", sent=False)
        return ModelConnection(self.address)

    def keep(self, connection: ModelConnection) -> None:
        """Keep a connection whose answer was read whole, for the next request."""
        if connection.reusable and len(self._idle) < _KEPT_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()

    def ask(self, request: bytes, deadline: float, longest: int) -> Answer:
        """Return the container's answer.

        Raises:
            NoAnswerError: there is none.
        """
        connection, used = self.connection()
        try:
            answer = connection.ask(request, deadline, longest)
        except (AnswerTimeoutError, AnswerTooLongError):
            raise
        except NoAnswerError:
            if not used:
                raise
            # The server may have closed a kept connection at the moment it was used.
            connection = self.fresh_connection()
            answer = connection.ask(request, deadline, longest)
        self.keep(connection)
        return answer

    def open(self, request: bytes, deadline: float) -> OpenAnswer:
        """Return the container's answer where it begins, on a connection of its own.

        Raises:
            NoAnswerError: there is none.
        """
        connection = self.fresh_connection()
        status, headers = connection.begin(request, deadline)
        return OpenAnswer(connection, status, headers)

    def forget_connections(self) -> None:
        """Close what is kept, after the container has gone."""
        while (connection := self._kept_connection()) is not None:
            connection.close()


class OpenAnswer(NamedTuple):
    """An answer whose body is still to be read."""

    connection: ModelConnection
    status: int
    headers: dict[str, str]


@dataclass(frozen=True)
class Variant:
    """A production variant.

    Attributes:
        weight: its share of the requests, against the sum of all weights.
    """

    name: str
    weight: float
    instances: tuple[Instance, ...]


class Routes:
    """The variants that answer now; exchanged as a whole.

    A request counts on its container from the moment that the container is chosen, under the lock that an exchange
    takes as well: a container without requests after an exchange gets none any more.
    """

    def __init__(self, variants: Sequence[Variant] = ()) -> None:
        self._lock = threading.Lock()
        self._variants = tuple(variants)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Those that answer now."""
        return self._variants

    @property
    def any_up(self) -> bool:
        """Whether any container answers."""
        return any(instance.up for variant in self._variants for instance in variant.instances)

    def exchange(self, variants: Sequence[Variant]) -> None:
        """Have other variants answer from now on."""
        with self._lock:
            self._variants = tuple(variants)

    def take(self, target: str | None) -> Instance | None:
        """Choose a container, and count a request on it; None where no variant has one that is up.

        Args:
            target: the variant that the request names; None draws one by weight.
        Raises:
            UnknownVariantError: there is no such variant.
        """
        with self._lock:
            variant = self._chosen(target)
            instances = [instance for instance in variant.instances if instance.up] if variant else []
            if not instances:
                return None
            instance = min(instances, key=_load)
            instance.in_flight += 1
            return instance

    def release(self, instance: Instance) -> None:
        """Count a request as over."""
        with self._lock:
            instance.in_flight -= 1

    def _chosen(self, target: str | None) -> Variant | None:
        if target is not None:
            for variant in self._variants:
                if variant.name == target:
                    return variant
            raise UnknownVariantError(target)
        if len(self._variants) == 1:
            return self._variants[0]
        weights = [variant.weight for variant in self._variants]
        return random.choices(self._variants, weights)[0] if sum(weights) > 0 else None

    def ask(self, request: bytes, target: str | None, seconds: float, longest: int) -> tuple[Instance, Answer]:
        """Have a request answered, by another container where one goes away before it has answered.

        Raises:
            UnknownVariantError: there is no such variant.
            NoInstanceError: no container was there in time.
            NoAnswerError: a container was, and gave no answer.
        """
        deadline = time.monotonic() + seconds
        instance, answer = self._tried(target, deadline, lambda instance: instance.ask(request, deadline, longest))
        self.release(instance)
        return instance, answer

    def open(self, request: bytes, target: str | None, deadline: float) -> tuple[Instance, OpenAnswer]:
        """Have a request answered as ``ask`` does, but return when the answer begins; ``release`` the container then.

        Raises:
            UnknownVariantError, NoInstanceError, NoAnswerError: as of ``ask``.
        """
        return self._tried(target, deadline, lambda instance: instance.open(request, deadline))

    def _tried(self, target: str | None, deadline: float, effect: Callable[[Instance], T]) -> tuple[Instance, T]:
        """Return a container, on which the request still counts, and what the effect returned for it."""
        sends = 0
        while True:
            instance = self.take(target)
            if instance is not None:
                try:
                    return instance, effect(instance)
                except BaseException as error:
                    self.release(instance)
                    lasting = isinstance(error, AnswerTimeoutError | AnswerTooLongError)
                    if lasting or not isinstance(error, NoAnswerError):
                        raise
                    sends += error.sent
                    if sends >= _MOST_SENDS:
                        raise
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise NoInstanceError
            time.sleep(_RETRY_SECONDS)


def _load(instance: Instance) -> tuple[int, float]:
    """Order containers by what they have to do; those with the same by chance."""
    return instance.in_flight, random.random()
