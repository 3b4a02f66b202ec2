"""The app of the smoother: what a worker loads and what the script submits to.

Run the workers in this folder, so that both modules are found by their plain names:

    zmqtasks worker -A smoother_conf --broker tcp://head:5555

No broker is written down here. It comes from ``--broker`` or ``ZMQTASKS_BROKER``; with neither,
the app starts its own cluster on this machine (``local://``).
"""

from zmqtasks import App

app = App("smoother", include=["smoother_tasks"])
