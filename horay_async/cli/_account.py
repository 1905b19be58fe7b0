"""
`horay models`, `horay whoami`: what a service offers, and whose key we have.
"""

from typing import Any

from .. import AsyncHoray, UserInfo
from ._failures import Exit, put, say
from ._output import AsJson, need_stdout, put_json
from ._signals import run_async
from ._target import Target, answerer, open_client


_KEY_SHOWN = 4


def models(
    *,
    target: Target = Target(),  # noqa: B008 -- frozen
    as_json: AsJson = False,
) -> Exit:
    """
    List the models that the service offers.
    """
    need_stdout()
    return run_async(_models(target, as_json=as_json))


async def _models(target: Target, *, as_json: bool) -> Exit:
    async with open_client(target) as client:
        found = await client.models.list()
    _name(target)
    if as_json:
        put_json(found.to_dict())
    else:
        put("".join(f"{model.id}\n" for model in found))
    return Exit.OK


def whoami(
    *,
    target: Target = Target(),  # noqa: B008 -- frozen
    as_json: AsJson = False,
) -> Exit:
    """
    Tell whose key this is, what money is left, and where calls go.
    """
    need_stdout()
    return run_async(_whoami(target, as_json=as_json))


async def _whoami(target: Target, *, as_json: bool) -> Exit:
    async with open_client(target) as client:
        info = await client.user.info()
    _name(target)
    place = _place(client)
    if as_json:
        put_json(place | {"user": info.to_dict()})
    else:
        facts = _facts(info) | place
        put("".join(f"{name:<9}{fact}\n" for name, fact in facts.items() if fact))
    return Exit.OK


def _facts(info: UserInfo) -> dict[str, Any]:
    balance = info.total_balance if info.total_balance is not None else info.balance
    parts = {"paid in": info.charge_balance, "given": info.balance}
    told = ", ".join(f"{what} {part}" for what, part in parts.items() if part)
    return {
        "name": info.name,
        "e-mail": info.email,
        "balance": f"{balance} ({told})" if told and balance is not None else balance,
    }


def _place(client: AsyncHoray) -> dict[str, Any]:
    """
    Where calls go, and with which key: enough of it to tell one from another.
    """
    key = client._line.settings.key
    shown = None
    if key is not None:
        shown = "…" + (key[-_KEY_SHOWN:] if len(key) > 2 * _KEY_SHOWN else "")
    return {"service": client.service.name, "url": client.base_url, "key": shown}


def _name(target: Target) -> None:
    if by := answerer(target):
        say(f"answered by {by}")
