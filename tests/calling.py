"""
Attempts over a real session, and what a hook heard of them.
"""

import contextlib

from horay_async._attempts import Attempts
from horay_async._call import Call
from horay_async._events import AttemptFailed, AttemptStarted
from horay_async._governor import Governor
from horay_async._policy import RetryPolicy
from horay_async._session import Session
from horay_async._timeouts import Timeouts
from loopback import PATIENCE


KEY = "key-of/the-tests"

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'

GATE = ("here", KEY, "m")


class Caller:
    """
    One session and one governor, for many calls.
    """

    def __init__(self, session):
        self.session = session
        self.governor = Governor()
        self.events = []

    def call(
        self,
        *,
        retries=2,
        timeouts=None,
        hook=None,
        gate=GATE,
        **fields,
    ):
        """
        The attempts of one call, not begun.
        """
        call = Call(
            method="POST",
            path="/chat/completions",
            service="Horay",
            gate=gate,
            body=BODY,
            secret=KEY,
            **fields,
        )
        return Attempts(
            call,
            session=self.session,
            governor=self.governor,
            policy=RetryPolicy(max_retries=retries),
            timeouts=timeouts or Timeouts(deadline=PATIENCE),
            hook=hook or self.events.append,
        )

    async def run(self, **options):
        """
        Call, and read the whole body.
        """
        return await self.call(**options).run(read)

    @property
    def told(self):
        """
        What the hook heard of attempts: "1" when one started, (its wait, why) when it failed.
        """
        heard = []
        for event in self.events:
            if isinstance(event, AttemptStarted):
                heard.append(event.attempt)
            elif isinstance(event, AttemptFailed):
                heard.append((event.attempt, event.wait, event.reason))
        return heard

    @property
    def gate(self):
        """
        The gate of these calls; None where it is forgotten.
        """
        return self.governor.snapshot().get(GATE)

    @property
    def in_flight(self):
        """
        Leases that were not settled.
        """
        return self.gate.in_flight if self.gate else 0


async def read(body):
    """
    The whole body.
    """
    return await body.read_all(1 << 20)


@contextlib.asynccontextmanager
async def calling(base_url):
    """
    A caller of a server; closed in the end.
    """
    session = Session(base_url=base_url, headers={"Authorization": f"Bearer {KEY}"})
    try:
        yield Caller(session)
    finally:
        await session.close()
