"""Every number that bounds or paces something, typed, in one place, with its unit."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

DEFAULT_PORT = 5555
BROKER_VARIABLE = "ZMQTASKS_BROKER"  # in the environment: the scheduler where nobody names one
CONFIG_FILE = "zmqtasks.toml"  # in the current folder: settings, see zmqtasks/conf
DEFAULT_BROKER = f"tcp://127.0.0.1:{DEFAULT_PORT}"
DEFAULT_QUEUE = "default"

# A control message holds at most so many jobs and, unless a single payload is larger, so many bytes: short turns,
# and no heartbeat waits behind a long message.
MAX_JOBS_PER_MESSAGE = 500
MAX_BYTES_PER_MESSAGE = 64 * KIB

# What is larger goes over the bulk connection, in chunks, so many bytes of them before the other side has said that it
# took some in; the parts of a few messages alternate, so that a smaller one need not wait for a larger one.
CHUNK_BYTES = 256 * KIB
BULK_WINDOW = 4 * MIB
BULK_STREAMS = 4
MAX_BULK_MESSAGE = 144 * MIB  # the largest arguments and the largest function in one Submit, and their envelope
MAX_PRIORITY = 9  # the most urgent
MAX_ASKED = 100_000  # jobs that one Ask or Cancel names
MAX_NAME = 1_000  # characters of a name: task, queue, host, user, …
MAX_NAMES = 10_000  # queues, and tasks, that one worker knows
BUSY_POLL = 0.0005  # seconds for which the scheduler may look for a lone job's next step before it sleeps
MAX_PROGRESS = 4 * KIB  # bytes of what a running job tells of itself


@dataclass(slots=True, frozen=True)
class SchedulerSettings:
    """What the scheduler's core is told at its start. Times in seconds, sizes in bytes."""

    heartbeat: float = 1.0
    lease: float = 4.0
    result_ttl: float = 3600.0  # how long an outcome is kept for those who ask, unless the job says otherwise
    grace: float = 600.0  # after a restart an outcome is kept at least so long, however long the scheduler was away
    tombstone_ttl: float = 3600.0  # how long a job id is remembered after its result expired
    max_jobs: int = 10_000_000  # jobs that are not over; a Submit that would go beyond is refused whole
    max_bytes: int = 4 * GIB  # payloads of all jobs; a Submit that comes when there are more is refused
    max_result_bytes: int = 256 * MIB  # of outcomes in memory: beyond, the oldest are on disk only; without a journal,
    # those already delivered are dropped, the oldest first
    max_results: int = 200_000  # outcomes beyond which those already delivered are dropped, the oldest first
    max_payload: int = 64 * MIB
    max_tombstones: int = 20_000  # Submits, of 500 bytes each, remembered after all their outcomes were dropped
    spill: int = 256 * KIB  # payloads above this are kept by the journal, the core holds a reference
    durability: tuple[tuple[str, str], ...] = ()  # (queue, or empty for all others; "memory", "os" or "disk")
    compact_above: int = 64 * MIB  # records of the journal, beyond which old ones are compacted
    max_pending: int = 256 * MIB  # bytes that wait for a slow disk, beyond which no job is accepted or given out
    results_window: int = 10_000  # outcomes sent to one submitter and not yet acknowledged
    results_window_bytes: int = 8 * MIB
    large_window_bytes: int = 32 * MIB  # the same over the bulk connection
    accept_delay: float = 0.003  # the Accepted of few jobs waits so long for their Results, at most
    ack_delay: float = 0.02  # a DoneAck waits so long for company, at most; nobody waits for it
    horizon: float = 0.010  # measured work, in seconds, that one slot may hold in advance
    ageing: float = 0.0  # a job that has waited so long counts as one priority higher; 0: none ever does
    gap: float = 0.5  # a pause between two turns beyond this (SIGSTOP, a suspended VM) is added to every lease
    unknown_task_after: float = 5.0  # a task that no worker knows is said after so long
    adoption: float = 600.0  # a worker's attempt at a job that is unknown here waits so long for its submitter
    max_strays: int = 200_000  # such attempts, and the bytes of their outcomes
    max_stray_bytes: int = 64 * MIB
    max_functions: int = 1_000  # shipped functions and names of tasks remembered after their last job ended
    max_function_bytes: int = 256 * MIB  # of all shipped functions; those that no job needs go first beyond this


@dataclass(slots=True, frozen=True)
class WorkerSettings:
    """What the worker's core is told at its start."""

    slots: int
    credit: int  # assignments it holds at most, slots included
    claim: float = 0.001  # seconds of measured work in one claim of a child
    ahead: int = 2  # claims per slot that stand in the shared queue or run
    resources: tuple[tuple[str, int], ...] = ()  # what it has for its jobs: (name, in 1/10,000), by name
    devices: tuple[str, ...] = ()  # names of its GPUs, as in CUDA_VISIBLE_DEVICES


@dataclass(slots=True, frozen=True)
class SubmitterSettings:
    """What the submitter's core is told at its start."""

    unaccepted: int = 20_000  # jobs sent and not yet accepted
    unaccepted_bytes: int = 16 * MIB
    ack_delay: float = 0.02  # a ResultAck waits so long for company, at most
    held_bytes: int = 256 * MIB  # payloads kept for a scheduler without a journal; accepted ones beyond are let go
