"""JSON from outside -> typed values, with one sort of failure.

msgspec checks types and limits, but lets two of Python's own errors through: text that is not UTF-8, and nesting that
is deeper than the interpreter's stack. A caller that only expected a DecodeError would die of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


def decoder(kind: type[T]) -> Callable[[bytes | msgspec.Raw], T]:
    """A function that decodes JSON of this type. It raises msgspec.MsgspecError and nothing else: ValidationError,
    with the field's path, for another form, DecodeError for what cannot be read at all."""
    decode = msgspec.json.Decoder(kind).decode

    def checked(raw: bytes | msgspec.Raw) -> T:
        try:
            return decode(raw)
        except UnicodeDecodeError as error:
            raise msgspec.DecodeError("it holds text that is not UTF-8") from error
        except RecursionError as error:
            raise msgspec.DecodeError("it is nested too deeply") from error

    return checked
