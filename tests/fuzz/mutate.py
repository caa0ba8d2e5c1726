"""From sound inputs to hostile ones: places are spoilt, as JSON or as bytes. The same seed gives the same inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

Json = Any
Path = tuple[Any, ...]
Seed = Json | bytes  # bytes are spoilt as bytes alone

LONGEST = 1 << 18  # bytes of an input; what each reader caps is tried by tests of its own


class Token(str):
    """Written into JSON as it is: what no value of Python can say."""

    __slots__ = ()


class Twice(dict[str, Any]):
    """An object in which every key stands twice."""


_WORDS = (
    *("", " ", ".", "..", "../../etc/passwd", "/", "a/b", "-", "0", "-1", "01", "1e3", "1e999", "9" * 400, "0x7f"),
    *("true", "null", "~", "<<", "*a", "&a", "!!python/object:os.system", "Infinity", "NaN", "٣", "1_0", "500m"),
    *(
        "1Ei",
        "9999999E",
        "\x00",
        "a\x00b",
        "\x1b[2J\x1b]0;owned\x07",
        "\u009b31m",
        "\u202ereversed",
        "a\nb\r\n",
        "é" * 70,
    ),
    *(
        "x" * 70,
        "x" * 300,
        "x" * 5000,
        "$(reboot)",
        "`reboot`",
        "'; reboot #",
        "%s%n",
        "{}",
        "[]",
        "\U0001f600",
        "\u2028",
    ),
    *(
        "nvidia.com/mig-1g.10gb",
        "nvidia.com/gpu",
        "nvidia.com/mig-",
        "gpu-1",
        "ml",
        "ml/old",
        "Enabled",
        "InUse",
        "False",
    ),
    *(
        "00000000:10:00.0",
        "00000000:10:00.0\n",
        "ffffffff:ff:1f.7",
        "2026-01-02T03:04:05Z",
        "0001-01-01T00:00:00",
        "Exists",
    ),
    *("kubernetes.io/hostname", "DoNotSchedule", "In", "NotIn", "Gt", "Lt", "Unschedulable", "Always", "Pod", "Node"),
)
_NUMBERS = (
    *(
        0,
        1,
        -1,
        2,
        7,
        8,
        9,
        19,
        31,
        32,
        63,
        64,
        65,
        127,
        255,
        1023,
        1024,
        65535,
        65536,
        10**6,
        2**31 - 1,
        2**31,
        -(2**31),
    ),
    *(
        2**32,
        2**53,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        10**18,
        10**40,
        0.5,
        -0.0,
        1e308,
        5e-324,
        1.5e9,
    ),
)
_TOKENS = tuple(
    map(
        Token,
        (
            *(
                "NaN",
                "Infinity",
                "-Infinity",
                "1e999",
                "-1e999",
                "1e-999",
                "-",
                "01",
                "+1",
                "0x10",
                "1.",
                ".5",
                "'a'",
                "",
            ),
            *(
                "9" * 4299,
                "9" * 4301,
                "-" + "9" * 5000,
                "1" + "0" * 300 + ".5",
                "0." + "0" * 5000 + "1",
                "1E+30",
                "1e400",
            ),
            *(
                '"\\ud800"',
                '"\\udc00\\ud800"',
                '"\\u0000"',
                '"\\x41"',
                '"a',
                '"\\"',
                "tru",
                "nulll",
                "{",
                "}",
                "[",
                "]",
                ",",
            ),
            *(
                "[" * 60 + "]" * 60,
                "[" * 1200 + "]" * 1200,
                '{"a":' * 1500 + "1" + "}" * 1500,
                "[" * 50000,
                "[[],[],[]]",
            ),
        ),
    )
)


def places(value: Json, at: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value below its root."""
    keys: Any = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    for key in keys:
        yield (*at, key)
        yield from places(value[key], (*at, key))


def written(value: Json) -> str:
    """JSON with tokens as they are and keys as often as they stand there."""
    if isinstance(value, Token):
        return value
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)}:{written(each)}" for key, each in value.items()]
        return "{" + ",".join([*pairs, *pairs] if isinstance(value, Twice) else pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


class Mutator:
    """An endless row of inputs made of seeds."""

    def __init__(self, seeds: Sequence[Seed], random: Random) -> None:
        self._random = random
        self._seeds = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in seeds]
        self._places = [() if isinstance(each, bytes) else tuple(places(each)) for each in seeds]

    def next(self) -> bytes:
        """One input, the seed itself now and then."""
        random = self._random
        number = random.randrange(len(self._seeds))
        made = self._seeds[number]
        style = random.random()
        if self._places[number] and style < 0.75:
            made = self._spoilt_json(made, self._places[number])
        if not self._places[number] or style > 0.65:
            for _ in range(random.choice((0, 1, 1, 1, 2, 3, 8))):
                made = self._spoilt_bytes(made)
        return made[:LONGEST]

    def _spoilt_json(self, text: bytes, there: Sequence[Path]) -> bytes:
        whole = json.loads(text)
        for _ in range(self._random.choice((1, 1, 1, 2, 2, 3, 5, 12))):
            path = self._random.choice(there)
            try:
                place = whole
                for key in path[:-1]:
                    place = place[key]
                if isinstance(place, list | dict):
                    self._spoil(place, path[-1], whole, there)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change took the place away
        return written(whole).encode("utf-8", "surrogatepass")

    def _spoil(self, place: Any, key: Any, whole: Json, there: Sequence[Path]) -> None:
        random, old = self._random, place[key]
        match random.randrange(12):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place[self._word()] = place.pop(key)
            case 2 if isinstance(place, list):
                place[key:key] = [old] * random.choice((1, 2, 5, 40, 300))
            case 3:
                place[key] = self._elsewhere(whole, random.choice(there))
            case 4:
                place[key] = random.choice(([old], {"a": old}, [], {}, None, str(old)[:200], [old, old]))
            case 5 if isinstance(old, dict):
                place[key] = Twice(old)
            case 6 if isinstance(old, dict):
                old[self._word()] = self._value()
            case 7 if isinstance(old, int | float):
                place[key] = old + random.choice((-1, 1, 2, -old, -2 * old, 10**6, 2**31, 2**64))
            case 8 if isinstance(old, str):
                cut = random.randrange(len(old) + 1)
                place[key] = old[:cut] + self._word() + old[cut:]
            case _:
                place[key] = self._value()

    def _elsewhere(self, whole: Json, path: Path) -> Json:
        for key in path:
            whole = whole[key]
        return json.loads(json.dumps(whole)) if len(written(whole)) < 5000 else None

    def _value(self) -> Json:
        match self._random.randrange(6):
            case 0 | 1:
                return self._word()
            case 2 | 3:
                return self._random.choice(_NUMBERS)
            case 4:
                return self._random.choice(_TOKENS)
        return self._random.choice((None, True, False, [], {}, [None], {"": None}, [[]], [0] * 100, ["a"] * 2000))

    def _word(self) -> str:
        return self._random.choice(_WORDS)

    def _spoilt_bytes(self, text: bytes) -> bytes:
        random = self._random
        at = random.randrange(len(text) + 1)
        end = min(len(text), at + random.choice((1, 1, 2, 4, 16, 200)))
        match random.randrange(8):
            case 0:
                return text[:at]
            case 1:
                return text[:at] + text[end:]
            case 2:
                return text[:at] + text[at:end] * random.choice((2, 3, 50, 2000)) + text[end:]
            case 3:
                return (
                    text[:at]
                    + random.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf", b"\x1b[2J"))
                    + text[at:]
                )
            case 4:
                return (
                    text[:at]
                    + random.choice(
                        (b"\n", b"\r\n", b" ", b":", b"-", b",", b"{", b"}", b"=", b"\t", b"#", b"&a ", b"*a")
                    )
                    + text[end:]
                )
            case 5:
                other = random.choice(self._seeds)
                return text[:at] + other[random.randrange(len(other) + 1) :]
            case 6:
                return text[:at] + random.choice((*_WORDS, *_TOKENS)).encode("utf-8", "surrogatepass") + text[end:]
        if at == len(text):
            return text + random.randbytes(3)
        return text[:at] + bytes((text[at] ^ 1 << random.randrange(8),)) + text[at + 1 :]
