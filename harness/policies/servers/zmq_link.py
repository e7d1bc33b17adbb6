"""One question at a time over ZeroMQ (REQ to REP), with a limit of time."""

from __future__ import annotations

import contextlib

import zmq

from harness.policies.servers.address import Address, LinkLost

MAX_ANSWER_BYTES = 16 * 2**20


class ZmqLink:
    """A socket to a server. ZeroMQ connects when there is something to send, so nothing is known before an answer."""

    def __init__(self, address: Address) -> None:
        """Make the socket."""
        self.address = address
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_ANSWER_BYTES)
        if ":" in address.host:
            self._socket.setsockopt(zmq.IPV6, 1)
        self._socket.connect(f"tcp://{address.netloc}")

    def exchange(self, question: bytes, limit_s: float) -> bytes:
        """Send a question and wait for its answer. After `LinkLost` the link cannot be used again.

        Raises:
            LinkLost: No answer came in time.
        """
        milliseconds = max(int(limit_s * 1e3), 1)
        self._socket.setsockopt(zmq.SNDTIMEO, milliseconds)
        self._socket.setsockopt(zmq.RCVTIMEO, milliseconds)
        try:
            self._socket.send(question)
            answer: bytes = self._socket.recv()
        except zmq.Again as error:
            raise LinkLost(f"no answer within {limit_s:g} s") from error
        except zmq.ZMQError as error:
            raise LinkLost(str(error)) from error
        return answer

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.close(0)
            self._context.term()
