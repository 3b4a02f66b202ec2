"""The command line of zmqtasks in a script that holds an app: ``python photos.py worker -c 3``."""

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from zmqtasks.conf.saying import SAID_VARIABLE
from zmqtasks.errors import AppNotLoaded

_WITH_APP: Final = ("worker", "check")  # the commands that load the app; the others need only its scheduler
_PATH: Final = "PYTHONPATH"
_PROGRAMS: Final = ("celery", "zmqtasks")


def run(app: Any, argv: Sequence[str]) -> int:
    """Run one command as ``python -m zmqtasks`` does, in this process.

    Args:
        app: the Celery app.
        argv: words after the program's name; that may stand before them, as Celery has taken it.

    Raises:
        AppNotLoaded: workers cannot import the app.
        SystemExit: with any other exit code than 0.
    """
    words = list(argv)
    if words and (words[0] in _PROGRAMS or words[0] == sys.argv[0]):
        del words[0]
    argv, environ = sys.argv, {name: os.environ.get(name) for name in (SAID_VARIABLE, _PATH)}
    try:
        sys.argv = ["zmqtasks", *_lead(app, words), *words]
        os.environ[SAID_VARIABLE] = "1"  # this process has said what has no effect; those of the worker need not
        runpy.run_module("zmqtasks", run_name="__main__")  # the command line is built upon this package, not below it
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = argv
        for name, value in environ.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return 0


def _lead(app: Any, words: Sequence[str]) -> list[str]:
    """What stands before the words, so that the command knows the app, or at least its scheduler."""
    if not words:
        return []  # it shows the commands that there are
    if not any(word in _WITH_APP for word in words):
        url = app.conf.broker_url
        return ["-b", url] if url and not url.startswith("local://") else []
    if any(word in {"-A", "--app"} or word.startswith("--app=") for word in words):
        return []
    return ["-A", _importable(app)]


def _importable(app: Any) -> str:
    """MODULE:ATTRIBUTE by which the worker's own processes import the app, the script's module too."""
    module = sys.modules.get(app.module)
    names = [name for name, value in vars(module).items() if value is app] if module is not None else []
    if not names:
        raise AppNotLoaded(f"the app {app.name!r} is no global variable of {app.module}, so workers cannot import it")
    return f"{_module_name(app.module)}:{names[0]}"


def _module_name(module: str) -> str:
    """The name of a module; of the script itself, the one that it can be imported by."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m photos.main
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if file is None:
        raise AppNotLoaded("the app was made at a prompt, where no worker can import it: write it into a file")
    script = Path(file).resolve()
    _find_here(str(script.parent))
    return script.stem


def _find_here(folder: str) -> None:
    """Have the processes of the worker look for modules where Python has looked for this script."""
    known = os.environ.get(_PATH, "")
    if folder not in known.split(os.pathsep):
        os.environ[_PATH] = os.pathsep.join(filter(None, (folder, known)))
