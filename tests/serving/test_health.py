"""Named checks."""

from __future__ import annotations

from cdmo.serving.health import answers, watched


def test_every_check_is_asked_each_time() -> None:
    said = [""]
    checks = {"one": lambda: said[0], "two": lambda: "broken"}
    assert answers(checks) == {"one": "", "two": "broken"}
    said[0] = "late"
    assert answers(checks)["one"] == "late"


def test_a_watch_is_well_while_it_is_synced() -> None:
    synced = [False]
    name, check = watched("pods", lambda: synced[0])
    assert (name, check()) == ("watch pods", "not synced with the API server")
    synced[0] = True
    assert check() == ""
