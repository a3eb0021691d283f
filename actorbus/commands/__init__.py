"""The client commands: `publish`, `subscribe` and `groups`.

They are mounted on one application, to which the broker's package adds `serve`.
"""

import typer

from actorbus.commands.groups import groups
from actorbus.commands.publish import publish
from actorbus.commands.subscribe import subscribe

app: typer.Typer = typer.Typer(
    name="actorbus",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(publish)
app.command()(subscribe)
app.command()(groups)
