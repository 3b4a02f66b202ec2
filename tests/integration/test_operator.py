"""The command line's question to a scheduler, over real sockets, with a scripted scheduler at the other end."""

import socket
import threading
from contextlib import contextmanager

import pytest

from zmqtasks import errors, transport, wire
from zmqtasks.operators import Operator, ask_status

STATUS = wire.Status(7, "0.1.0", 42, 1.5, False, [], [], {"ready": 3}, 0, {}, [])


@contextmanager
def scheduler(answer):
    """A ROUTER that answers each message with the messages that `answer(message)` lists."""
    context = transport.Context()
    router = transport.Router(context)
    url = router.bind("tcp://127.0.0.1:*".replace("*", "0"))
    stop = transport.Wakeup()
    heard = []

    def serve():
        while not stop.clear():
            transport.wait([*router.readers(), stop.fileno()], 1.0)
            while (got := router.receive()) is not None:
                route, data = got
                message = wire.decode_hello(data) or wire.decode_from_operator(data)
                heard.append(type(message).__name__)
                for reply in answer(message):
                    router.send(route, wire.encode(reply) if not isinstance(reply, bytes) else reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield url, heard
    finally:
        stop.set()
        thread.join()
        router.close()
        context.close()
        stop.close()


def friendly(message):
    return [wire.OperatorWelcome(7, "0.1.0") if isinstance(message, wire.OperatorHello) else STATUS]


def test_a_scheduler_answers():
    with scheduler(friendly) as (url, heard):
        assert ask_status(url) == STATUS
    assert heard == ["OperatorHello", "AskStatus"]


ANSWERS = {
    wire.OperatorHello: wire.OperatorWelcome(7, "0.1.0"),
    wire.AskStatus: STATUS,
    wire.AskJobs: wire.Jobs([], 5),
    wire.AskJob: wire.JobReport(None, ["nobody knows it"], [], b""),
}


def test_many_questions_over_one_connection():
    with scheduler(lambda message: [ANSWERS[type(message)]]) as (url, heard), Operator(url) as operator:
        for _ in range(3):
            assert operator.jobs(["running"], 10) == ANSWERS[wire.AskJobs]
            assert operator.job((bytes(12), 3)) == ANSWERS[wire.AskJob]
            assert operator.status() == STATUS
    assert heard == ["OperatorHello", *["AskJobs", "AskJob", "AskStatus"] * 3]


def test_an_answer_to_another_question_is_none():
    late = [STATUS, ANSWERS[wire.AskJobs]]
    answers = {**{kind: [answer] for kind, answer in ANSWERS.items()}, wire.AskJobs: late}
    with scheduler(lambda message: answers[type(message)]) as (url, _), Operator(url) as operator:
        assert operator.jobs([], 10) == ANSWERS[wire.AskJobs]


def test_a_scheduler_that_forgets_the_operator_between_two_questions():
    replies = iter(
        [
            [wire.OperatorWelcome(7, "0.1.0")],
            [STATUS],
            [wire.HelloAgain()],
            [wire.OperatorWelcome(8, "0.1.0")],
            [STATUS],
        ]
    )
    with scheduler(lambda message: next(replies)) as (url, heard), Operator(url) as operator:
        assert operator.status() == operator.status() == STATUS
    assert heard == ["OperatorHello", "AskStatus", "AskStatus", "OperatorHello", "AskStatus"]


def test_a_ping_and_rubbish_before_the_answer_do_no_harm():
    with scheduler(lambda message: [wire.Ping(), b"rubbish", *friendly(message)]) as (url, _):
        assert ask_status(url) == STATUS


def test_a_forgetful_scheduler_gets_a_second_hello():
    replies = iter([[wire.HelloAgain()], [wire.OperatorWelcome(7, "0.1.0")], [STATUS]])
    with scheduler(lambda message: next(replies)) as (url, heard):
        assert ask_status(url) == STATUS
    assert heard == ["OperatorHello", "OperatorHello", "AskStatus"]


@pytest.mark.parametrize(
    ("code", "kind"), [("protocol", errors.ProtocolMismatch), ("authorization", errors.NotAuthorized)]
)
def test_a_refusal(code, kind):
    refused = wire.Refused(code, "protocol 2 is spoken here, not 1", 2, "9.9")
    with scheduler(lambda message: [refused]) as (url, _), pytest.raises(kind, match=r"9\.9\) refused: protocol 2 is"):
        ask_status(url)


def test_nobody_listens():
    with pytest.raises(
        errors.SchedulerUnreachable, match=r"no scheduler answered at tcp://127\.0\.0\.1:1 within 0\.2 s"
    ):
        ask_status("tcp://127.0.0.1:1", 0.2)


def test_somebody_listens_who_is_no_scheduler():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(errors.SchedulerUnreachable, match=r"no scheduler answered at .* within 0\.2 s"):
            ask_status(url, 0.2)


def test_a_scheduler_that_says_nothing():
    with (
        scheduler(lambda message: []) as (url, _),
        pytest.raises(errors.SchedulerUnreachable, match="does not answer as"),
    ):
        ask_status(url, 0.3)


def test_a_scheduler_that_falls_silent():
    def welcome_only(message):
        return friendly(message)[:1] if isinstance(message, wire.OperatorHello) else []

    with scheduler(welcome_only) as (url, _), pytest.raises(errors.SchedulerUnreachable, match="but stopped answering"):
        ask_status(url, 0.3)
