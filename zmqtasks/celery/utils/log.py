"""Loggers of tasks. Every logger of a worker writes to its log, and names the job that logs."""

import logging

__all__ = ["get_logger", "get_task_logger"]


def get_logger(name: str) -> logging.Logger:
    """The logger of that name."""
    return logging.getLogger(name)


get_task_logger = get_logger
