"""The documents: generated parts are current, links lead somewhere, the worked example is what the code reads."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgpack
import pytest

from zmqtasks import payload, states, wire

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "docs.py"
PAGES = [
    page
    for pattern in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "examples/**/*.md")
    for page in sorted(ROOT.glob(pattern))
]
FRAME = re.compile(
    r"^\*\*\d+\. (?P<sender>\w+) → (?P<receiver>\w+): (?P<name>\w+)\*\*, (?P<size>\d+) bytes\.[^\n]*\n\n"
    r"```text\n(?P<hex>[0-9a-f \n]+?)\n\n(?P<told>[^\n]+)\n```$",
    re.MULTILINE,
)
READERS: dict[tuple[str, str], Callable[[bytes], Any]] = {
    ("worker", "scheduler"): wire.decode_from_worker,
    ("scheduler", "worker"): wire.decode_to_worker,
    ("submitter", "scheduler"): wire.decode_from_submitter,
    ("scheduler", "submitter"): wire.decode_to_submitter,
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_tool"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def frames() -> list[tuple[re.Match[str], bytes]]:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    return [(match, bytes.fromhex(match["hex"])) for match in FRAME.finditer(text)]


# ------------------------------------------------------------------------------------------------ generated parts


def test_generated_parts_are_current():
    told = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr


def test_every_message_is_in_the_protocol():
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    structs = [value for value in vars(wire).values() if isinstance(value, type) and issubclass(value, wire.Struct)]
    missing = [s.__name__ for s in structs if s is not wire.Struct and f"#### {s.__name__}" not in text]
    assert not missing


def test_fields_of_the_source_are_those_of_the_struct(tool):
    shapes = tool.read_source(ROOT / "zmqtasks" / "wire.py").shapes
    for name, shape in shapes.items():
        struct = getattr(wire, name)
        assert [field.name for field in shape.fields] == list(struct.__struct_fields__), name
        assert shape.tag == struct.__struct_config__.tag, name


def test_a_changed_section_is_found(tool):
    text = "before\n<!-- generated: moves -->\nold\n<!-- end: moves -->\nafter"
    placed: set[str] = set()
    filled = tool.fill(text, {"moves": "new"}, "x.md", placed)
    assert filled == "before\n<!-- generated: moves -->\n\nnew\n\n<!-- end: moves -->\nafter"
    assert tool.fill(filled, {"moves": "new"}, "x.md", placed) == filled
    assert placed == {"moves"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<!-- generated: mooves -->\n<!-- end: mooves -->", "x.md: there is no generated section 'mooves'"),
        ("<!-- generated: moves -->\nno end", "x.md: a <!-- generated: NAME --> has no <!-- end: NAME --> behind it"),
    ],
)
def test_a_broken_mark_is_named(tool, text, told):
    with pytest.raises(tool.DocsError) as caught:
        tool.fill(text, {"moves": "new"}, "x.md", set())
    assert str(caught.value).startswith(told)


def test_a_field_without_a_meaning_is_named(tool):
    shape = tool.Shape("Assign", "", "", [tool.Field("colour", "int", "", "")])
    with pytest.raises(tool.DocsError, match=r"Assign\.colour has neither a comment"):
        tool.show_shape(shape, set())


# ------------------------------------------------------------------------------------------------ links


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_files_that_the_docs_name_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:zmqtasks|tools|docs|bench|examples|tests)/[\w./-]*)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]


# ------------------------------------------------------------------------------------------------ the worked example


def notation(value: object) -> str:
    """A MessagePack value as the example writes it, made anew here so that nobody checks himself."""
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return f"h'{value.hex()}'"
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(notation, value))}]"
        case _:
            return repr(value)


def test_the_example_is_a_whole_round_trip(frames):
    assert [match["name"] for match, _ in frames] == [
        "WorkerHello", "WorkerWelcome", "SubmitterHello", "SubmitterWelcome", "Submit", "Assign", "Accepted",
        "Heartbeat", "Done", "Results", "DoneAck", "ResultAck",
    ]  # fmt: skip


def test_the_example_decodes_in_its_direction(frames):
    for match, data in frames:
        assert len(data) == int(match["size"])
        message = READERS[match["sender"], match["receiver"]](data)
        assert type(message).__name__ == match["name"]
        assert wire.encode(message) == data


def test_the_example_reads_the_same_by_another_library(frames):
    for match, data in frames:
        assert notation(msgpack.unpackb(data)) == match["told"]


def test_the_example_ends_as_it_says(frames):
    results = next(wire.decode_to_submitter(data) for match, data in frames if match["name"] == "Results")
    assert isinstance(results, wire.Results)
    assert [payload.decoder(results.codec)(value) for value in results.values] == [3]
    (end,) = results.ends
    assert end.state == states.FAILED
    assert payload.read_failure(end.payload).type_name == "builtins.TypeError"
