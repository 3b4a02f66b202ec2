"""Settings of an app: which there are, what they may be, where they come from, whose word counts.

`settings` has the table of ours and is where to look first, `celery` that of Celery's names. `sources` reads objects,
modules and `zmqtasks.toml`, `store` keeps what they say in layers, `origin` tells where each value was written,
`report` is what ``zmqtasks check`` shows. Importing this package imports none of them.
"""
