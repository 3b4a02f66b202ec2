"""What every command has in common: help, exit codes, one line for an error."""

import io
import subprocess
import sys

import click
import pytest

from zmqtasks import errors
from zmqtasks.cli import _main, _shared, main
from zmqtasks.cli._shared import Common

LISTED = [name for names in _main.GROUPS.values() for name in names]


def test_the_help_is_grouped_and_short(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for title in _main.GROUPS:
        assert f"{title}:\n" in out
    assert len(out.splitlines()) <= 48
    assert out.rstrip().splitlines()[-2].strip() == "Example:"


@pytest.mark.parametrize("name", LISTED)
def test_the_help_of_a_command_ends_with_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    head, _, tail = capsys.readouterr().out.rpartition("Example:\n")
    assert head
    examples = tail.strip("\n").splitlines()
    assert examples
    assert all(line.startswith("    ") and "zmqtasks" in line for line in examples)


@pytest.mark.parametrize("name", LISTED)
def test_the_examples_are_right_use(name):
    """Every option that an example uses exists."""
    import shlex

    command = _main.cli.get_command(click.Context(_main.cli), name)
    known = {option for parameter in command.params for option in parameter.opts} | {"-A"}
    for line in command.epilog.splitlines()[2:]:
        used = {word for word in shlex.split(line) if word.startswith("-") and word != "-"}
        assert used <= known, line


def error_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("zmqtasks: ")
    return lines[0].removeprefix("zmqtasks: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["wroker"], "no command is called 'wroker'; did you mean 'worker'? (see: zmqtasks --help)"),
        (["report"], "command 'report' of Celery is not available: zmqtasks version and zmqtasks check show versions"),
        (["-A", "shop", "call", "shop.pay"], "command 'call' of Celery is not available: zmqtasks submit TASK --args"),
        (["xyzzy"], "no command is called 'xyzzy' (there are: scheduler, worker, repair, submit, result, "),
        (["beat"], "command 'beat' of Celery is not available: periodic tasks come later"),
        (["inspect", "ping"], "ping of Celery is not available: zmqtasks inspect workers shows who is there (see: "),
        (["control", "revoke", "x"], "revoke of Celery is not available: zmqtasks revoke ID cancels a job (see: "),
        (["inspect", "actve"], "'actve' is not one of 'active', 'reserved'"),
        (["status", "--frobnicate"], "No such option '--frobnicate'"),
        (["status", "-l", "loud"], "'loud' is not one of 'debug'"),
        (["-A", "app", "scheduler"], "scheduler needs no app: leave -A out (see: zmqtasks --help)"),
        (["-A", "no_such_app", "status"], "cannot import 'no_such_app': "),
        (["worker", "-P", "gevent"], "pool gevent comes later; use processes"),
        (["worker", "-P", "fibers"], "there is no pool 'fibers'; there are processes, "),
        (["worker", "-Q", " , "], "it names no queue"),
        (["worker", "-Q", "high normal"], "queue 'high normal' has ' ' in its name, where no comma, space or "),
        (["worker", "-n", "w@%x"], "%x means nothing in a name"),
        (["worker", "-n", "my worker"], "worker 'my worker' has ' ' in its name"),
        (["worker", "-c", "0"], "0 is not in the range"),
        (["worker", "--broker", "http://x"], "bad URL 'http://x': it must be tcp://HOST:PORT or ipc://PATH"),
        (["worker", "--broker", "local://"], "local:// is a cluster inside one script"),
        (
            ["worker", "--broker", "tcp://127.0.0.1:1", "--logfile", "/nowhere/x"],
            "cannot write the log file /nowhere/x",
        ),
        (["scheduler", "--bind", "tcp://x"], "bad URL 'tcp://x': a TCP URL is tcp://HOST:PORT"),
        (["scheduler", "--bind", "5566"], "bad URL '5566'; did you mean tcp://127.0.0.1:5566?"),
        (["status", "-b", "localhost:5555"], "bad URL 'localhost:5555'; did you mean tcp://localhost:5555?"),
        (["scheduler", "--bind", "local://"], "a scheduler cannot listen on local://"),
        (["scheduler", "--plaintext", "10.0.0.1/8"], "10.0.0.1/8 has host bits set; a network is written like"),
        (["status", "--broker", "tcp://127.0.0.1:0x"], "bad URL"),
        (["status", "--timeout", "0"], "0.0 is not in the range"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(words, says, capsys):
    assert main(words) == 2
    assert says in error_line(capsys)


ALONE = {"scheduler", "worker", "repair", "demo", "check", "completion", "version"}


@pytest.mark.parametrize("name", [name for name in LISTED if name not in ALONE])
def test_every_command_that_asks_a_scheduler_takes_an_app_for_it(name):
    command = _main.cli.get_command(click.Context(_main.cli), name)
    assert {"-A", "--broker"} <= {option for parameter in command.params for option in parameter.opts}


APP = """\
import zmqtasks

print("not an answer")
app = zmqtasks.App("photos", {broker}, include=["no_such_module"])
"""


@pytest.mark.parametrize(
    ("broker", "words", "url"),
    [
        ("'tcp://127.0.0.1:1'", ["-A", "photos_of", "status"], "tcp://127.0.0.1:1"),
        ("'tcp://127.0.0.1:1'", ["status", "-A", "photos_of:app"], "tcp://127.0.0.1:1"),
        ("'tcp://127.0.0.1:1'", ["-A", "nowhere", "inspect", "queues", "-A", "photos_of"], "tcp://127.0.0.1:1"),
        ("'tcp://127.0.0.1:1'", ["-A", "photos_of", "status", "-b", "tcp://127.0.0.1:2"], "tcp://127.0.0.1:2"),
        ("None", ["-A", "photos_of", "control", "pause", "x"], "tcp://127.0.0.1:3"),
    ],
)
def test_the_scheduler_is_that_of_the_app(broker, words, url, tmp_path, monkeypatch, capsys):
    (tmp_path / "photos_of.py").write_text(APP.format(broker=broker), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ZMQTASKS_BROKER", "tcp://127.0.0.1:3")
    try:
        assert main([*words, "--timeout", "0.1"]) == 3
    finally:
        sys.modules.pop("photos_of", None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"no scheduler answered at {url} within" in captured.err


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [("", 2, "nobody answers here, and nothing was cancelled; --yes says"), ("n\n", 1, "nothing was cancelled")],
)
def test_nothing_is_purged_that_nobody_means(answer, code, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert main(["purge", "nightly", "-b", "tcp://127.0.0.1:1"]) == code
    assert f"zmqtasks: {says}" in capsys.readouterr().err


def test_no_scheduler_is_exit_code_3(capsys):
    assert main(["status", "--broker", "tcp://127.0.0.1:1", "--timeout", "0.1"]) == 3
    assert error_line(capsys) == (
        "no scheduler answered at tcp://127.0.0.1:1 within 0.1 s; "
        "start one with: zmqtasks scheduler --bind tcp://127.0.0.1:1"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SchedulerUnreachable, 3),
        (errors.NotAuthorized, 4),
        (errors.BadUrl, 2),
        (errors.AddressInUse, 2),
        (errors.AppNotLoaded, 2),
        (errors.ProtocolMismatch, 2),
        (errors.QueueFull, 1),
        (errors.WorkerLost, 1),
        (errors.JobTimeout, 1),
    ],
)
def test_exit_codes(error, code):
    assert _main.code_of(error("x")) == code


@pytest.fixture
def failing(monkeypatch):
    def fail_with(error):
        @click.command()
        @_shared.loglevel_option
        def command():
            raise error

        monkeypatch.setattr(_main.Commands, "get_command", lambda self, ctx, name: command)

    return fail_with


def test_a_message_of_many_lines_is_still_one(failing, capsys):
    failing(errors.AppNotLoaded("cannot import photos:\n  no module\n  named x"))
    assert main(["status"]) == 2
    assert error_line(capsys) == "cannot import photos: no module named x"


def test_a_traceback_is_shown_at_debug_only(failing, capsys):
    failing(errors.BadUrl("odd"))
    assert main(["status", "-l", "debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("zmqtasks: odd\n")


def test_what_nobody_expected_is_one_line_too(failing, capsys):
    failing(ZeroDivisionError("division by zero"))
    assert main(["status"]) == 1
    assert error_line(capsys) == (
        "this should not have happened: ZeroDivisionError: division by zero (-l debug shows where)"
    )


def test_ctrl_c_is_exit_code_130(failing, capsys):
    failing(KeyboardInterrupt())
    assert main(["status"]) == 130
    assert capsys.readouterr().err.splitlines() == ["", "zmqtasks: interrupted"]  # the terminal shows ^C before it


def test_the_brokers_order_of_precedence(monkeypatch):
    context = click.Context(_main.cli, obj=Common())
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    assert _shared.broker_url(context, None) == "tcp://127.0.0.1:5555"
    monkeypatch.setenv("ZMQTASKS_BROKER", "tcp://env:1")
    assert _shared.broker_url(context, None) == "tcp://env:1"
    context.obj.broker = "tcp://group:1"
    assert _shared.broker_url(context, None) == "tcp://group:1"
    assert _shared.broker_url(context, "tcp://own:1") == "tcp://own:1"


@pytest.mark.parametrize("words", [["--help"], ["version"], ["submit", "--help"]])
def test_light_commands_load_nothing_heavy(words):
    code = (
        f"import sys; from zmqtasks.cli import main; main({words!r}); "
        "print([m for m in ('zmq', 'rich', 'cloudpickle', 'asyncio', 'psutil') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_version(capsys):
    import json

    assert main(["version"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"zmqtasks {_shared.release()} (protocol 1), Python 3.")
    assert main(["version", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["zmqtasks", "protocol", "python", "platform", "libraries"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"zmqtasks {_shared.release()}\n"
