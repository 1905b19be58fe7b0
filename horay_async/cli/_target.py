"""
Who answers: a service, a server of the user's, a model or an emulator on this machine.
"""

import os

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from .. import (
    EMPOWER,
    HORAY,
    APIError,
    AsyncHoray,
    ConfigurationError,
    Governor,
    HorayError,
    InvalidRequestError,
    MissingKeyError,
)
from ..local import LocalModel
from ._failures import Misuse, explained
from ._fetching import Fetching
from ._hints import add_hint
from ._validators import finite, whole


if TYPE_CHECKING:
    from ..emulator import Emulator

_SERVICES = {"horay": HORAY, "empower": EMPOWER}

WHO = Group("Who answers", sort_key=1)


@Parameter(name="*", group=WHO)
@attrs.frozen(kw_only=True)
class Target:
    """
    The options that say who answers, and how patiently to ask.
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

    local: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="A small real model on this machine: no key; 93 MB to fetch, once.",
        ),
    ] = False

    gguf: Annotated[
        str | None,
        Parameter(help="The file of another local model; --local is then implied."),
    ] = None

    emulator: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="A local emulator: no key, no network, and no real model.",
        ),
    ] = False

    timeout: Annotated[
        float | None,
        Parameter(
            help="The longest a call may take, in seconds.",
            validator=[Number(gt=0), finite],
        ),
    ] = None

    max_retries: Annotated[
        int,
        Parameter(
            help="How often a failed call is tried again.",
            converter=whole,
            validator=Number(gte=0),
        ),
    ] = 2

    @property
    def is_local(self) -> bool:
        """
        Whether a model on this machine was asked for.
        """
        return self.local or self.gguf is not None

    def __attrs_post_init__(self) -> None:
        """
        Refuse options that contradict each other.
        """
        if self.gguf == "":
            raise Misuse("--gguf is empty: name the file of a model")
        given = {
            "--emulator": self.emulator,
            "--gguf" if self.gguf else "--local": self.is_local,
            "--base-url": self.base_url,
        }
        names = [name for name, value in given.items() if value]
        if self.service and self.is_local:
            names.append("--service")
        if len(names) > 1:
            raise Misuse(f"{' and '.join(names)} exclude each other: give one of them")


@asynccontextmanager
async def open_client(
    target: Target, *, governor: Governor | None = None
) -> AsyncIterator[AsyncHoray]:
    """
    A client for the target, and the emulator or model behind it where one was asked for.

    An error that leaves the block knows what the user may do about it: see `hints`.

    Raises:
        Misuse: No key, no local model, or a setting that cannot work.
    """
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {
            "max_retries": target.max_retries,
            "timeout": target.timeout,
            "governor": governor,
        }
        if target.service:
            options["service"] = _SERVICES[target.service]
        if target.emulator:
            options |= await _emulate(stack, target)
        elif target.is_local:
            options |= await _run_model(stack, target)
        elif target.base_url:
            options["base_url"] = target.base_url
        try:
            client = AsyncHoray(**options)
        except ConfigurationError as error:
            raise Misuse(_advise(error, target)) from None
        await stack.enter_async_context(client)
        try:
            yield client
        except APIError as error:
            add_hint(error, client)
            raise
        except InvalidRequestError as error:
            if error.field == "model" and target.base_url:
                error.add_note(f"horay models --base-url {target.base_url} lists them")
            raise


def answerer(target: Target) -> str | None:
    """
    Who answers, where it is not what the user named: an emulator must not pass for a model.
    """
    if target.is_local:
        return LocalModel(gguf=target.gguf).title
    return "the local emulator (no real model)" if target.emulator else None


def emulator_class() -> type["Emulator"]:
    """
    The emulator's class, imported now.
    """
    from ..emulator import Emulator  # noqa: PLC0415 -- 16 ms that most commands never need

    return Emulator


async def _emulate(stack: AsyncExitStack, target: Target) -> dict[str, Any]:
    server = await stack.enter_async_context(emulator_class()())
    empower = target.service == "empower"
    return {
        "service": EMPOWER if empower else HORAY,
        "base_url": server.empower_base_url if empower else server.base_url,
        "api_key": "emulator",
    }


async def _run_model(stack: AsyncExitStack, target: Target) -> dict[str, Any]:
    with Fetching() as fetching:
        model = LocalModel(gguf=target.gguf, on_fetch=fetching.show)
        try:
            server = await stack.enter_async_context(model)
        except HorayError as error:  # LocalModelError: nothing was sent
            raise Misuse(str(error)) from error
    return {"service": server.service}


def _advise(error: ConfigurationError, target: Target) -> str:
    """
    The library's sentence, or a missing key's in the words of the command line.
    """
    service = _SERVICES[target.service or "horay"]
    if not isinstance(error, MissingKeyError):
        return explained(error)
    if target.base_url is None:
        return (
            f"no key: set {service.key_variable}, or try --local (a small model on this "
            "machine) or --emulator (no real model)"
        )
    key, url = service.key_variable, service.base_url_variable
    if os.environ.get(key or ""):
        return (
            f"{key} is sent to {service.name}'s own hosts only: to send it to "
            f"{target.base_url}, set {url} to that address in place of --base-url"
        )
    return (
        f"no key for {target.base_url}: set {key}, and {url} to that address in place "
        "of --base-url"
    )
