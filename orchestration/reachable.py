"""Whether anything listens at an address: asked before anything starts, as Ray and MLflow try for half a minute."""

from __future__ import annotations

import socket

CONNECT_SECONDS = 4.0


def refusal(host: str, port: int) -> str:
    """Why nothing can be reached there, in a few words; empty where something listens."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    except (OverflowError, UnicodeError) as error:  # a port above 65535, a name that none can have
        return str(error)
    return ""
