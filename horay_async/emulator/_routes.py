"""
From a path to whoever answers there, past the checks that all answers share.
"""

import asyncio

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from . import _catalogue, _checks, _limits, _wire
from ._chat import ChatAnswer
from ._completions import TextAnswer
from ._exchange import Exchange
from ._families import EMPOWER, HORAY, SERVICES, Refusal, Service, knows
from ._voices import Voice
from ._writing import Pace


Route = Callable[["Desk", Exchange, Service], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Desk:
    """
    Takes requests in, refuses what must be refused, and has the rest answered.
    """

    voice: Voice

    pace: Pace

    api_keys: Collection[str] | None

    models: Collection[str]

    bucket: _limits.Bucket | None

    address: str = ""
    """Scheme, host and port, for URLs in answers."""

    async def answer(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except Refusal as refusal:
            await refuse(exchange, refusal)

    async def _answer(self, exchange: Exchange) -> None:
        service, request = exchange.service, exchange.request
        if service is None:
            await self._outside(exchange)
            return
        path = request.path.removeprefix(service.prefix)
        route = self._route(service, request.method, path)
        self._admit(exchange, service)
        await route(self, exchange, service)

    async def _outside(self, exchange: Exchange) -> None:
        """
        Paths of no service: the pictures that image answers point at.
        """
        picture = _catalogue.picture(exchange.request.path)
        if picture is None or exchange.request.method not in {"GET", "HEAD"}:
            raise Refusal(404, HORAY.wrong_path)
        await exchange.reply(200, picture, "image/png")

    def _route(self, service: Service, method: str, path: str) -> Route:
        allowed = ROUTES[service.name].get(path)
        if allowed is None:
            raise Refusal(404, service.wrong_path)
        route = allowed.get("GET" if method == "HEAD" else method)
        if route is None:
            allow = [("allow", ", ".join(allowed))]
            raise Refusal(405, "Method Not Allowed", headers=allow)
        return route

    def _admit(self, exchange: Exchange, service: Service) -> None:
        """
        Ask for a key, and count the request.
        """
        scheme, _, key = exchange.request.headers.get("authorization", "").partition(
            " "
        )
        key = key.strip()
        known = key != "bad-key" if self.api_keys is None else key in self.api_keys
        if scheme.lower() != "bearer" or not key or not known:
            raise Refusal(401, service.bad_key, code="invalid_api_key")
        if self.bucket is None:
            return
        wait = self.bucket.take(asyncio.get_running_loop().time())
        exchange.headers += self.bucket.headers()
        if wait:
            raise Refusal(
                429,
                "Request was rejected due to rate limiting. Details:RPM limit reached.",
                code="rate_limit_exceeded",
                headers=_limits.waiting(wait),
            )

    def read(
        self, exchange: Exchange, fields: _checks.Fields, endpoint: str
    ) -> dict[str, Any]:
        """
        The checked parameters of a request to some endpoint.
        """
        assert exchange.service is not None
        values = _checks.read(body(exchange), fields)
        model = values["model"]
        if not knows(exchange.service, endpoint, model) and model not in self.models:
            if exchange.service is EMPOWER:
                message = f"The model `{model}` does not exist."
                raise Refusal(404, message, param="model")
            raise Refusal(400, "Model does not exist. Please check it carefully.")
        if values.get("stream_options") and not values["stream"]:
            message = "stream_options is only allowed when stream is true"
            raise Refusal(400, message, param="stream_options")
        return values


def body(exchange: Exchange) -> Any:
    """
    A request's JSON.
    """
    request = exchange.request
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "Content-Type must be application/json")
    if request.json is None:
        try:
            return _wire.load(request.body)
        except ValueError as error:
            raise Refusal(400, f"the body is not JSON: {error}") from None
    return request.json


def service_of(path: str) -> Service | None:
    return next(
        (service for service in SERVICES if path.startswith(service.prefix + "/")), None
    )


async def refuse(exchange: Exchange, refusal: Refusal) -> None:
    """
    Answer with an error, in the form of the service's family.
    """
    family = exchange.service or HORAY
    value = family.error(refusal)
    await exchange.reply_json(refusal.status, value, refusal.headers)


async def horay_chat(desk: Desk, exchange: Exchange, service: Service) -> None:
    values = desk.read(exchange, _checks.HORAY_CHAT, "chat")
    await ChatAnswer(exchange, service, values, desk.voice).send(desk.pace)


async def horay_text(desk: Desk, exchange: Exchange, service: Service) -> None:
    values = desk.read(exchange, _checks.HORAY_TEXT, "text")
    await TextAnswer(exchange, service, values, desk.voice).send(desk.pace)


async def horay_image(desk: Desk, exchange: Exchange, service: Service) -> None:
    values = desk.read(exchange, _checks.HORAY_IMAGE, "image")
    await exchange.reply_json(200, _catalogue.image(values, desk.address))


async def horay_models(desk: Desk, exchange: Exchange, service: Service) -> None:
    query = dict(parse_qsl(exchange.request.query))
    await exchange.reply_json(200, _catalogue.models(query, desk.models))


async def horay_user(desk: Desk, exchange: Exchange, service: Service) -> None:
    await exchange.reply_json(200, _catalogue.user())


async def empower_chat(desk: Desk, exchange: Exchange, service: Service) -> None:
    values = desk.read(exchange, _checks.EMPOWER_CHAT, "chat")
    await ChatAnswer(exchange, service, values, desk.voice).send(desk.pace)


ROUTES: dict[str, dict[str, dict[str, Route]]] = {
    "horay": {
        "/chat/completions": {"POST": horay_chat},
        "/completions": {"POST": horay_text},
        "/image/generations": {"POST": horay_image},
        "/models": {"GET": horay_models},
        "/user/info": {"GET": horay_user},
    },
    "empower": {
        "/chat/completions": {"POST": empower_chat},
    },
}
