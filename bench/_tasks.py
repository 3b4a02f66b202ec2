"""The app of the benchmarks: `add` as a registered task. The broker is taken from ZMQTASKS_BROKER."""

from _jobs import add as function

from zmqtasks import App

app = App("bench")
add = app.task(name="bench.add")(function)
