"""The record's schema says what the record is, and nothing that is none fits it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fetcher.errors import Error
from fetcher.model import RECORD_KEYS, Outcome, Record, Redirect, Timings, to_line
from fetcher.schema import MEANINGS, record_schema
from tests.command import Command, check_record

RECORD = Record(url="http://h/a", source="-", line=1, outcome=Outcome.FETCHED)


def of(record: Record) -> dict[str, Any]:
    """Return what a reader of the record's line gets."""
    found = json.loads(to_line(record))
    assert isinstance(found, dict)
    return found


def test_printed(run_fetcher: Command) -> None:
    """The command prints the schema, with all keys of the record in order, its dialect and its version."""
    ran = run_fetcher("schema")
    assert (ran.code, ran.stderr) == (0, "")
    schema = json.loads(ran.stdout)
    assert schema == record_schema()
    assert tuple(schema["properties"]) == tuple(schema["required"]) == RECORD_KEYS
    assert schema["$schema"].endswith("/2020-12/schema")
    assert schema["$id"] == "urn:fetcher:record:3"


def test_every_meaning_is_used() -> None:
    """The table of meanings has no key that the record lacks."""

    def keys(shape: dict[str, Any], prefix: str) -> set[str]:
        found = set()
        for name, inner in shape.get("properties", {}).items():
            assert inner["description"] == MEANINGS[prefix + name]
            found |= (
                {prefix + name} | keys(inner, f"{prefix}{name}.") | keys(inner.get("items", {}), f"{prefix}{name}.")
            )
        return found

    assert keys(record_schema(), "") == MEANINGS.keys()


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, outcome=Outcome.FAILED, error=Error("dns", "no", transient=True), retried=("dns",)),
        replace(RECORD, redirects=(Redirect(301, "http://h/b"),), timings=Timings(wait=0.5), elapsed=1.0),
        replace(RECORD, headers={"a": ["b"]}, meta={"a": [1, None]}, warnings=("length_unknown",), bytes=0),
    ],
)
def test_records(record: Record) -> None:
    """Whatever the record can be fits, and what a later version adds does not hurt."""
    check_record(of(record))
    check_record({**of(record), "mood": "good"})


@pytest.mark.parametrize(
    "harm",
    [
        {"url": None}, {"line": "1"}, {"line": 1.5}, {"outcome": "lost"}, {"ok": 1}, {"error": {"kind": "dns"}},
        {"retried": None}, {"retried": [1]}, {"redirects": [{"status": 301}]}, {"timings": {"wait": "long"}},
        {"headers": {"a": "b"}}, {"elapsed": None},
    ],
)  # fmt: skip
def test_what_is_none(harm: dict[str, Any]) -> None:
    """A wrong type in any place does not fit, nor does a missing key."""
    with pytest.raises(ValueError, match="must"):
        check_record({**of(RECORD), **harm})
    (key,) = harm
    with pytest.raises(ValueError, match="must contain"):
        check_record({name: found for name, found in of(RECORD).items() if name != key})
