"""Answers requests: checks the params of each method of the protocol and asks the part that knows."""

from __future__ import annotations

import binascii
import os
import sys
import time

from styx_agent import __version__, logs, metrics, protocol
from styx_agent.faults import Fault
from styx_agent.fields import Fields
from styx_agent.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

    from styx_agent.agent import Agent

_DEFAULT_CHUNK_BYTES = 256 * 1024
_LARGEST_CHUNK_BYTES = 4 * 1024 * 1024
_STREAMS = ("setup", "run", "driver")
_GRACE_S = 3.0
_ALWAYS_SLOW = frozenset(("job.cancel", "rank.cancel", "node.info", "node.metrics", "shutdown", "container.start"))


def is_slow(method: str, params: dict[str, Any]) -> bool:
    """Whether a request may take long enough to hold up those behind it on the same connection."""
    return method in _ALWAYS_SLOW or bool(params.get("wait_s"))


class Methods:
    """One method for each of the protocol's; all may be called from any thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._metrics = metrics.Metrics()
        self._table: dict[str, Callable[[dict[str, Any]], Any]] = {
            "hello": self._hello,
            "ping": lambda _: {"time": time.time()},
            "node.configure": self._configure,
            "node.info": self._info,
            "node.metrics": lambda _: self._metrics.read(agent.who.home, agent.search_path()),
            "job.submit": self._submit,
            "job.list": self._list,
            "job.get": self._get,
            "job.wait": self._wait,
            "job.cancel": self._cancel,
            "rank.start": self._rank_start,
            "rank.wait": lambda params: agent.ranks.wait(params, _wait_s(Fields(params, "rank.wait"))),
            "rank.cancel": self._rank_cancel,
            "log.read": self._log_read,
            "container.start": agent.container.start,
            "container.wait": lambda params: agent.container.wait(params, _wait_s(Fields(params, "container.wait"))),
            "lease.set": agent.keeper.set,
            "lease.get": lambda _: agent.keeper.view(),
            "lease.renew": self._renew,
            "shutdown": self._shutdown,
        }

    def dispatch(self, method: str, params: dict[str, Any]) -> Any:
        """The result of one request.

        Raises:
            Fault: The answer is an error.
        """
        handler = self._table.get(method)
        if handler is None:
            raise Fault(protocol.UNKNOWN_METHOD, "this agent (%s) has no method %.80r" % (__version__, method))
        return handler(params)

    def _hello(self, params: dict[str, Any]) -> protocol.Hello:
        offered = Fields(params, "hello").wholes("versions")
        common = sorted(set(offered) & set(protocol.VERSIONS))
        if not common:
            raise Fault(
                protocol.VERSION_MISMATCH,
                "this agent (%s) speaks the protocol versions %s, the client %s"
                % (__version__, list(protocol.VERSIONS), offered[:20]),
            )
        who = self._agent.who
        return {
            "version": common[-1],
            "agent": __version__,
            "key": who.key,
            "rank": who.rank,
            "pid": os.getpid(),
            "started_at": self._agent.started_at,
            "python": "%d.%d.%d" % sys.version_info[:3],
            "home": who.home,
            "configured": self._agent.configured,
        }

    def _configure(self, params: dict[str, Any]) -> dict[str, Any]:
        self._agent.configure(params)
        return {}

    def _info(self, _: dict[str, Any]) -> dict[str, Any]:
        who = self._agent.who
        return {
            "key": who.key,
            "rank": who.rank,
            "home": who.home,
            "python": sys.executable,
            "cpus": os.cpu_count(),
            "memory_bytes": metrics.memory()[0],
            "gpus": metrics.gpus(self._agent.search_path()),
            "config": self._agent.config()._asdict(),
            "notice_at": self._agent.notices.seen_at,
        }

    def _head_only(self, method: str) -> None:
        rank = self._agent.who.rank
        if rank != 0:
            raise Fault(protocol.WRONG_RANK, "%s is served by rank 0; this is rank %d" % (method, rank))

    def _submit(self, params: dict[str, Any]) -> dict[str, Any]:
        self._head_only("job.submit")
        return {"job_id": self._agent.queue.submit(params)}

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        self._head_only("job.list")
        limit = Fields(params, "job.list").whole("limit", 1000, least=1)
        return {"jobs": self._agent.queue.newest(min(limit, 10_000))}

    def _job(self, fields: Fields, method: str) -> Any:
        self._head_only(method)
        job_id = fields.whole("job_id", least=1)
        job = self._agent.queue.find(job_id)
        if job is None:
            raise Fault(protocol.NOT_FOUND, "there is no job %d on %s" % (job_id, self._agent.who.key))
        return job

    def _get(self, params: dict[str, Any]) -> Any:
        return self._told(self._job(Fields(params, "job.get"), "job.get").view())

    def _told(self, job: protocol.Job) -> protocol.Job:
        job["notice_at"] = self._agent.notices.seen_at
        return job

    def _wait(self, params: dict[str, Any]) -> protocol.Job:
        fields = Fields(params, "job.wait")
        job = self._job(fields, "job.wait")
        return self._told(self._agent.queue.wait(job, fields.text("not_state", None), _wait_s(fields)))

    def _cancel(self, params: dict[str, Any]) -> dict[str, Any]:
        self._head_only("job.cancel")
        fields = Fields(params, "job.cancel")
        wanted = fields.wholes("job_ids", None)
        for job_id in wanted or ():
            if self._agent.queue.find(job_id) is None:
                raise Fault(protocol.NOT_FOUND, "there is no job %d on %s" % (job_id, self._agent.who.key))
        cancelled, survivors = self._agent.queue.cancel(wanted, fields.number("grace_s", _GRACE_S))
        return {"cancelled": cancelled, "survivors": survivors}

    def _rank_start(self, params: dict[str, Any]) -> dict[str, Any]:
        self._agent.ranks.start(params)
        return {}

    def _rank_cancel(self, params: dict[str, Any]) -> dict[str, Any]:
        fields = Fields(params, "rank.cancel")
        job_id = fields.whole("job_id", least=1)
        return {"survivors": self._agent.ranks.cancel(job_id, fields.number("grace_s", _GRACE_S))}

    def _log_read(self, params: dict[str, Any]) -> protocol.LogChunk:
        fields = Fields(params, "log.read")
        job_id = fields.whole("job_id", least=1)
        stream = fields.one_of("stream", _STREAMS)
        offset = fields.whole("offset", 0, least=-1e9)
        most = min(fields.whole("max_bytes", _DEFAULT_CHUNK_BYTES, least=1), _LARGEST_CHUNK_BYTES)
        deadline = time.monotonic() + _wait_s(fields)
        path = self._agent.state.log(job_id, stream)
        if offset < 0:
            offset = logs.start_of_last_lines(path, -offset)
        with self._agent.watch.subscribe(os.path.dirname(path)) as waker:
            while True:
                waker.clear()
                ended = self._writer_ended(job_id, stream)  # asked before reading: what it wrote last is then there
                data = logs.read(path, offset, most)
                left = deadline - time.monotonic()
                eof = ended and offset + len(data) >= logs.size(path)
                if data:
                    self._agent.read_at = time.time()
                if data or eof or left <= 0:
                    return {
                        "offset": offset,
                        "data": binascii.b2a_base64(data, newline=False).decode("ascii"),
                        "eof": eof,
                    }
                waker.wait(left)

    def _writer_ended(self, job_id: int, stream: str) -> bool:
        phase = self._agent.phases.get(job_id, stream)
        if phase is not None:
            return not phase.running
        job = self._agent.queue.find(job_id)
        if job is None:
            if self._agent.who.rank == 0:
                raise Fault(protocol.NOT_FOUND, "there is no job %d on %s" % (job_id, self._agent.who.key))
            return False  # rank 0 may be about to start it here
        if job.ended:
            return True
        if stream == "setup":
            return job.state == protocol.RUNNING or not job.spec["setup"]
        return stream == "driver" and not job.coordinated

    def _renew(self, _: dict[str, Any]) -> dict[str, Any]:
        self._agent.keeper.renew()
        return {}

    def _shutdown(self, _: dict[str, Any]) -> dict[str, Any]:
        survivors = self._agent.end_all("shut down")
        self._agent.leave_soon()
        return {"survivors": survivors}


def _wait_s(fields: Fields) -> float:
    return min(float(fields.number("wait_s", 0.0)), protocol.MAX_WAIT_S)
