"""Whether a run was right: every body compared byte for byte, every record with what was sent."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from bench.measure import WrongRun
from bench.site import TINY, Body
from bench.workloads import MIB

_SHOWN: Final = 5
_SLOTS: Final = 50


def check_files(folder: Path, bodies: Mapping[str, Body]) -> None:
    """``folder`` has exactly the files that are named in ``bodies``, the same in every byte, or WrongRun."""
    found = {path.name: path for path in folder.iterdir()}
    _expect("files missing", [name for name in bodies if name not in found])
    _expect("files too many", [name for name in found if name not in bodies])
    _expect("files that differ", [name for name, body in bodies.items() if not _same(found[name], body.path)])


def check_records(records: Path, folder: Path, bodies: Mapping[str, Body]) -> None:
    """There is one record for each body, which is ok and right about it, and whose file is the same, or WrongRun."""
    lines = records.read_bytes().splitlines()
    if len(lines) != len(bodies):
        raise WrongRun(f"{len(lines)} records for {len(bodies)} URLs")
    wrong: list[str] = []
    seen: set[str] = set()
    for line in lines:
        record = orjson.loads(line)
        name = _last_part(record)
        body = bodies.get(name)
        if name in seen or body is None or not _right(record, folder, body):
            wrong.append(line.decode(errors="replace"))
        seen.add(name)
    _expect("records or their files wrong", wrong)


def check_interrupted(records: Path, folder: Path, *, answered: int) -> None:
    """Of a run that was stopped: every record that is ok has its file; hardly any answer is without a record.

    As many of ``answered`` requests as there are slots may not have become a record. Raises WrongRun.
    """
    wrong: list[str] = []
    count = 0
    for line in records.read_bytes().splitlines():
        record = orjson.loads(line)
        if record["ok"]:
            count += 1
            content = _tiny(_last_part(record))
            digest = hashlib.sha256(content).hexdigest()
            if record["sha256"] != digest or (folder / record["path"]).read_bytes() != content:
                wrong.append(line.decode())
        elif record["error"]["kind"] != "cancelled":
            wrong.append(line.decode())
    _expect("records or their files wrong", wrong)
    if count < answered - _SLOTS:
        raise WrongRun(f"{count} records that are ok for {answered} answers")


def check_interrupted_files(folder: Path, *, answered: int) -> None:
    """The same for a peer: of its files at most two for each slot are wrong or missing, or WrongRun."""
    right = sum(path.read_bytes() == _tiny(path.name) for path in folder.iterdir())
    if right < answered - 2 * _SLOTS:
        raise WrongRun(f"{right} files that are right for {answered} answers")


def _right(record: dict[str, Any], folder: Path, body: Body) -> bool:
    return (
        record["ok"]
        and record["outcome"] == "fetched"
        and record["bytes"] == body.size
        and record["sha256"] == body.sha256
        and _same(folder / record["path"], body.path)
    )


def _tiny(name: str) -> bytes:
    return f"/{TINY}/{name}\n".encode()


def _last_part(record: dict[str, Any]) -> str:
    return str(record["url"]).rpartition("/")[2]


def _same(one: Path, other: Path) -> bool:
    try:
        with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
            while True:
                piece = left.read(MIB)
                if piece != right.read(MIB):
                    return False
                if not piece:
                    return True
    except FileNotFoundError:
        return False


def _expect(what: str, wrong: list[str]) -> None:
    """Raises WrongRun with the first few of ``wrong``, unless there are none."""
    if wrong:
        raise WrongRun(f"{what}: {len(wrong)}, such as " + ", ".join(wrong[:_SHOWN]))
