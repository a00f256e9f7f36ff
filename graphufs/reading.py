"""Text, YAML and JSON from people, forms and other machines, read within bounds: the absurd is refused at once.

A few lines of YAML can stand for more than any memory holds, by references to references, and text of a megabyte can be
nested deeper than Python's stack. So a document's size, nodes and depth are known before anything is made of it.
"""

from __future__ import annotations

import errno
import json
import os
import reprlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import yaml

from graphufs.errors import UserError

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # a PyYAML without libyaml reads the same, ten times slower
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

LONGEST = 2**18
"""Bytes of a document that people write; an experiment has a few thousand."""
LONGEST_JSON = 2**23
"""Bytes of JSON that programs write, such as the questions about all jobs of a site."""
DEEPEST = 40
"""Levels of a document, and parts of the key of an override."""
MOST = 20_000
"""Nodes of a document, each reference counted as all that it stands for."""
SHOWN = 120
"""Characters of a value in a message."""
SAID_BY_OTHERS = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Where a shell puts what another program says."""
_PLAIN = tuple(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))

_short = reprlib.Repr()
_short.maxlevel, _short.maxdict, _short.maxlist, _short.maxtuple = 3, 8, 8, 8
_short.maxstring = _short.maxlong = _short.maxother = SHOWN


class _Loader(_Base):
    """YAML as usual, but only what JSON has too: times stay text; and a key given twice is an error."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag in _PLAIN
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"line {line}: a key is a list or a mapping; write a word")
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise UserError(f"line {line}: the key {shown(key)} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def shown(value: Any) -> str:
    """A value in a message: as Python writes it, shortened."""
    try:
        text = _short.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a number of more than {SHOWN} digits"
    return cut(text)


def cut(text: str, length: int = SHOWN) -> str:
    """Text in one line, of about `length` characters: its middle left out where it has more."""
    half = (length - 3) // 2
    return in_one_line(text if len(text) <= length else f"{text[:half]}...{text[-half:]}")


def in_one_line(text: str) -> str:
    """The text with all that would begin another line or steer a terminal spelled out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def open_file(path: Path) -> BinaryIO:
    """Open a file for its bytes, at once: what is no regular file, and so may keep its reader waiting, is refused.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a FIFO, a socket or a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.EINVAL, "it is a socket or a device, not a file", str(path)) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, f"it is a {'FIFO' if stat.S_ISFIFO(mode) else 'device'}, not a file", str(path))


def read_file(path: Path, longest: int = LONGEST_JSON) -> bytes:
    """The bytes of a file that programs wrote; one that is larger is not read at all.

    Raises
    ------
    OSError
        As `open_file`, or if it has more than `longest` bytes.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > longest else file.read(longest + 1)
    if (size := max(size, len(content))) > longest:
        raise OSError(errno.EINVAL, f"it has {size:,} bytes, and no more than {longest:,} are read", str(path))
    return content


def read_text(source: Path | TextIO, longest: int = LONGEST) -> str:
    """The text of a file, or of a stream such as standard input, UTF-8.

    What another program says may stand in a file's place where a shell puts it, as in `graphufs show <(...)`.

    Raises
    ------
    UserError
        If it cannot be read, is longer than `longest` bytes, or is no text; without the file's name.
    """
    try:
        if isinstance(source, Path):
            with open(source, "rb") if str(source).startswith(SAID_BY_OTHERS) else open_file(source) as file:
                content = file.read(longest + 1)
        else:
            stream: BinaryIO | TextIO = getattr(source, "buffer", source)
            got = stream.read(longest + 1)
            content = got.encode("utf-8", "surrogatepass") if isinstance(got, str) else got
    except OSError as error:
        raise UserError(error.strerror or str(error)) from None
    except ValueError as error:  # a NUL in the name
        raise UserError(f"it cannot be opened ({error})") from None
    if len(content) > longest:
        raise UserError(f"it has more than {longest:,} bytes, which are allowed")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"byte {error.start} is not UTF-8; save it as UTF-8 text") from None


def parse_yaml(text: str) -> Any:
    """The content of a YAML document, plain values without shared parts; times stay text.

    Raises
    ------
    UserError
        If it is not YAML, gives a key twice, has a value that JSON has not, or is too long, large or deep.
    """
    if len(text) > LONGEST:
        raise UserError(f"it has more than {LONGEST:,} characters, which are allowed")
    try:
        _measure(yaml.parse(text, _Base))
        return _unshared(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise UserError(f"{where}{cut(error.problem or str(error.context), 300)}") from None
    except (yaml.YAMLError, ValueError) as error:  # control characters; a number of too many digits
        raise UserError(cut(" ".join(str(error).split()), 300)) from None


def parse_json(text: str, longest: int = LONGEST_JSON) -> Any:
    """The content of JSON, without its constants NaN and Infinity, which only Python has.

    Raises
    ------
    ValueError
        If it is not JSON, or too long or deep.
    """
    if len(text) > longest:
        raise ValueError(f"it has more than {longest:,} characters, which are allowed")
    try:
        content = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    level, depth = [content], 0
    while level := [inner for one in level for inner in _inside(one)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return content


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _measure(events: Iterator[Any]) -> None:
    """See that a document is neither larger nor deeper than allowed with all references filled in."""
    anchored: dict[str, tuple[int, int]] = {}
    open_: list[tuple[str | None, int, int]] = []  # of each open collection its anchor, nodes and height below it
    for event in events:
        size, height, anchor = 1, 0, getattr(event, "anchor", None)
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((anchor, 1, 0))
            size = 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size, height = open_.pop()
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == name for name, *_ in open_):
                raise UserError(f"line {line}: *{anchor} stands within itself")
            size, height = anchored.get(anchor or "", (1, 0))
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        if size and anchor and not isinstance(event, yaml.AliasEvent):
            anchored[anchor] = size, height
        if size and open_:
            name, nodes, highest = open_[-1]
            open_[-1] = name, nodes + size, max(highest, height + 1)
        if len(open_) + height > DEEPEST:
            raise UserError(f"line {line}: it is nested deeper than {DEEPEST} levels")
        if sum(nodes for _, nodes, _ in open_) > MOST:
            raise UserError(f"line {line}: it has more than {MOST:,} values with all references (*name) filled in")


def _unshared(value: Any) -> Any:
    """A copy in which what references stand for is there once for each, so that one may be changed alone."""
    if isinstance(value, dict):
        return {key: _unshared(one) for key, one in value.items()}
    return [_unshared(one) for one in value] if isinstance(value, list) else value
