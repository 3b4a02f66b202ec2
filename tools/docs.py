"""Writes the generated sections of docs/ from the code that they describe.

    python tools/docs.py            write them
    python tools/docs.py --check    say which differ; exit status 1 if any does

A section stands between two HTML comments, ``<!-- generated: NAME -->`` and ``<!-- end: NAME -->``. What is between
them belongs to this script, everything else to the people who write.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import re
import sys
import tokenize
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from zmqtasks import config, ids, payload, states, transport, wire
from zmqtasks.cli import _celery_options
from zmqtasks.cli._main import GROUPS, cli
from zmqtasks.clock import Now
from zmqtasks.conf.celery import NOT_NEEDED
from zmqtasks.conf.settings import Conf
from zmqtasks.scheduler.core import workers
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.transitions import TABLE
from zmqtasks.transport import sockets

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

# What a field means where wire.py has no comment beside it: by "Struct.field", else by "field" wherever it occurs.
MEANINGS = {
    "args": "encoded `(args, kwargs)` of each job, in the order of the counters",
    "attempt": "of the job; unsigned 64 bits",
    "cancelled": "counters of jobs that will never run, or were ended",
    "codec": "of the arguments and the result; with `+` and two words behind it, what each is compressed by",
    "counter": "of the job",
    "counters": "of the jobs",
    "digests": "of the functions",
    "durable": "whether an accepted job outlives the scheduler's process",
    "ends": "those that did not succeed",
    "epoch": "which life of the scheduler this is; Unix time in milliseconds at its start",
    "host": "host name, for people",
    "kind": "see the table of kinds",
    "magic": "`zmqtasks`",
    "max_payload": "largest payload that the scheduler takes, bytes",
    "name": "for people",
    "number": "assignment number",
    "numbers": "assignment numbers",
    "pid": "process id, for people",
    "prefix": "12 bytes: the first part of the job ids",
    "protocol": "version that the sender speaks",
    "python": "Python version of the sender, major.minor",
    "queues": "names of the queues that the worker takes jobs from",
    "reason": "one sentence, for people",
    "release": "the sender's release of zmqtasks, for people",
    "request": "number chosen by the submitter, to tell answers apart",
    "seen": "highest assignment number that this life of the worker received",
    "slots": "jobs that the worker runs at once",
    "spec": "options that hold for all jobs of the message",
    "state": "number of a final state: 6 failed, 7 cancelled, 8 aborted",
    "tasks": "names of the registered tasks that the worker knows",
    "text": "one line, for people",
    "user": "login name, for people",
    "AnyHello.tag": "of the hello",
    "Accepted.counters": "jobs that the scheduler keeps",
    "Ask.counters": "jobs that are asked for",
    "Argument.data": "its encoded `(args, kwargs)`",
    "AskJobs.limit": "rows that are wanted at most",
    "AskJobs.queue": "name of a queue; empty: all",
    "AskJobs.states": "names of job states; empty: all jobs that are not over",
    "Assign.attempt": "of the first job; one more for each that follows; unsigned 64 bits",
    "Assign.number": "of the first job; one more for each that follows",
    "Assign.works": "the jobs, in the order in which they are numbered",
    "BulkWelcome.window": "bytes that each side may send before it gets Credit",
    "Chunk.data": "the next bytes of that message",
    "Chunk.last": "whether the message is whole with them",
    "Code.blob": "its bytes",
    "Code.digest": "of the function",
    "Credit.amount": "bytes",
    "Cancel.counters": "jobs to cancel",
    "Cancel.force": "whether jobs that run are to be ended too",
    "CancelAck.unknown": "counters that the scheduler knows nothing of",
    "CancelAck.request": "that of the Cancel",
    "Done.runs": "those that succeeded",
    "Heartbeat.held": "all numbers received and not yet released by a DoneAck",
    "Heartbeat.running": "numbers that run at this moment",
    "JobReport.job": "nil: unknown",
    "JobStatus.crashes": "deaths of processes that it was running in",
    "JobStatus.id": "32 hex digits",
    "JobStatus.queue": "name of its queue",
    "JobStatus.retries": "done so far",
    "JobStatus.state": "name of its state",
    "JobStatus.task": "name of the task or the shipped function",
    "Jobs.rows": "some of them",
    "OperatorWelcome.epoch": "which life of the scheduler this is; Unix time in milliseconds at its start",
    "Progressed.values": "what each told, as in Progress",
    "QueueStatus.ready": "jobs that stand in its lines",
    "QueueStatus.workers": "workers that take from it",
    "Rejected.count": "jobs of that Submit",
    "Rejected.code": "name of an error; see *Sending jobs*",
    "Rejected.first": "counter that the Submit began at",
    "ResultAck.bulk": "whether it means the Results of the bulk connection",
    "ResultAck.delivery": "highest delivery number that this connection brought",
    "Results.codec": "of `values`: that of the Submit",
    "Results.values": "encoded results, one per counter",
    "Results.ends": "jobs that did not succeed",
    "Run.first": "number of the first",
    "Run.results": "encoded results of consecutive numbers, all of one target",
    "Spec.backoff_max": "no wait before a retry is longer",
    "Spec.queue": "name of the queue",
    "Status.counters": "name → count of events since the start",
    "Status.queues": "the queues",
    "Status.submitters": "submitters that are connected",
    "Status.uptime": "seconds since the scheduler's start",
    "Status.warnings": "texts, the newest last",
    "Status.workers": "the workers",
    "StoryLine.cause": "what moved it",
    "StoryLine.state": "name of the state that it came to",
    "Submit.codec": "of the arguments",
    "Submit.first": "counter of the first job",
    "Submit.function": "digest of the shipped function; empty: a registered task",
    "Submit.functions": "shipped functions that this connection has not carried yet",
    "Submit.task": "name of the registered task, or for people the shipped function's",
    "Retracted.numbers": "not started; they never will be here",
    "Retracted.started": "asked for, but they run already",
    "Unknown.expired": "whether the jobs were known once, and their outcomes are gone",
    "WorkerStatus.done": "outcomes that it reported",
    "WorkerStatus.held": "jobs that it holds",
    "WorkerStatus.running": "of these, how many are known to run",
    "WorkerHello.held": "every attempt that the worker holds",
    "WorkerWelcome.dropped": "numbers of the hello that the worker must forget",
    "WorkerWelcome.heartbeat": "seconds between heartbeats",
    "WorkerWelcome.lease": "seconds of silence after which the worker is given up",
}


class DocsError(Exception):
    """The documents or the code are not as this script expects; the message says what to do."""


# ------------------------------------------------------------------------------------------------ reading the source


@dataclass
class Field:
    """One field of a struct as its source shows it."""

    name: str
    type: str
    default: str
    comment: str


@dataclass
class Shape:
    """One struct as its source shows it."""

    name: str
    doc: str
    group: str
    fields: list[Field]
    tag: int | None = None


@dataclass
class Source:
    """A module of ours: its structs, and its commented constants."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    constants: dict[str, tuple[Any, str]] = field(default_factory=dict)  # name → (value, comment)


def read_source(path: Path) -> Source:
    """Structs and constants of a module, with the comments beside them."""
    text = path.read_text(encoding="utf-8")
    comments: dict[int, str] = {}
    groups: list[tuple[int, str]] = [(0, "")]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            heading = re.fullmatch(r"# -{10,} (.+)", token.string)
            if heading:
                groups.append((token.start[0], heading[1]))
            else:
                comments[token.start[0]] = token.string.removeprefix("#").strip()
    source = Source()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) in {"Struct", "IntEnum"} for base in node.bases):
            group = next(name for line, name in reversed(groups) if line <= node.lineno)
            shape = Shape(node.name, ast.get_docstring(node) or "", group, [])
            for keyword in node.keywords:
                if keyword.arg == "tag":
                    shape.tag = ast.literal_eval(keyword.value)
            for item in node.body:
                if isinstance(item, ast.AnnAssign):
                    default = ast.unparse(item.value) if item.value else ""
                    entry = (ast.unparse(item.target), ast.unparse(item.annotation), default)
                    shape.fields.append(Field(*entry, comments.get(item.lineno, "")))
                elif isinstance(item, ast.Assign):  # a member of an enumeration
                    value = ast.unparse(item.value)
                    shape.fields.append(Field(ast.unparse(item.targets[0]), "", value, comments.get(item.lineno, "")))
            source.shapes[node.name] = shape
        elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
            source.constants[ast.unparse(node.target)] = (node.value.value, comments.get(node.lineno, ""))
    return source


def meaning(shape: Shape, entry: Field, used: set[str]) -> str:
    """What a field means: the comment beside it, else MEANINGS."""
    if entry.comment:
        return entry.comment
    for key in (f"{shape.name}.{entry.name}", entry.name):
        if key in MEANINGS:
            used.add(key)
            return MEANINGS[key]
    raise DocsError(
        f"{shape.name}.{entry.name} has neither a comment beside it nor an entry in MEANINGS of tools/docs.py"
    )


def type_words(annotation: str) -> str:
    """A Python annotation in the words of MessagePack."""
    simple = {"bytes": "bin", "Span": "[first, count]"}
    if annotation == "tuple[tuple[str, int], ...]":
        return "array of [name, amount]"
    if annotation in simple:
        return simple[annotation]
    if annotation.startswith("list["):
        return f"array of {type_words(annotation[5:-1])}"
    if annotation.startswith("dict["):
        key, value = annotation[5:-1].split(", ")
        return f"map of {type_words(key)} to {type_words(value)}"
    return annotation


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def prose(docstring: str) -> str:
    """A docstring as Markdown: its sections of attributes and errors are Python's, not the wire's."""
    text = re.split(r"\n(?:Attributes|Raises|Args|Returns):\n", docstring)[0].strip()
    return text.replace("``", "`")


def show_shape(shape: Shape, used: set[str]) -> str:
    """One struct: its sentence and its fields in order."""
    title = f"#### {shape.name}" + (f" (tag {shape.tag})" if shape.tag is not None else "")
    with_defaults = any(entry.default for entry in shape.fields)
    rows = [] if shape.tag is None else [["0", "tag", "int", f"always {shape.tag}", *([""] if with_defaults else [])]]
    for place, entry in enumerate(shape.fields, start=len(rows)):
        default = [f"`{notation(ast.literal_eval(entry.default))}`" if entry.default else ""] if with_defaults else []
        rows.append([str(place), f"`{entry.name}`", type_words(entry.type), meaning(shape, entry, used), *default])
    head = ["place", "field", "type", "meaning", *(["if left out"] if with_defaults else [])]
    return "\n\n".join([title, prose(shape.doc), table(head, rows)])


# ------------------------------------------------------------------------------------------------ protocol.md


def wire_sections() -> dict[str, str]:
    """One section per group of wire.py, the table of tags, and the kinds of End."""
    source = read_source(ROOT / "zmqtasks" / "wire.py")
    used: set[str] = set()
    groups: dict[str, list[str]] = {}
    for shape in source.shapes.values():
        groups.setdefault(shape.group, []).append(show_shape(shape, used))
    unused = sorted(MEANINGS.keys() - used)
    if unused:
        raise DocsError(f"MEANINGS of tools/docs.py has entries that no field of wire.py needs: {', '.join(unused)}")
    sections = {f"wire, {group}": "\n\n".join(shown) for group, shown in groups.items()}
    kinds = [
        [str(value), name, comment]
        for name, (value, comment) in source.constants.items()
        if isinstance(value, int) and comment
    ]
    sections["kinds of End"] = table(["kind", "name", "meaning"], kinds)
    sections["tags"] = _tags()
    return sections


def _tags() -> str:
    ways = {
        "worker → scheduler": wire.FromWorker,
        "scheduler → worker": wire.ToWorker,
        "submitter → scheduler": wire.FromSubmitter,
        "scheduler → submitter": wire.ToSubmitter,
        "operator → scheduler": wire.FromOperator,
        "scheduler → operator": wire.ToOperator,
        "peer → scheduler, bulk": wire.FromBulk,
        "scheduler → peer, bulk": wire.ToBulk,
    }
    found: dict[int, tuple[str, list[str]]] = {}
    for way, union in ways.items():
        for kind in get_args(union):
            tag = kind.__struct_config__.tag
            found.setdefault(tag, (kind.__name__, []))[1].append(way)
    return table(
        ["tag", "message", "who says it"],
        [[str(tag), name, ", ".join(said)] for tag, (name, said) in sorted(found.items())],
    )


def failure_section() -> str:
    """The struct in which exceptions travel."""
    shape = read_source(ROOT / "zmqtasks" / "payload.py").shapes["Failure"]
    told = {"text": "the exception's message", "traceback": "as text; empty where there is none"}
    for entry in shape.fields:
        entry.comment = entry.comment or told[entry.name]
    return show_shape(shape, set())


def limits_section() -> str:
    """Numbers that a peer must keep to, with the values that the code has."""
    scheduler = config.SchedulerSettings()
    mib = config.MIB
    rows = [
        ["jobs in one message", f"{config.MAX_JOBS_PER_MESSAGE}", "the scheduler refuses a Submit with more"],
        [
            "payload bytes in one message",
            f"{config.MAX_BYTES_PER_MESSAGE // 1024} KiB",
            "unless a single payload is larger, which then travels alone; not enforced, every sender keeps to it",
        ],
        ["one payload", f"{scheduler.max_payload // mib} MiB", "default; a Welcome tells the value (`max_payload`)"],
        ["one frame", f"{transport.MAX_FRAME // mib} MiB", "a connection with a larger one is cut by ZeroMQ"],
        ["jobs that an Ask or a Cancel names", f"{config.MAX_ASKED:,}", "one with more is refused: send several"],
        ["a name (task, queue, host, user, codec)", f"{config.MAX_NAME:,} characters", "hello or Submit are refused"],
        ["queues, and tasks, of a worker", f"{config.MAX_NAMES:,}", "of each"],
        ["prefix", f"{ids.PREFIX_BYTES} bytes", ""],
        ["job counter", f"0 … {ids.MAX_COUNTER}", ""],
        ["jobs that are not over", f"{scheduler.max_jobs:,}", "beyond it a Submit is rejected with `QueueFull`"],
        [
            "Results under way",
            f"{scheduler.results_window:,} jobs or {scheduler.results_window_bytes // mib} MiB",
            "per submitter; the scheduler sends no more until a ResultAck makes room",
        ],
        ["credit of a worker", f"{workers.MAX_CREDIT:,}", "the most that its hello may offer"],
        [
            "assignment number in a hello",
            f"{workers.MAX_NUMBER - 1:,}",
            "assignment numbers of one life stay far below",
        ],
        ["result kept", f"{scheduler.result_ttl:.0f} s", "default; `Spec.result_ttl` changes it"],
        ["job id remembered after that", f"{scheduler.tombstone_ttl:.0f} s", "a repeated Submit is recognised so long"],
        ["heartbeat", f"{scheduler.heartbeat:g} s", "default; WorkerWelcome tells the value"],
        ["lease", f"{scheduler.lease:g} s", "default; WorkerWelcome tells the value"],
        [
            "ZMTP heartbeat and its time-out",
            f"{sockets.HEARTBEAT_MS / 1000:g} s, {sockets.HEARTBEAT_TIMEOUT_MS / 1000:g} s",
            f"of a peer's socket, below the messages; the scheduler's: {sockets.ROUTER_HEARTBEAT_MS // 1000} s",
        ],
        ["ZMTP handshake", f"{sockets.HANDSHAKE_MS / 1000:g} s", "then the connection is closed"],
        [
            "first and longest wait before a new connection",
            f"{transport.RETRY_FIRST * 1000:g} ms, {transport.RETRY_MAX:g} s",
            "doubled after each failure, times 1 to 2 at random",
        ],
    ]
    return table(["what", "limit", "remark"], rows)


def codecs_section() -> str:
    """The names that a codec field may have."""
    told = {
        "msgpack": "`[args, kwargs]` in MessagePack; plain data; registered tasks' default",
        "json": "`[args, kwargs]` in UTF-8 JSON; plain data",
        "pickle": "`(args, kwargs)` as a Python pickle, protocol 5",
        "cloudpickle": "the same; the codec of shipped functions",
    }
    if told.keys() != payload.ALL_CODECS:
        raise DocsError("payload.ALL_CODECS has changed: describe it in codecs_section of tools/docs.py")
    return table(["codec", "what it is"], [[f"`{name}`", text] for name, text in told.items()])


# ------------------------------------------------------------------------------------------------ the worked example

EPOCH = 1_767_225_600_000  # 2026-01-01 in milliseconds
SUBMITTER, WORKER = b"submitter", b"worker"


@dataclass
class Frame:
    """One frame of the example."""

    sender: str
    receiver: str
    name: str
    data: bytes
    remark: str


class Example:
    """Two peers whose words are written here, and the real core of the scheduler, which answers."""

    def __init__(self) -> None:
        self.core = Core(config.SchedulerSettings(ack_delay=0.0, accept_delay=0.0), Identity(EPOCH, "0.1.0"))
        self.now = Now(0.0, EPOCH / 1000)
        self.frames: list[Frame] = []

    def say(self, route: bytes, message: Any, remark: str, answers: dict[str, str]) -> None:
        """A peer says something; the scheduler's answers must be those named, each with its remark."""
        data = wire.encode(message)
        self.frames.append(Frame(route.decode(), "scheduler", type(message).__name__, data, remark))
        fx = Effects()
        self.core.receive(route, data, self.now, fx)
        self.core.tick(self.now, fx)
        self.core.check()
        said = [type(send.message).__name__ for send in fx.sends]
        if said != list(answers):
            raise DocsError(
                f"the example in tools/docs.py expects {list(answers)} after {message}, the core says {said}"
            )
        for send in fx.sends:
            name = type(send.message).__name__
            encoded = wire.encode(send.message)
            self.frames.append(Frame("scheduler", send.route.decode(), name, encoded, answers[name]))


def example() -> list[Frame]:
    """One Submit of two jobs, one of which fails, from hello to ResultAck."""
    told = Example()
    prefix, nonce = bytes(range(0xA0, 0xAC)), bytes(range(0x10, 0x20))
    me = ("zmqtasks", wire.PROTOCOL, "0.1.0")
    told.say(
        WORKER,
        wire.WorkerHello(*me, "3.11", "node1", 200, "w1", nonce, 2, 8, ["default"], ["add"], 0, []),
        "A new life (its nonce is new) with two slots that takes eight assignments at most and holds none.",
        {"WorkerWelcome": "A heartbeat every second, a lease of four; nothing has to be dropped."},
    )
    told.say(
        SUBMITTER,
        wire.SubmitterHello(*me, "3.11", "laptop", 100, "ann", prefix),
        "A new session: its prefix is new.",
        {"SubmitterWelcome": "Not durable: the journal is in memory."},
    )
    calls = [payload.encode_call("msgpack", args, {}, "add") for args in ((1, 2), (3, "x"))]
    told.say(
        SUBMITTER,
        wire.Submit(prefix, 0, "add", b"", "msgpack", wire.Spec(), calls, [], 0),
        "Jobs 0 and 1 of the prefix: `add(1, 2)` and `add(3, 'x')`. The arguments are MessagePack inside MessagePack.",
        {
            "Assign": "Assignments 1 and 2. It need not wait for the journal; it may arrive before or after Accepted.",
            "Accepted": "Both jobs are kept.",
        },
    )
    told.say(
        WORKER,
        wire.Heartbeat(2, [(1, 2)], [1, 2]),
        "Sent every second: all up to number 2 has arrived, both are held, both run.",
        {},
    )
    reason = payload.failure("builtins.TypeError", "unsupported operand")
    told.say(
        WORKER,
        wire.Done([wire.Run(1, [msgspec.msgpack.encode(3)], 0.5, 0.5)], [wire.End(2, wire.FAILED, reason, 0.25)]),
        "Number 1 returned 3 after half a second, number 2 raised.",
        {
            "Results": "The first delivery: a value for job 0, a failure (state 6) for job 1.",
            "DoneAck": "The worker may forget both.",
        },
    )
    told.say(SUBMITTER, wire.ResultAck(1), "The first delivery has arrived; the scheduler does not answer this.", {})
    return told.frames


def notation(value: Any) -> str:
    """A decoded frame for people: strings in quotes, bytes as h'…'."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, list):
        return "[" + ", ".join(map(notation, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)


def example_section() -> str:
    """The example as hex bytes and as what they say."""
    out = []
    for number, frame in enumerate(example(), start=1):
        pairs = [frame.data[i : i + 32].hex(" ") for i in range(0, len(frame.data), 32)]
        head = f"**{number}. {frame.sender} → {frame.receiver}: {frame.name}**, {len(frame.data)} bytes. {frame.remark}"
        out.append("\n".join([head, "", "```text", *pairs, "", notation(msgspec.msgpack.decode(frame.data)), "```"]))
    return "\n\n".join(out)


# ------------------------------------------------------------------------------------------------ states, layers

ENTRANCES = {  # how a job comes into being: not a move, so not in TABLE
    states.READY: "accepted",
    states.DELAYED: "accepted, with a time before which it must not start",
}


def state_sections() -> dict[str, str]:
    """The diagram, the moves with their causes, the numbers."""
    moves = [(source, to, cause) for source, targets in TABLE.items() for to, cause in targets.items()]
    diagram = ["```mermaid", "stateDiagram-v2"]
    diagram += [f"    [*] --> {states.name(to)}" for to in ENTRANCES]
    diagram += [f"    {states.name(a)} --> {states.name(b)}: {n}" for n, (a, b, _) in enumerate(moves, start=1)]
    diagram += [f"    {states.name(state)} --> [*]" for state in sorted(states.FINAL)]
    diagram.append("```")
    rows = [["", "–", states.name(to), cause] for to, cause in ENTRANCES.items()]
    rows += [[str(n), states.name(a), states.name(b), cause] for n, (a, b, cause) in enumerate(moves, start=1)]
    members = read_source(ROOT / "zmqtasks" / "states.py").shapes["State"].fields
    told = {"SUCCEEDED": "it returned a value", "FAILED": "it raised, or used up its crash budget"}
    numbers = []
    for member in members:
        said = member.comment or told[member.name]
        final = "yes" if int(member.default) in states.FINAL else ""
        numbers.append([member.default, member.name.lower(), final, said])
    return {
        "state diagram": "\n".join(diagram),
        "moves": table(["move", "from", "to", "because"], rows),
        "states": table(["number", "state", "final", "meaning"], numbers),
    }


def layers_section() -> str:
    """The layers of imports, as pyproject.toml has them; those in brackets are still to come."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return "\n".join(["```text", *layers, "```"])


# ------------------------------------------------------------------------------------------------ settings


def settings_sections() -> dict[str, str]:
    """The settings with an effect, those that are still to come, and those of Celery that are not needed."""
    effective, later = [], []
    for setting in Conf().settings():
        names = ", ".join(f"`{name}`" for name in (setting.name, *setting.aliases))
        if setting.later:
            later.append([names, setting.meaning, setting.later])
        else:
            default = setting.said or ("none" if setting.default == () else f"`{setting.default}`")
            effective.append([names, setting.meaning, setting.kind.allowed, default])
    reasons = [[why, ", ".join(f"`{name}`" for name in names)] for why, names in NOT_NEEDED.items()]
    return {
        "settings": table(["setting", "meaning", "may be", "default"], effective),
        "settings to come": table(["setting", "meaning", "waits for"], later),
        "settings not needed": table(["because", "settings"], reasons),
    }


# ------------------------------------------------------------------------------------------------ the command line


def help_sections() -> dict[str, str]:
    """What ``zmqtasks --help`` and the help of each command say, 100 columns wide whatever the terminal."""
    out = {"help": _help(cli, [])}
    for names in GROUPS.values():
        for name in names:
            command = cli.get_command(click.Context(cli), name)
            if command is None:
                raise DocsError(f"zmqtasks {name} is listed, but it cannot be imported")
            out[f"help of {name}"] = _help(command, [name])
    return out


def celery_sections() -> dict[str, str]:
    """The options of Celery's worker that ours has not."""

    def rows(options: dict[tuple[str, ...], str]) -> list[list[str]]:
        return [[", ".join(f"`{name}`" for name in names), why] for names, why in options.items()]

    name = "celery worker options"
    return {
        f"{name}, not needed": table(["option", "because"], rows(_celery_options.NOT_NEEDED)),
        f"{name}, refused": table(["option", "what to do"], rows(_celery_options.REFUSED)),
    }


def _help(command: click.Command, words: list[str]) -> str:
    context = click.Context(command, info_name=" ".join(["zmqtasks", *words]), terminal_width=100)
    context.help_option_names = ["-h", "--help"]
    return "\n".join(["```text", command.get_help(context).strip(), "```"])


# ------------------------------------------------------------------------------------------------ the files

_MARK = re.compile(r"<!-- generated: (?P<name>[^>]+?) -->\n(?P<body>.*?)<!-- end: (?P=name) -->", re.DOTALL)


def sections() -> dict[str, str]:
    """Every generated section by its name."""
    return {
        **wire_sections(),
        "failure": failure_section(),
        "limits": limits_section(),
        "codecs": codecs_section(),
        "example": example_section(),
        **state_sections(),
        "layers": layers_section(),
        **settings_sections(),
        **help_sections(),
        **celery_sections(),
    }


def fill(text: str, known: dict[str, str], where: str, placed: set[str]) -> str:
    """The text of one document with its sections as they should be."""

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in known:
            raise DocsError(f"{where}: there is no generated section {name!r} (there are: {', '.join(sorted(known))})")
        placed.add(name)
        return f"<!-- generated: {name} -->\n\n{known[name]}\n\n<!-- end: {name} -->"

    filled = _MARK.sub(replace, text)
    if filled.count("<!-- generated: ") != len(_MARK.findall(filled)):
        raise DocsError(f"{where}: a <!-- generated: NAME --> has no <!-- end: NAME --> behind it")
    return filled


def outdated() -> dict[Path, tuple[str, str]]:
    """The documents that differ from the code: (as it is, as it should be)."""
    known = sections()
    placed: set[str] = set()
    found = {}
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        wanted = fill(text, known, path.relative_to(ROOT).as_posix(), placed)
        if wanted != text:
            found[path] = (text, wanted)
    missing = sorted(known.keys() - placed)
    if missing:
        raise DocsError(f"no document has a place for the generated section {missing[0]!r}: add its two comments")
    return found


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="write the generated sections of docs/ from the code")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a section is out of date")
    check = parser.parse_args().check
    try:
        found = outdated()
    except DocsError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    for path, (there, wanted) in found.items():
        name = path.relative_to(ROOT).as_posix()
        if check:
            diff = difflib.unified_diff(
                there.splitlines(), wanted.splitlines(), name, "from the code", lineterm="", n=0
            )
            print("\n".join(list(diff)[:20]), file=sys.stderr)
            print(f"docs: {name} differs from the code; run: python tools/docs.py", file=sys.stderr)
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
