"""``zmqtasks check``: what an app's settings come to, where each was written, and what is wrong."""

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zmqtasks.cli._shared import Common, Example, json_option, loglevel_option, say, show_json
from zmqtasks.words import plural

if TYPE_CHECKING:
    from rich.table import Table

    from zmqtasks.conf.report import Row
    from zmqtasks.conf.settings import Conf
    from zmqtasks.submitter.routing import Plan

WRONG: Final = 1  # exit code
_SHOWN: Final = 10  # names that are no settings
_VALUE: Final = 60  # characters
_NAME: Final = 28  # columns; the few longer names are folded


@dataclass(slots=True)
class Findings:
    """What there is to show.

    Attributes:
        app: MODULE[:ATTRIBUTE]; None: only zmqtasks.toml was looked at.
        name: of the App; empty: none was loaded. `loaded`: the App itself.
        effective, later, ignored: settings.
        others: names in modules that were taken for something else.
        routes: of its tasks, by their names.
        problems: sentences; empty: all is well.
        warnings: the same of what may be meant so.
    """

    app: str | None
    name: str = ""
    loaded: Any = None
    effective: "list[Row]" = field(default_factory=list)
    later: "list[Row]" = field(default_factory=list)
    ignored: "list[Row]" = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    routes: "dict[str, Plan]" = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@click.command(epilog=Example("zmqtasks check -A photos", "zmqtasks -A photos check --json"))
@click.option(
    "-A", "--app", metavar="MODULE[:ATTR]", help="The module that holds the App.  [default: only zmqtasks.toml]"
)
@json_option
@loglevel_option
@click.pass_context
def command(ctx: click.Context, *, app: str | None, as_json: bool) -> int:
    """Show the settings of an app, and where each was written.

    And which queue its tasks go to, and why; what has no effect, with the reason; and what is wrong. The app is
    imported, with all that it includes; no scheduler is asked. The exit code is 1 if a setting is unknown or cannot
    have its value, or a task goes nowhere; 2 if the app cannot be imported. Routes and annotations of names that are no
    task of the app are only warned of: others may know them.
    """
    found = look(app or ctx.ensure_object(Common).app)
    if as_json:
        show_json(as_dict(found))
    else:
        show(found)
    return WRONG if found.problems else 0


def look(app: str | None) -> Findings:
    """Load the app and sort its settings.

    Raises:
        AppNotLoaded: it cannot be imported, for another reason than its settings.
    """
    from zmqtasks.conf import report, saying
    from zmqtasks.errors import BadOption

    found = Findings(app)
    with saying.quietly():  # it is all shown here
        try:
            conf = _load(app, found)
            found.effective = [_included(row, found.loaded, conf) for row in report.effective(conf)]
            found.later = report.later(conf)
            found.ignored = report.not_needed(conf)
            found.others = sorted(set(conf.others))
            found.problems = report.problems(conf) + _bad_url(conf)
            found.routes = _routes(found)
            found.warnings = _strangers(found)
            found.problems += [
                str(plan.error or f"task {name} ({plan.why})") for name, plan in found.routes.items() if not plan.usual
            ]
        except BadOption as error:
            found.problems = [str(told) for told in error.args]
    return found


def _included(row: "Row", app: Any, conf: "Conf") -> "Row":
    """The setting `include` with what the app itself was given."""
    from zmqtasks.conf.origin import Layer, Origin

    if row.name != "include" or app is None:
        return row
    modules = [name for name in app.include if name not in conf.imports]
    if modules == list(row.value):
        return row
    origin = getattr(app, "include_origin", None) or Origin(Layer.SET, "the app itself")
    return replace(row, value=modules, origin=origin, said="")


def _routes(found: Findings) -> "dict[str, Plan]":
    """Where the jobs of each task of the app go. Raises BadOption if an annotation or a route cannot be."""
    plans = getattr(found.loaded, "plans", None)
    if plans is None:
        return {}
    declared = found.loaded.routing.queues.declared
    told: dict[str, Plan] = plans()
    if declared is None:
        return told
    idle = "; it is not in task_queues, so workers take from it only with -Q"
    return {
        name: plan._replace(why=plan.why + ("" if plan.usual in {"", *declared} else idle))
        for name, plan in told.items()
    }


def _strangers(found: Findings) -> list[str]:
    """Names in settings that are no task of the app: typing errors, or tasks that only other programs know."""
    tasks = getattr(found.loaded, "tasks", {})
    if not tasks or not hasattr(found.loaded, "routing"):
        return []  # it only submits, by name
    told = []
    for setting, name in found.loaded.routing.named:
        if name not in tasks:
            near = get_close_matches(name, tasks, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            told.append(f"{setting}: no task of this app is called {name!r}{meant}")
    return told


def _bad_url(conf: "Conf") -> list[str]:
    from zmqtasks.errors import BadUrl
    from zmqtasks.transport import parse_url

    given = conf.given("broker_url")
    if given is None or given.value.startswith("local://"):
        return []
    try:
        parse_url(given.value)
    except BadUrl as error:
        return [f"{given.origin}: {error}"]
    return []


def _load(app: str | None, found: Findings) -> "Conf":
    """The settings of the app. Raises the BadOption that keeps it from being loaded, if there is one."""
    from zmqtasks.cli._apps import settings_of
    from zmqtasks.conf.settings import Conf
    from zmqtasks.errors import AppNotLoaded, BadOption
    from zmqtasks.worker.loading import load_app

    if not app:
        return Conf()
    try:
        loaded: Any = load_app(app, str(Path.cwd()))
    except AppNotLoaded as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BadOption):
                raise cause from None
            cause = cause.__cause__
        raise
    conf = settings_of(app, loaded)
    found.name, found.loaded = loaded.name, loaded
    return conf


def as_dict(found: Findings) -> dict[str, Any]:
    """What --json prints. Keys are only ever added."""
    return {
        "app": found.app,
        "name": found.name,
        "settings": {row.name: row.as_dict() for row in found.effective},
        "later": {row.name: row.as_dict() for row in found.later},
        "not_needed": {row.name: row.as_dict() for row in found.ignored},
        "no_settings": found.others,
        "routes": {
            name: {"queue": plan.usual or None, "why": plan.why, "by_arguments": plan.asked}
            for name, plan in found.routes.items()
        },
        "problems": found.problems,
        "warnings": found.warnings,
    }


# ------------------------------------------------------------------------------------------------ for people


def show(found: Findings) -> None:
    """Tables on stdout, what is wrong on stderr."""
    from rich.text import Text

    from zmqtasks.cli import _tables

    console = _tables.console()
    of = f"Settings of app {found.name}" if found.name else "Settings"
    parts = [
        _table(of, found.effective, ("value",)),
        _table("Kept, but without effect yet", found.later, ("value", "waits for")),
        _table("Not needed", found.ignored, ("because",)),
        _routes_table(found.routes),
    ]
    for part in parts:
        if part is not None:
            console.print(part)
            console.print()
    if found.others:
        names = ", ".join(found.others[:_SHOWN])
        more = f" and {len(found.others) - _SHOWN} more" if len(found.others) > _SHOWN else ""
        console.print(Text(f"No settings, and left alone: {_tables.clean(names)}{more}", "dim"))
    for problem in found.problems:
        say(problem)
    for warning in found.warnings:
        say(f"warning: {warning}")
    if found.problems:
        console.print(Text(f"{plural(len(found.problems), 'thing')} to mend.", "yellow"))
    elif found.warnings:
        console.print(Text(f"Nothing is wrong; {plural(len(found.warnings), 'thing')} to look at.", "yellow"))
    elif not found.later and not found.ignored:
        console.print(Text("Nothing is wrong, and nothing is without effect."))
    else:
        console.print(Text("Nothing is wrong."))


def _table(title: str, rows: "list[Row]", columns: tuple[str, ...]) -> "Table | None":
    from zmqtasks.cli._tables import plain, table

    if not rows:
        return None
    out = table(title)
    out.add_column("setting", overflow="fold", min_width=min(_NAME, max(len(row.name) for row in rows)))
    for name in columns:
        out.add_column(name, overflow="fold", min_width=10)
    out.add_column("from", overflow="fold", min_width=10)
    for row in rows:
        by_default = row.origin.layer.name == "DEFAULT"
        cells = {"value": row.said or _value(row.value), "waits for": row.why, "because": row.why}
        style = "dim" if by_default else ""
        out.add_row(*(plain(text, style) for text in (row.name, *(cells[name] for name in columns), _from(row))))
    return out


def _routes_table(routes: "dict[str, Plan]") -> "Table | None":
    from zmqtasks.cli._tables import plain, table

    if not routes:
        return None
    out = table("Routes")
    for name in ("task", "queue", "because of"):
        out.add_column(name, overflow="fold", min_width=10)
    for name, plan in routes.items():
        out.add_row(plain(name), plain(plan.usual or "nowhere", "" if plan.usual else "yellow"), plain(plan.why))
    return out


def _from(row: "Row") -> str:
    """The place, with the name that stands there if it is another one."""
    where = str(row.origin)
    other = row.spelled != row.name and row.spelled not in where
    return f"{where} ({row.spelled})" if other else where


def _value(value: Any) -> str:
    if isinstance(value, set | frozenset):
        value = sorted(value)
    text = (
        ", ".join(map(str, value))
        if isinstance(value, list | tuple)
        else value
        if isinstance(value, str)
        else repr(value)
    )
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 2]} …"
