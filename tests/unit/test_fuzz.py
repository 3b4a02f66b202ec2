"""Nonsense against every decoder and all three cores: nothing but PeerError, and nobody else notices."""

import contextlib
import random
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers.fuzz import any_message, mangle
from tests.helpers.scheduler_harness import EPOCH, RELEASE, Harness, OperatorPeer, Peer, SubmitterPeer, WorkerPeer
from tests.helpers.submitter_harness import Harness as Submitter
from tests.helpers.wire_examples import EXAMPLES
from tests.unit.worker.harness import Worker, work
from zmqtasks import payload, wire
from zmqtasks.errors import NotAuthorized, PeerError, ProtocolMismatch

DECODERS = [
    wire.decode_to_worker, wire.decode_from_worker, wire.decode_to_submitter, wire.decode_from_submitter,
    wire.decode_to_operator, wire.decode_from_operator, wire.decode_to_bulk, wire.decode_from_bulk, wire.decode_hello,
]  # fmt: skip
SEEDS = 30
STEPS = 60
NIGHTLY_SEEDS = 5_000


@given(st.one_of(st.binary(max_size=200), st.integers(0, 2**32).map(lambda s: any_message(random.Random(s)))))
@settings(max_examples=1_000, deadline=None)
@example(b"")
@example(b"\x91" * 100_000)  # deeper than any stack
@example(b"\xdd\xff\xff\xff\xff\x1e")  # an array of 2**32 - 1 items, of which there is one
@example(b"\xc6\xff\xff\xff\xff")
def test_a_decoder_yields_a_message_or_a_peer_error(data):
    for decode in DECODERS:
        with contextlib.suppress(PeerError):
            decode(data)


class Stranger(Peer):
    """Says anything, so it may hear anything."""

    @staticmethod
    def decode(data):
        for one in (wire.decode_to_worker, wire.decode_to_submitter, wire.decode_to_operator, wire.decode_to_bulk):
            with contextlib.suppress(PeerError):
                return one(data)
        raise AssertionError(data)


class LyingWorker(Stranger, WorkerPeer):
    pass


class LyingSubmitter(Stranger, SubmitterPeer):
    pass


class LyingOperator(Stranger, OperatorPeer):
    pass


def bad_peers(h):
    """One of each kind that has said hello, and one that has not."""
    peers = [LyingWorker(h, "bad worker", slots=2, credit=50), LyingSubmitter(h, "bad"), LyingOperator(h, "operator")]
    for peer in peers:
        peer.send(peer.hello())
    return [*peers, Stranger(h, "stranger")]


class Liar:
    """Sends what its kind may send, with fields that almost fit the scheduler's state."""

    def __init__(self, h, seed):
        self.h = h
        self.rng = random.Random(seed)
        self.peers = bad_peers(h)
        self.worker, self.submitter = self.peers[0], self.peers[1]

    def plausible(self):
        """Messages that go deeper than the decoder."""
        rng, w, s = self.rng, self.worker, self.submitter
        number = rng.choice([*w.held, 1])
        last = max(w.held, default=1)
        spec = wire.Spec(retries=rng.choice((0, 1)), result_ttl=rng.choice((-1.0, 0.5)))
        return [
            w.hello(connection=rng.randint(1, 3)), s.hello(connection=rng.randint(1, 3)),
            wire.Heartbeat(w.seen, [(n, 1) for n in w.held], list(w.held)[:2]),
            wire.Done([wire.Run(number, [b"result"], 0.1, 0.1)], []),
            wire.Done([wire.Run(last, [b"one", b"two"], 0.1, 0.1)], []),
            wire.Done([], [wire.End(number, rng.randint(1, 6), b"no failure", 0.1)]),
            wire.Done([], [wire.End(last, 1, payload.failure("builtins.ValueError", "no"), 0.1)]),
            wire.Retracted([(number, 2)], [(number + 1, 1)]), wire.Progress([number], [b"\x01"]),
            s.message(rng.randint(1, 5), first=rng.randint(0, 40)), s.message(rng.randint(1, 5), retries=1),
            wire.Submit(s.prefix, rng.randint(0, 40), "add", b"", "msgpack", spec, [b"a", b"b"], []),
            wire.Ask(s.prefix, [(0, rng.randint(1, 60))]), wire.ResultAck(rng.randint(0, 9)),
            wire.Cancel(1, s.prefix, [(rng.randint(0, 40), 3)], force=rng.random() < 0.5),
            wire.BulkHello(wire.MAGIC, 1, "x", rng.choice((w.nonce, s.prefix)), rng.randint(1, 3)),
            wire.AskStatus(), wire.AskJobs(["ready"], "default", 10), wire.AskJob(s.prefix, rng.randint(0, 40)),
            *self.adopting(),
        ]  # fmt: skip

    def adopting(self):
        """Hellos of a worker that lists what it holds, or might."""
        held = [wire.Held(1, self.submitter.prefix, 3, self.h.core.state.first_attempt + 1), *self.worker.held.values()]
        yield self.worker.hello(seen=max(1, self.worker.seen), held=held, connection=3)

    def step(self):
        rng, h = self.rng, self.h
        peer = rng.choice(self.peers)
        if rng.random() < 0.08 and peer.route in h.peers:
            peer.disconnect()
        if peer.route not in h.peers:
            peer.connect()
            if type(peer) is not Stranger:
                peer.send(peer.hello())
        pool = self.plausible() if rng.random() < 0.8 else list(EXAMPLES.values())
        peer.send(mangle(rng, rng.choice(pool)))
        for one in self.peers:
            one.inbox.clear()
        if rng.random() < 0.05:
            h.jump(rng.choice((0.01, 0.5, 5.0, 700.0)))


def run(seed, steps=STEPS):
    """A history of lies, after which an honest pair is served as ever."""
    h = Harness(tombstone_ttl=600.0)
    liar = Liar(h, seed)
    for _ in range(steps):
        liar.step()
    for peer in liar.peers:
        if peer.route in h.peers:
            peer.disconnect()
    w, s = h.worker("honest", queues=["honest"], tasks=["sum"]), h.submitter("honest")
    for counter in range(3):
        s.submit(queue="honest", task="sum")
        assert w.assigned() == [counter]
        w.done()
        assert list(s.results()) == [counter]
    h.finish()
    return h


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_scheduler_survives_any_message_of_any_peer_in_any_order(seed):
    run(seed)


def test_the_lies_go_deep():
    """What is refused by the decoder proves little: here is what came further."""
    counters = {}
    for seed in range(SEEDS):
        for name, count in run(seed).counters.items():
            counters[name] = counters.get(name, 0) + count
    assert {"malformed_messages", "strangers", "stale_results", "succeeded", "requeued", "failed"} <= set(counters)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_the_scheduler_survives_for_a_night():
    for seed in range(SEEDS, SEEDS + NIGHTLY_SEEDS):
        try:
            run(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_worker_survives_any_message_of_a_scheduler(seed):
    rng = random.Random(seed)
    w = Worker(slots=2, credit=5_000).up()  # a scheduler that lies gives more than there is credit for
    for _ in range(STEPS):
        first = w.core.work.ledger.seen + 1
        pool = [
            wire.Assign(first, 9 << 32, [work(first, rng.randint(1, 5), "add", b"x")], []),
            wire.Retract([(max(1, first - 2), 2)]), wire.Kill([(max(1, first - 2), 2)]), wire.DoneAck([(1, first)]),
            wire.Disown([(first - 1, 3)]), *EXAMPLES.values(),
        ]  # fmt: skip
        try:
            message = wire.decode_to_worker(mangle(rng, rng.choice(pool)))
            w._do("handle", message)
        except (NotAuthorized, ProtocolMismatch):
            return  # it ends, as a worker that is refused does
        except PeerError:
            w.disconnect()
            w.up()
        if w.reclaim:
            w.reclaimed()
        if w.look:
            w.running((0, 0), (0, 0))
        w.sent.clear()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_submitter_survives_any_message_of_a_scheduler(seed):
    rng = random.Random(seed)
    h = Submitter()
    h.welcome()
    for _ in range(STEPS):
        if rng.random() < 0.2:
            h.submit(rng.randint(1, 5))
        first = rng.randint(0, 30)
        prefix = h.core._identity.prefix
        pool = [
            wire.Accepted(prefix, [(first, 5)]), wire.Unknown(prefix, [(first, 2)], expired=rng.random() < 0.5),
            wire.Results(rng.randint(1, 9), prefix, "msgpack", [first], [b"v"], [wire.JobEnd(first + 1, 6, b"no")]),
            wire.Rejected(prefix, first, 3, "QueueFull", "full"), wire.CancelAck(1, [(first, 1)], [], [(first, 2)]),
            wire.Progressed(prefix, [first], [b"\x01"]), *EXAMPLES.values(),
        ]  # fmt: skip
        with contextlib.suppress(PeerError):
            message = wire.decode_to_submitter(mangle(rng, rng.choice(pool)))
            if not isinstance(message, wire.Refused):
                h.turn(partial(h.core.handle, message))
        if h.core.phase != "in":
            h.lose()
            h.connect()
            h.hear(wire.SubmitterWelcome(EPOCH, RELEASE, durable=False, max_payload=1000))
        h._sent.clear()
