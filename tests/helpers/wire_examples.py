"""One example of every message, and the golden bytes that they must always have.

`tests/golden/wire.json` holds the bytes of each example as hex digits. Bytes on the wire are a promise to peers of
other releases and languages: when a message or field is appended, extend EXAMPLES and run

    python -m tests.helpers.wire_examples

then look at the difference: lines may be added, and a line may grow at its end; anything else breaks the protocol.
"""

import json
from pathlib import Path
from typing import Any

from zmqtasks import wire

GOLDEN = Path(__file__).parent.parent / "golden" / "wire.json"

PREFIX = bytes(range(12))
DIGEST = bytes(range(16, 32))
FUNCTION = wire.Function(DIGEST, "module.function", b"\x80\x05code")
NEED = (("gpu", 5_000), ("mem", 2 * 1024**3 * 10_000))
SPEC = wire.Spec(
    "high", "3.11", 3, 1.5, 60.0, 2, 300.0, 1_800_000_000.25, fail_unknown=True, resources=NEED, fail_unserved=True
)

_MESSAGES: list[Any] = [
    wire.WorkerHello(
        wire.MAGIC, 1, "0.1.0", "3.11", "host", 4711, "worker@host", b"n" * 16, 8, 2000, ["default"], ["add"], 77,
        [wire.Held(76, PREFIX, 5, 2**63, NEED)], 2, NEED,
    ),
    wire.SubmitterHello(wire.MAGIC, 1, "0.1.0", "3.11", "host", 4712, "user", PREFIX, 3),
    wire.OperatorHello(wire.MAGIC, 1, "0.1.0", "host", 4713),
    wire.Refused("protocol", "other version", 1, "0.1.0"),
    wire.HelloAgain(),
    wire.Ping(),
    wire.BulkHello(wire.MAGIC, 1, "0.1.0", b"n" * 16, 2),
    wire.OpenBulk(),
    wire.BulkWelcome(4194304),
    wire.Chunk(3, last=True, data=b"part"),
    wire.Credit(262144),
    wire.WorkerWelcome(1_800_000_000_000, "0.1.0", 1.0, 4.0, 67108864, [(70, 3)]),
    wire.Assign(
        78, 2**63, [wire.Work(PREFIX, "add", DIGEST, "pickle", [1, 2], [b"one", b"two"], [], 9, NEED, "high")],
        [FUNCTION], [(78, 2)], [79],
    ),
    wire.DoneAck([(1, 500), (600, 1)]),
    wire.Retract([(78, 2)]),
    wire.Kill([(78, 1)]),
    wire.Forget([DIGEST]),
    wire.Argument(78, b"large"),
    wire.Code(DIGEST, b"\x80\x05code"),
    wire.Disown([(78, 2)]),
    wire.Consume(["high"], ["low"]),
    wire.Heartbeat(79, [(78, 2)], [78]),
    wire.Done(
        [wire.Run(1, [b"r1", b"r2"], 0.5, 0.25)],
        [wire.End(3, wire.CRASHED, b"failure", 0.125), wire.End(4, wire.RETRYABLE, b"failure", 0.125, 180.5, 3)],
    ),
    wire.Retracted([(79, 1)], [(78, 1)]),
    wire.Draining(),
    wire.Goodbye(),
    wire.Progress([78], [b"\x82"]),
    wire.Consuming(["default", "high"]),
    wire.Submit(PREFIX, 4_294_967_290, "add", DIGEST, "msgpack", SPEC, [b"one", b"two"], [FUNCTION], 4_294_967_000),
    wire.Ask(PREFIX, [(0, 10)]),
    wire.ResultAck(12),
    wire.Cancel(3, PREFIX, [(0, 10)], force=True),
    wire.SubmitterWelcome(1_800_000_000_000, "0.1.0", durable=False, max_payload=67108864),
    wire.Accepted(PREFIX, [(0, 500)]),
    wire.Rejected(PREFIX, 500, 20, "QueueFull", "no room"),
    wire.Results(12, PREFIX, "msgpack", [0, 1], [b"r0", b"r1"], [wire.JobEnd(2, 6, b"failure")]),
    wire.CancelAck(3, [(0, 5)], [(5, 4)], [(9, 1)]),
    wire.Unknown(PREFIX, [(9, 1)], expired=True),
    wire.Notice("nobody knows a task 'ad'; did you mean add?"),
    wire.Progressed(PREFIX, [1], [b"\x82"]),
    wire.AskStatus(),
    wire.OperatorWelcome(1_800_000_000_000, "0.1.0"),
    wire.Status(
        1_800_000_000_000, "0.1.0", 4711, 60.5, False,
        [
            wire.WorkerStatus(
                "worker@host", "host", 4711, "up", 8, 20, 8, 1000, ["default"], ["add"], 0.5, "3.11",
                {"gpu": 2.0}, {"gpu": 0.5},
            )
        ],
        [wire.QueueStatus("default", 100, 1, "disk")], {"ready": 100}, 2, {"submitted": 1120}, ["a warning"],
        wire.JournalStatus("/var/lib/zmqtasks", 1_200_000, 400, ""),
        [wire.RateStatus("add", 10.0, 2, 1_800_000_000.25, 100.0, 3)],
    ),
    wire.AskJobs(["running"], "default", 100),
    wire.Jobs(
        [wire.JobStatus("00" * 16, "add", "running", "default", "worker@host", 2**62, 1, 0, 0.0, "user@host", 1.5)], 1
    ),
    wire.AskJob(PREFIX, 5),
    wire.SetRate("add", 0.25, 2),
    wire.SetQueue("high", paused=True, weight=2.0),
    wire.Purge("high"),
    wire.SetConsumer("high", take=True, worker="worker@host"),
    wire.Controlled("why not", 7, "perhaps not meant"),
    wire.JobReport(None, ["the scheduler does not know it"], [wire.StoryLine(1_800_000_000.25, "ready", "why")], b""),
]  # fmt: skip

EXAMPLES: dict[str, Any] = {type(message).__name__: message for message in _MESSAGES}


def main() -> None:
    """Write the golden bytes anew."""
    golden = {name: wire.encode(message).hex() for name, message in EXAMPLES.items()}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="ascii")
    print(f"{GOLDEN}: {len(golden)} messages; look at the difference before you keep it")


if __name__ == "__main__":
    main()
