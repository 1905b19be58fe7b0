"""
One piece of code, run by openai's client and by ours: what it gives must be the same.
"""

import openai

import horay_async


async def both(emulator, snippet, *answers):
    """
    Run a snippet with each client and return what both of them gave.

    Args:
        snippet: An async function of a client, and of the package for its exceptions.
        answers: The emulator's next answers, the same for each.
    """
    options = {"base_url": emulator.base_url, "api_key": "key", "max_retries": 0}
    given = []
    for package, make in (
        (openai, openai.AsyncOpenAI),
        (horay_async, horay_async.AsyncHoray),
    ):
        emulator.script(*answers)
        async with make(**options) as client:
            given.append(await snippet(client, package))
    theirs, ours = given
    assert ours == theirs
    return ours
