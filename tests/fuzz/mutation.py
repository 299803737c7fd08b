"""Wrong inputs out of right ones: bytes, words and values of real files changed at random.

All randomness comes from a ``random.Random`` that the caller seeds, so that an input can be made again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

LONGEST = 32_768  # bytes of an input
_EXTREMES = (
    0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, (1 << 29) - 1, 1 << 29, (1 << 31) - 1, 1 << 31, (1 << 32) - 4,
    (1 << 32) - 1, 1 << 32, (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
_TEXT_WORDS = (
    b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"-1e999", b"1e39", b"1e-400", b"-1", b"-0", b"0", b"1", b"1.0",
    b"2.5", b"9" * 25, b"9" * 5000, b"16777217", b"2147483648", b"18446744073709551616", b"0x10", b"1_000", b"1,5",
    b"", b" ", b"\t", b"\n", b"\r", b"\0", b"\x0b", b"\x1c", b"\x85", b'"', b"'", b"\\", b"\\ud800", b"\\u0000", b"/",
    b"..", b"../..", b"./", b"//", b"~", b"*", b"%", b"#", b"&", b"<", b">", b"[", b"]", b"{", b"}", b"(", b":", b";",
    b",", b"|", b"null", b"true", b"[]", b"{}", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    "\u00e9".encode(), "\u0661\u0662".encode(), "\u00b2".encode(), "\U0001f600".encode(), "\u2028".encode(),
    "\u202e".encode(), b"a" * 300, b"a" * 5000, b"a.jpg", b"b.png", b"none.jpg", b"cat", b"dog",
)  # fmt: skip
_ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2.5, 1e39, 1e308, float("nan"), float("inf"), 10**30, 10**400, 2**53 + 1, "", " ", "0",
    "1.0", "nan", "cat", "\0", "\ud800", "a" * 400, "a.jpg", "../a.jpg", "9" * 5000, [], {}, [[]], [0], [1, 0],
    [0, 1, 1], ["cat", "cat"], [None], {"a": 1}, {"0": "cat"}, [[1, 2, 3, 4]], [1, 2, 3, 4], [1, 2, 3, float("nan")],
)  # fmt: skip
_TOKEN = re.compile(rb'"[^"\n]*"|[-+.\w]+|\s+|[^\s\w]')

Operation = Callable[[Random, bytearray, Sequence[bytes], Sequence[bytes]], None]
"""Changes its second argument; the others are inputs to take parts from, and words that mean something to a reader."""


def mutate_binary(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One of ``seeds`` after one to eight changes of its bytes."""
    return _changed(rng, seeds, words, _BINARY)


def mutate_text(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One of ``seeds`` after one to eight changes of its words, lines, JSON values or bytes.

    Of JSON, nearly half are changed in their values only: the rest mostly is no JSON any more.
    """
    values_only = seeds[0].startswith(b"{") and rng.random() < 0.45
    return _changed(rng, seeds, (*_TEXT_WORDS, *words), (_json,) if values_only else _TEXT)


def _changed(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes], operations: Sequence[Operation]) -> bytes:
    content = bytearray(rng.choice(seeds))
    for _ in range(min(1 + int(rng.expovariate(0.7)), 8)):
        rng.choice(operations)(rng, content, seeds, words)
    return bytes(content[:LONGEST])


def _span(rng: Random, content: bytearray) -> slice:
    """A stretch, mostly short."""
    start = rng.randint(0, len(content))
    return slice(start, start + min(int(rng.expovariate(0.05)) + 1, len(content)))


def _flip(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _overwrite(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if content:
        place = rng.randrange(len(content))
        content[place : place + rng.choice((1, 1, 2, 4, 8))] = rng.randbytes(rng.choice((1, 1, 2, 4, 8)))


def _cut(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    del content[rng.randint(0, len(content)) :]


def _behead(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    del content[: int(rng.expovariate(0.05)) + 1]


def _delete(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    del content[_span(rng, content)]


def _insert(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    place = rng.randint(0, len(content))
    content[place:place] = rng.randbytes(1 + int(rng.expovariate(0.1)))


def _word(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Put a word in, or over what is there."""
    if words:
        word = rng.choice(words)
        place = rng.randint(0, len(content))
        content[place : place + rng.choice((0, len(word)))] = word


def _number(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Set a number of 1 to 8 bytes, mostly at a multiple of 4, to an extreme."""
    size = rng.choice((1, 2, 4, 4, 4, 8, 8))
    place = rng.randint(0, len(content))
    place -= place % 4 if rng.random() < 0.8 else 0
    value = rng.choice(_EXTREMES) % (1 << 8 * size)
    content[place : place + size] = value.to_bytes(size, rng.choice(("little", "little", "big")))


def _near(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Make a number of 4 bytes a little larger or smaller."""
    if len(content) >= 4:
        place = rng.randrange(len(content) - 3) & ~3
        value = int.from_bytes(content[place : place + 4], "little") + rng.randint(-8, 8)
        content[place : place + 4] = (value % (1 << 32)).to_bytes(4, "little")


def _repeat(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    span = _span(rng, content)
    content[span.start : span.start] = bytes(content[span]) * rng.choice((1, 1, 2, 3, 50))
    del content[LONGEST:]


def _swap(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    first = _span(rng, content)
    moved = bytes(content[first])
    del content[first]
    place = rng.randint(0, len(content))
    content[place:place] = moved


def _fill(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    span = _span(rng, content)
    content[span] = bytes([rng.choice((0, 0xFF, 0x20, 0x30))]) * len(content[span])


def _splice(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Go on with the end of another input."""
    other = rng.choice(seeds)
    content[rng.randint(0, len(content)) :] = other[rng.randint(0, len(other)) :]
    del content[LONGEST:]


def _token(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Put a word in the place of one that is there, quotes kept or not; once, or wherever it stands."""
    tokens = _TOKEN.findall(content)
    if not tokens:
        return
    place = rng.randrange(len(tokens))
    old, new = tokens[place], rng.choice(tokens if rng.random() < 0.25 else words)
    if old.startswith(b'"') and rng.random() < 0.7:
        new = b'"' + new + b'"'
    if rng.random() < 0.2:
        tokens = [new if each == old else each for each in tokens]
    else:
        tokens[place] = new
    content[:] = b"".join(tokens)[:LONGEST]


def _lines(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Double, drop, swap or join lines."""
    lines = bytes(content).split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        lines.insert(second, lines[first])
    elif kind == 1:
        del lines[first]
    elif kind == 2:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first : first + 2] = [b"".join(lines[first : first + 2])]
    content[:] = b"\n".join(lines)[:LONGEST]


def _encode(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Another encoding, or other ends of lines."""
    text = bytes(content).decode("utf-8", "replace")
    kind = rng.randrange(6)
    if kind < 4:
        content[:] = text.encode(("utf-16", "utf-32-le", "utf-8-sig", "utf-16-be")[kind], "replace")[:LONGEST]
    else:
        content[:] = bytes(content).replace(b"\n", (b"\r\n", b"\r")[kind - 4])


def _nest(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Brackets or elements within each other, far deeper than anyone writes."""
    start, end = rng.choice(
        ((b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"- ", b""), (b"(", b")"), (b'"', b""))
    )
    depth = rng.choice((20, 1200, 9000))
    place = rng.randint(0, len(content))
    content[place:place] = start * depth + rng.choice((b"", b"1", end * depth))
    del content[LONGEST:]


def _json(rng: Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    """Change a value of JSON, or a key; of lines of JSON, of one of them. What is none is left as it is."""
    whole = bytes(content)
    lines = [whole] if rng.random() < 0.5 else whole.split(b"\n")
    row = rng.randrange(len(lines))
    try:
        value = json.loads(lines[row])
        changed = json.dumps(_other_value(rng, value), ensure_ascii=rng.random() < 0.8)
    except (ValueError, RecursionError, OverflowError):
        return
    lines[row] = changed.encode("utf-8", "surrogatepass")
    content[:] = b"\n".join(lines)[:LONGEST]


def _other_value(rng: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.12:
            return {each: value[each] for each in value if each != key}
        if kind < 0.2:
            return {(str(rng.choice(_ODD_VALUES)) if each == key else each): value[each] for each in value}
        return {**value, key: _other_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.12:
            return value[:place] + value[place + 1 :]
        if kind < 0.24:
            return [*value, value[place]]
        return [*value[:place], _other_value(rng, value[place]), *value[place + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return -value if rng.random() < 0.5 else value * rng.choice((0.5, 2, 1000))
    return rng.choice(_ODD_VALUES)


_BINARY: tuple[Operation, ...] = (
    _flip, _flip, _overwrite, _cut, _behead, _delete, _insert, _word, _word, _number, _number, _number, _near, _near,
    _repeat, _swap, _fill, _splice,
)  # fmt: skip
_TEXT: tuple[Operation, ...] = (
    *[_token] * 10, *[_json] * 6, _lines, _lines, _lines, _encode, _nest, _flip, _overwrite, _cut, _delete, _word,
    _repeat, _swap, _splice, _splice,
)  # fmt: skip
