"""``zmqtasks version``: what is installed here."""

import platform
from importlib import metadata

import click

from zmqtasks.cli._shared import Example, json_option, loglevel_option, release, show_json

LIBRARIES = ("pyzmq", "msgspec", "cloudpickle", "click", "rich")


@click.command(epilog=Example("zmqtasks version --json"))
@json_option
@loglevel_option
def command(*, as_json: bool) -> None:
    """Show the versions of zmqtasks, its protocol and its libraries."""
    from zmqtasks.wire import PROTOCOL

    libraries = {name: _version(name) for name in LIBRARIES}
    if as_json:
        show_json(
            {
                "zmqtasks": release(),
                "protocol": PROTOCOL,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "libraries": libraries,
            }
        )
        return
    click.echo(f"zmqtasks {release()} (protocol {PROTOCOL}), Python {platform.python_version()}, {platform.platform()}")
    click.echo(", ".join(f"{name} {version}" for name, version in libraries.items()))


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"
