"""
The emulator's tokens: text to ids and back, for any text at all.
"""

import re

from collections import Counter
from collections.abc import Iterable, Sequence


# A word takes the space before it along, so that joined tokens are the text again, and
# may hold apostrophes (U+2019 is the curly one). "Mr." is one token: its full stop ends
# no sentence. The last branch takes whatever is left, a character at a time.
_TOKEN = re.compile(
    r" ?(?:Mrs?|St|Dr)\.| ?[^\W\d_]+(?:['\u2019-][^\W\d_]+)*| ?[^\w\s]|\n\n|.",
    re.DOTALL,
)

# Every Unicode code point has an id of its own above all learned tokens. Whole
# characters, not bytes: a token's text is then never half a character.
_CHARACTERS = 1 << 16

_PIECE_LENGTHS = (2, 3, 4, 5, 6)
_PIECE_SEEN_IN = 5
"""Different words a piece must occur in to be worth an id."""

_LONGEST_PIECE = 8

END_TEXT = "<|end|>"
"""How the end-of-text token is shown among alternatives. It adds no text."""


def split(text: str) -> list[str]:
    """
    Cut *text* into words, punctuation and single characters; joined they are *text*.
    """
    return _TOKEN.findall(text)


class Vocabulary:
    """
    The tokens learned from one text, and a character for all else.

    Ids below :attr:`words` are words with their leading space, most frequent first;
    then come punctuation, sentence beginnings and pieces of words, then the end of
    text, then (from 65,536) the Unicode code points.
    """

    size = _CHARACTERS + 0x110000

    def __init__(self, tokens: Iterable[str]) -> None:
        ranked = [token for token, _ in Counter(tokens).most_common()]
        words = [token for token in ranked if token[0] == " " and token[1:2].isalpha()]
        self.words = len(words)
        known = dict.fromkeys(words)
        known.update(dict.fromkeys(ranked))
        known.update(dict.fromkeys(_pieces(ranked)))
        self._texts = [*known]
        self._ids = {text: id_ for id_, text in enumerate(self._texts)}
        self.eos_id = len(self._texts)
        self._texts.append(END_TEXT)

    def id(self, token: str) -> int | None:
        """
        The id of a learned token, or None.
        """
        return self._ids.get(token)

    def text(self, id_: int) -> str:
        """
        The text of one id.

        Raises:
            ValueError: No token has that id.
        """
        if 0 <= id_ < len(self._texts):
            return self._texts[id_]
        if _CHARACTERS <= id_ < self.size:
            return chr(id_ - _CHARACTERS)
        raise ValueError(f"no token has the id {id_}")

    def writable(self, id_: int) -> bool:
        """
        Whether the id stands for text that can go over a wire as UTF-8.
        """
        if _CHARACTERS <= id_ < self.size:
            return not 0xD800 <= id_ - _CHARACTERS <= 0xDFFF
        return 0 <= id_ < len(self._texts)

    def encode(self, text: str) -> list[int]:
        """
        The ids of *text*. ``decode(encode(text)) == text`` for every text.
        """
        ids: list[int] = []
        get = self._ids.get
        for token in split(text):
            id_ = get(token)
            if id_ is None:
                ids.extend(self._spell(token))
            else:
                ids.append(id_)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """
        The text of *ids*; the end of text adds nothing.
        """
        return "".join(self.text(id_) for id_ in ids if id_ != self.eos_id)

    def _spell(self, token: str) -> list[int]:
        """
        An unknown word in the longest known pieces, from left to right.
        """
        ids: list[int] = []
        start = 0
        while start < len(token):
            for end in range(min(start + _LONGEST_PIECE, len(token)), start, -1):
                id_ = self._ids.get(token[start:end])
                if id_ is not None:
                    break
            else:
                end = start + 1
                id_ = _CHARACTERS + ord(token[start])
            ids.append(id_)
            start = end
        return ids


def _pieces(tokens: Sequence[str]) -> list[str]:
    """
    Letter groups that occur in many of the words.
    """
    counts = Counter(
        token[start : start + length]
        for token in tokens
        if token[-1].isalpha()
        for length in _PIECE_LENGTHS
        for start in range(len(token) - length + 1)
    )
    return [piece for piece, seen in counts.items() if seen >= _PIECE_SEEN_IN]
