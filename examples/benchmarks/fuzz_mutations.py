"""Damage for fuzz.py: bytes that are flipped, cut, moved and mixed, and JSON whose parts are something else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from lightning_easiness._utils.checked_files import json_checksum, with_checksum
from lightning_easiness.record.checksums import CHECKSUM, header_checksum

_LENGTHS = (0, 1, 8, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_PIECES = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"true", b"NaN", b"Infinity", b"-1", b"1e999", b"0.5"),
    *(
        b"9" * 30,
        b"9" * 5000,
        b"\0",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\n",
        b"\r\n",
        b"../",
        b"[" * 3000,
        b'{"a":' * 3000,
    ),
)
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 2**31, 2**40, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", " ", "0", "-1", "1e9", "99999999999999", "nan", "\0", "\ud800", "é", "x" * 300),
    *("../../outside", "/", ".", "..", "train-probe", [], {}, [[]], [1], {"a": 1}, ["a", 1, None], {"class": []}),
)


def damaged_bytes(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return other bytes than `data`, changed in one to three ways; `others` are files to take pieces of."""
    found = data
    while found == data:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            found = rng.choice(_WAYS)(bytearray(found), rng, others)
    return found


def damaged_json(text: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return JSON in which one to three parts are something else, or bytes that may be no JSON any more.

    Of what has a checksum, half has a new one.
    """
    if rng.random() < 0.3:
        return damaged_bytes(text, rng, others)
    tree = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = damaged_tree(tree, rng)
    if isinstance(tree, dict) and CHECKSUM in tree and rng.random() < 0.5:
        tree = with_checksum(tree)
    return json.dumps(tree, indent=rng.choice((None, 1))).encode()


def is_sealed(text: bytes) -> bool:
    """Return whether nothing says that JSON is not what was written: it has its checksum, or none."""
    tree = json.loads(text)
    return not isinstance(tree, dict) or tree.get(CHECKSUM, json_checksum(tree)) == json_checksum(tree)


def damaged_tree(tree: Any, rng: random.Random) -> Any:
    """Return a tree of dicts and lists with one part changed, left out, doubled or put elsewhere."""
    places = list(_places(tree))
    if not places:
        return odd_value(rng)
    holder, key = rng.choice(places)
    what = rng.randrange(6)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice(("", "x", "\0", str(key).upper(), *map(str, holder)))] = holder.pop(key)
    elif what == 2 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    elif what == 3:
        other, place = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[place])) if place in _keys(other) else odd_value(rng)
    else:
        holder[key] = odd_value(rng, holder[key])
    return tree


def odd_value(rng: random.Random, like: Any = None) -> Any:
    """Return a value that is seldom in a file: of another type or range, near `like`, or deep."""
    what = rng.random()
    if isinstance(like, int) and what < 0.4:
        return like + rng.choice((-1, 1, 10, 1000, 10**9, -(10**9)))
    if isinstance(like, str) and what < 0.4:
        return damaged_bytes(like.encode("utf-8", "replace") or b"a", rng).decode("utf-8", "replace")[:6000]
    if what > 0.97:
        return _deep(rng.choice((10, 400)))
    return copy.deepcopy(rng.choice(_ODD))  # which may be damaged in turn


def damaged_header(data: bytes, rng: random.Random, others: Sequence[bytes] = (), *, seal: bool = False) -> bytes:
    """Return a safetensors file with another header; with `seal` the header's checksum is that of the new one."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for _ in range(rng.choice((1, 1, 2))):
        header = damaged_tree(header, rng)
    return with_header(header, data[8 + length :], seal)


def with_header(header: Any, values: bytes, seal: bool) -> bytes:
    """Return a safetensors file of a header and the bytes of its arrays."""
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if seal and isinstance(metadata, dict):
        header["__metadata__"] = metadata = {name: _text(value) for name, value in metadata.items()}
        metadata[CHECKSUM] = header_checksum(metadata)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + values


def without_checksums(data: bytes) -> bytes:
    """Return a file of a record as versions wrote it that knew no checksums."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name in ("checksum", "checksums"):
        header["__metadata__"].pop(name, None)
    return with_header(header, data[8 + length :], seal=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _keys(holder: Any) -> Any:
    return range(len(holder)) if isinstance(holder, list) else holder


def _places(tree: Any) -> Any:
    """Yield each place in a tree: what holds it, and its key or index there."""
    if isinstance(tree, (dict, list)):
        for key in list(_keys(tree)):
            yield tree, key
            yield from _places(tree[key])


def _deep(depth: int) -> Any:
    tree: Any = 1
    for _ in range(depth):
        tree = [tree]
    return tree


# ------------------------------------------------------------------------------------------------- ways to damage bytes


def _place(data: bytearray, rng: random.Random) -> int:
    """Return a place; those at the front, where a header is, come more often."""
    end = max(1, len(data))
    return rng.randrange(min(end, rng.choice((8, 64, 2048, end, end))))


def _flip(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _set(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data)


def _cut(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return bytes(data[: rng.randrange(len(data) + 1)])


def _leave_out(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    start = _place(data, rng)
    return bytes(data[:start] + data[start + rng.choice((1, 2, 8, 64)) :])


def _put_in(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    start, piece = _place(data, rng), rng.choice((*_PIECES, rng.randbytes(rng.choice((1, 8, 100)))))
    return bytes(data[:start]) + piece + bytes(data[start + rng.choice((0, len(piece))) :])


def _double(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    start = _place(data, rng)
    piece = data[start : start + rng.choice((1, 8, 64, 512))]
    return bytes(data[:start] + piece + data[start:])


def _swap(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    size, one, other = rng.choice((1, 4, 8, 64)), _place(data, rng), _place(data, rng)
    first, second = data[one : one + size], data[other : other + size]
    if len(first) == len(second) == size:
        data[one : one + size], data[other : other + size] = second, first
    return bytes(data)


def _lengthen(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change a length of 8 bytes, as that of the header is."""
    start = rng.choice((0, 0, _place(data, rng)))
    data[start : start + 8] = rng.choice(_LENGTHS).to_bytes(8, "little")
    return bytes(data)


def _mix(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Go on as another file does, or be that file."""
    if not others:
        return _cut(data, rng, others)
    other = rng.choice(others)
    start = rng.choice((0, _place(data, rng)))
    return bytes(data[:start]) + other[start:]


def _zero(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Fill a part with zeros, as a hole in a file has them after a power cut."""
    start, size = _place(data, rng), rng.choice((8, 64, 4096))
    data[start : start + size] = bytes(len(data[start : start + size]))
    return bytes(data)


_WAYS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _flip, _set, _set, _cut, _leave_out, _put_in, _put_in, _double, _swap, _lengthen, _mix, _zero),
)
