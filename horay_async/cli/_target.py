"""
Who answers: a service, a server of the user's, or an emulator of our own.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from .. import EMPOWER, HORAY, AsyncHoray, ConfigurationError, MissingKeyError
from ._failures import Misuse


if TYPE_CHECKING:
    from ..emulator import Emulator

_SERVICES = {"horay": HORAY, "empower": EMPOWER}


def whole(_: object, tokens: Sequence[Token]) -> int:
    """
    A whole number: of 1.5 the command line's parser would make 1, without a word.
    """
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError("Expected a whole number.") from None


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Target:
    """
    The options that say who answers, and how often to ask.
    """

    service: Annotated[
        Literal["horay", "empower"] | None,
        Parameter(help="Whose API to speak. Default: the base URL's owner, or Horay."),
    ] = None

    base_url: Annotated[
        str | None,
        Parameter(
            help="Another server of the same shape; includes the version (…/v1)."
        ),
    ] = None

    emulator: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="A local emulator answers: no key, no network, and no real model.",
        ),
    ] = False

    max_retries: Annotated[
        int,
        Parameter(
            help="How often a failed call is tried again.",
            converter=whole,
            validator=Number(gte=0),
        ),
    ] = 2


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Asking:
    """
    The options that go into every request. One that is not given is not sent.
    """

    model: Annotated[
        str | None, Parameter(help="Default: the service's own, where it has one.")
    ] = None

    max_tokens: Annotated[
        int | None,
        Parameter(help="The longest answer, in tokens.", converter=whole),
    ] = None

    temperature: Annotated[
        float | None, Parameter(help="0 is the most predictable.")
    ] = None

    def fields(self) -> dict[str, Any]:
        """
        The fields that were given.
        """
        given = attrs.asdict(self).items()
        return {name: value for name, value in given if value is not None}


@asynccontextmanager
async def open_client(target: Target) -> AsyncIterator[AsyncHoray]:
    """
    A client for the target, and the emulator behind it where one was asked for.

    Raises:
        Misuse: No key, or options that contradict each other.
    """
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {"max_retries": target.max_retries}
        if target.service:
            options["service"] = _SERVICES[target.service]
        if target.emulator:
            if target.base_url:
                raise Misuse("--emulator and --base-url exclude each other")
            options |= await _emulate(stack, target)
        elif target.base_url:
            options["base_url"] = target.base_url
        try:
            client = AsyncHoray(**options)
        except ConfigurationError as error:
            raise Misuse(_advise(error, target)) from None
        yield await stack.enter_async_context(client)


def emulator_class() -> type["Emulator"]:
    """
    The emulator's class, imported now.

    Raises:
        Misuse: The extra that it stands on is not installed.
    """
    try:
        from ..emulator import Emulator  # noqa: PLC0415 -- stands on an extra
    except ModuleNotFoundError as missing:
        if missing.name != "h11":
            raise
        extra = "pip install 'horay-async[emulator]'"
        raise Misuse(f"the emulator needs its extra: {extra}") from None
    return Emulator


async def _emulate(stack: AsyncExitStack, target: Target) -> dict[str, Any]:
    server = await stack.enter_async_context(emulator_class()())
    empower = target.service == "empower"
    return {
        "service": EMPOWER if empower else HORAY,
        "base_url": server.empower_base_url if empower else server.base_url,
        "api_key": "emulator",
    }


def _advise(error: ConfigurationError, target: Target) -> str:
    """
    The library's sentence, or a missing key's in the words of the command line.
    """
    service = _SERVICES[target.service or "horay"]
    if not isinstance(error, MissingKeyError):
        # No command line passes an argument of ours.
        return str(error).replace("pass allow_insecure=True, or ", "")
    if target.base_url is None:
        return f"no key: set {service.key_variable}, or try it with --emulator"
    return (
        f"no key for {target.base_url}: set {service.base_url_variable} to it, beside "
        f"{service.key_variable}, in place of --base-url"
    )


def answerer(target: Target) -> str | None:
    """
    Who answers, where it is not what the user named: an emulator must not pass for a model.
    """
    return "the local emulator (no real model)" if target.emulator else None
