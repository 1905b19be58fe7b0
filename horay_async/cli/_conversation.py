"""
`horay chat` without a prompt: a conversation on the terminal.
"""

import asyncio
import re
import signal
import sys

from contextlib import AsyncExitStack, suppress
from types import FrameType, ModuleType
from typing import Any

import attrs

from .. import (
    APIError,
    AsyncHoray,
    ChatRequest,
    HorayError,
    Message,
    Outcome,
    assistant,
    system,
    user,
)
from ._answers import CUT, UNCONFIRMED, check, is_cut
from ._failures import Exit, Misuse, explained, put, say
from ._hints import add_hint
from ._output import Writer
from ._signals import Loop, Stopped, handling
from ._target import Target, answerer, open_client
from ._terminal import dim


# A word after a slash; "/etc/hosts, what is it?" is a question.
_COMMAND = re.compile(r"/(\w*)(?:\s+(.*))?", re.DOTALL)

_HELP = """\
/help         these lines
/reset        forget what was said
/system TEXT  say who the model is (no text: nobody), and forget what was said
/quit         end, as do Ctrl-D, and Ctrl-C twice
Ctrl-C while an answer comes stops it; what has come stays part of the conversation.
"""


def converse(target: Target, fields: dict[str, Any], instructions: str | None) -> Exit:
    """
    Ask and answer in turn, on the terminal, until the user has enough.

    The loop runs only while something is to be done; typing happens outside of it, where
    Ctrl-C and line editing are the terminal's own.
    """
    if not sys.stdout.isatty():
        raise Misuse("no prompt: a conversation needs a terminal for its answers, too")
    readline = _readline()
    with handling(_stop, signal.SIGTERM), Loop() as loop:
        stack = AsyncExitStack()
        try:
            client = loop.run(stack.enter_async_context(open_client(target)))
            talk = _Conversation(
                client=client, fields=fields, instructions=instructions
            )
            check(client, talk.ask("…"))
            by = answerer(target) or talk.model
            say(f"{by}; /help, Ctrl-D ends")
            while (line := _read_line(readline)) is not None:
                if not talk.hear(line, loop):
                    break
        finally:
            loop.run(stack.aclose())
    return Exit.OK


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


def _readline() -> ModuleType | None:
    """
    What makes input() edit lines and remember them, where this Python has it.
    """
    with suppress(ImportError):
        import readline  # noqa: PLC0415 -- not every Python has it

        # Lines that are pasted are one question. (libedit has no such setting.)
        if "libedit" not in (readline.__doc__ or ""):
            readline.parse_and_bind("set enable-bracketed-paste on")
        return readline
    return None


def _read_line(readline: ModuleType | None) -> str | None:
    """
    What the user types next; None at the end.
    """
    leaving = False
    while True:
        try:
            return input("> ")
        except EOFError:
            put("\n")
            return None
        except UnicodeDecodeError:
            say("that cannot be read: it is not in the terminal's encoding")
        except Stopped:
            put("\n")
            raise
        except KeyboardInterrupt:
            # As in a shell half a line is taken back. Who stops an answer a moment too
            # late must not lose the conversation: an empty one is left at the second.
            put("\n")
            empty = readline is None or not readline.get_line_buffer()
            if empty and leaving:
                return None
            if empty:
                _note("Ctrl-D or /quit ends; so does a second Ctrl-C")
            leaving = empty


def _note(what: str) -> None:
    put(dim(f"({what})", sys.stdout) + "\n")


@attrs.define(kw_only=True)
class _Conversation:
    """
    What was said so far, and with whom.
    """

    client: AsyncHoray

    fields: dict[str, Any]

    instructions: str | None

    said: list[Message] = attrs.field(factory=list)

    @property
    def model(self) -> str:
        """
        Who answers, for people.
        """
        endpoint = self.client.service.chat
        model = self.fields.get("model") or (endpoint.model if endpoint else None)
        return f"{model} at {self.client.service.name}"

    def ask(self, question: str) -> ChatRequest:
        """
        The request that goes on from what was said.
        """
        before = [] if self.instructions is None else [system(self.instructions)]
        return ChatRequest(
            messages=[*before, *self.said, user(question)], **self.fields
        )

    def hear(self, line: str, loop: Loop) -> bool:
        """
        Do what a line asks for; whether to go on.
        """
        line = line.strip()
        if command := _COMMAND.fullmatch(line):
            return self._obey(command[1], (command[2] or "").strip())
        if line:
            try:
                loop.run(self._answer(line))
            except Stopped as stop:
                if stop.number != signal.SIGINT:
                    raise
            except HorayError as error:
                if isinstance(error, APIError):
                    add_hint(error, self.client)
                say(explained(error))
        return True

    def _obey(self, command: str, text: str) -> bool:
        match command:
            case "quit" | "exit":
                return False
            case "help":
                put(_HELP)
            case "reset":
                self.said.clear()
                _note("what was said is forgotten")
            case "system":
                self.instructions = text or None
                self.said.clear()
                _note(f"told{'' if text else ' nothing'}; what was said is forgotten")
            case _:
                say(f"there is no command /{command}; /help lists what there is")
        return True

    async def _answer(self, question: str) -> None:
        """
        Print the answer as it comes, and keep it; without an answer the question goes too.
        """
        # Let the loop see first which idle connections were closed while nobody looked.
        await asyncio.sleep(0)
        ask = self.ask(question)
        out = Writer()
        stream = self.client.chat.completions.stream(ask)
        try:
            async with stream:
                async for text in stream.text_stream:
                    out.write(text)
        except asyncio.CancelledError:
            put("\n")  # behind the terminal's ^C
            came = stream.reply.text
            kept = "what came is kept" if came else "nothing had come"
            _note(f"stopped; {kept}")
            if came:
                self._keep(question, came)
            raise
        finally:
            out.end()
        self._keep(question, stream.reply.text)
        if stream.outcome is Outcome.UNCONFIRMED:
            say(UNCONFIRMED)
        elif is_cut(ask, stream.reply, 0):
            say(CUT)

    def _keep(self, question: str, answer: str) -> None:
        self.said += [user(question), assistant(answer)]
