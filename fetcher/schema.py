"""L1: the record's shape as JSON Schema, made from the record itself."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from fetcher.model import RECORD_KEYS, Record

#: Goes up when a key is added; none is ever removed or given another meaning.
VERSION: Final = 3

_NAMES: Final[dict[Any, str]] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}

#: What each key means, those inside others behind a dot.
MEANINGS: Final[dict[str, str]] = {
    "url": "the URL as written",
    "id": "the list's own name for it",
    "asked": "what else the list asks for: name, headers (only what they are called), sha256, max_size, mirrors",
    "source": "the list: its path, - or argv",
    "line": "the line in it, from 1; of argv the position, of Parquet the row",
    "host": "name or name:port; null if the line is no URL",
    "final_url": "the URL that answered, after redirects",
    "outcome": "what became of the line",
    "ok": "whether outcome is anything but failed",
    "status": "the last HTTP status; null without an answer",
    "error": "why it failed; null if it did not",
    "error.kind": "a word of a closed list, or http.400 to http.599",
    "error.message": "for people, at most 300 characters; may change",
    "error.transient": "whether it may pass",
    "path": "the file or archive, relative to the output directory, with /",
    "offset": "in an archive: the byte at which the entry begins, in Parquet the row; null for a file",
    "length": "in an archive: the bytes of that entry; null for a file and in Parquet",
    "bytes": "size of the body as stored",
    "wire_bytes": "body bytes received in all attempts of the run, before decompression",
    "sha256": "of the body as stored, in hex",
    "content_type": "media type in lower case, without parameters",
    "charset": "its charset parameter, in lower case",
    "etag": "header value as sent",
    "last_modified": "header value as sent",
    "http_version": "such as 1.1",
    "remote_ip": "the address that answered; a proxy's, if there is one",
    "redirects": "the hops",
    "redirects.status": "the status of the redirect",
    "redirects.url": "the URL that redirected",
    "attempts": "tries; 0 means never sent",
    "retried": "error kinds of the earlier attempts",
    "resumed_from": "bytes that an earlier attempt had left, which this one went on from",
    "started_at": "start of the first attempt, RFC 3339 in UTC with milliseconds",
    "elapsed": "seconds from there to the end, waits included",
    "timings": "seconds of the last attempt by phase, HAR's names; null for one that did not happen",
    "timings.blocked": "until a connection was to be had",
    "timings.dns": "finding the address",
    "timings.connect": "opening the connection",
    "timings.tls": "agreeing on encryption",
    "timings.send": "sending the request",
    "timings.wait": "until the first byte of the answer",
    "timings.receive": "until the last byte of the body",
    "headers": "reserved",
    "duplicate_of": "for a duplicate: the line that is fetched for this URL",
    "changed": "whether the file differs from what was there before, also if that was none; null if nothing was compared",
    "previous_sha256": "of what changed was compared with, in hex; null if there was none",
    "warnings": "doubts that are no failure",
    "meta": "what else the list says of it",
}


def record_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12) of one record; keys that it does not name are allowed: later versions'."""
    shape = _object(Record, "")
    shape["properties"]["ok"] = {"type": "boolean", "description": MEANINGS["ok"]}
    properties = {key: shape["properties"][key] for key in RECORD_KEYS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:fetcher:record:{VERSION}",
        "title": "fetcher record",
        "description": f"What became of one line of a list. Version {VERSION}; keys are only ever added.",
        **shape,
        "properties": properties,
        "required": list(RECORD_KEYS),
    }


def _object(kind: type[Any], prefix: str) -> dict[str, Any]:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    properties = {
        name: {**_of(hints[name], f"{prefix}{name}."), "description": MEANINGS[prefix + name]} for name in names
    }
    return {"type": "object", "properties": properties, "required": names}


def _of(hint: Any, prefix: str) -> dict[str, Any]:
    """Return the schema of a type; ``prefix`` stands before the names inside it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (inner,) = (each for each in args if each is not NoneType)
        shape = _of(inner, prefix)
        return {**shape, "type": [shape["type"], "null"]}
    if origin in (tuple, list):
        return {"type": "array", "items": _of(args[0], prefix)}
    if origin is Mapping:
        return {"type": "object"} if args[1] is Any else {"type": "object", "additionalProperties": _of(args[1], "")}
    if is_dataclass(hint) and isinstance(hint, type):
        return _object(hint, prefix)
    if issubclass(hint, Enum):
        return {"type": "string", "enum": [each.value for each in hint]}
    return {"type": _NAMES[hint]}
