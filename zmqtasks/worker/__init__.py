"""The worker: an agent that never runs user code (`agent`), its decisions (`core`), and the processes that run jobs.

Nothing is imported here: the fork server and the children must stay free of zmq.
"""
