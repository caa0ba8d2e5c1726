"""Every return code NVML can give has a failure in CDMO's own words."""

from __future__ import annotations

import pynvml
import pytest

from cdmo.errors import CdmoError, DriverFault, HardwareError, InUse, LibraryMismatch, NoRoom
from cdmo.hardware import nvml_codes

CODES = {name: value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_code_of_the_binding_is_known(name: str) -> None:
    failure = nvml_codes.failure(CODES[name], "reading GPU 0")
    assert CODES[name] in nvml_codes.known_codes()
    assert type(failure) is not HardwareError
    assert failure.code == CODES[name]
    assert str(failure).startswith("reading GPU 0: ")


def test_the_table_has_no_code_the_binding_does_not_have() -> None:
    assert nvml_codes.known_codes() == set(CODES.values())


@pytest.mark.parametrize(
    ("code", "kind"), [(19, InUse), (23, NoRoom), (18, LibraryMismatch), (4711, DriverFault), (-1, DriverFault)]
)
def test_a_code_becomes_the_failure_callers_act_on(code: int, kind: type[CdmoError]) -> None:
    assert type(nvml_codes.failure(code, "creating")) is kind


def test_the_named_codes_are_those_of_the_binding() -> None:
    for name in ("INVALID_ARGUMENT", "NOT_SUPPORTED", "NOT_FOUND", "FUNCTION_NOT_FOUND", "IN_USE"):
        assert getattr(nvml_codes, name) == CODES[f"NVML_ERROR_{name}"]
