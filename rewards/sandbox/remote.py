"""Level 2: a server with SandboxFusion's HTTP API (bytedance/SandboxFusion, /run_code).

The program leaves this host. Departures from the reference client: one total deadline instead of
three blind retries, and a reply that says the server itself failed is a SandboxError, not output.
"""

import base64
import math
import os
from collections.abc import Mapping, Sequence

from rlnorm.rewards.judges.client import HttpClient, RemoteError
from rlnorm.rewards.sandbox.types import (
    Limits,
    SandboxError,
    SandboxResult,
    SandboxStatus,
    check_argv,
    check_files,
)

_LANGUAGES = {"python": "python", "python3": "python", "node": "nodejs", "bash": "bash"}
_ENDED = {"Finished": SandboxStatus.OK, "TimeLimitExceeded": SandboxStatus.TIMEOUT}


class RemoteSandbox:
    """`run_async` with the arguments of the local one; argv must name an interpreter and a file.

    The server takes only wall_s and memory_bytes of the limits; output_bytes is applied here, so
    the complete reply must fit `max_reply_bytes` of the client. cpu_s and peak_rss_bytes are not
    reported by the server and come back as NaN and 0.
    """

    def __init__(self, url: str, *, retries: int = 3, overhead_s: float = 30.0) -> None:
        self._client = HttpClient(url, retries=retries)
        self._overhead_s = overhead_s

    async def run_async(
        self,
        files: Mapping[str, str | bytes],
        argv: Sequence[str],
        stdin: str | bytes = b"",
        limits: Limits | None = None,
    ) -> SandboxResult:
        """Run on the server; SandboxError when it cannot be reached or says it failed."""
        limits = limits or Limits()
        order = self._order(check_files(files), check_argv(argv), stdin, limits)
        try:
            reply = await self._client.post(
                "/run_code", order, deadline_s=limits.wall_s + self._overhead_s
            )
        except RemoteError as error:
            raise SandboxError(f"sandbox level 2: {error}") from error
        return _read_reply(reply, limits)

    def _order(
        self, files: dict[str, bytes], argv: list[str], stdin: str | bytes, limits: Limits
    ) -> dict[str, object]:
        program = os.path.basename(argv[0]).split(".")[0]
        scripts = [argument for argument in argv[1:] if argument in files]
        if program not in _LANGUAGES or argv[-1:] != scripts or len(scripts) != 1:
            raise ValueError(
                f"sandbox level 2: argv = {argv!r}: must be one of {sorted(_LANGUAGES)}, options, "
                "and last one of the files"
            )
        others = {
            name: base64.b64encode(content).decode()
            for name, content in files.items()
            if name != scripts[0]
        }
        return {
            "language": _LANGUAGES[program],
            "code": files[scripts[0]].decode(),
            "stdin": stdin if isinstance(stdin, str) else stdin.decode(),
            "run_timeout": limits.wall_s,
            "compile_timeout": limits.wall_s,
            "memory_limit_MB": math.ceil(limits.memory_bytes / (1 << 20)),
            "files": others,
            "fetch_files": [],
        }

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _read_reply(reply: object, limits: Limits) -> SandboxResult:
    if not isinstance(reply, dict) or reply.get("status") not in ("Success", "Failed"):
        raise SandboxError(f"sandbox level 2: the server failed: {str(reply)[:300]}")
    result = reply.get("run_result") or reply.get("compile_result")
    if not isinstance(result, dict) or result.get("status") not in (*_ENDED, "Error"):
        raise SandboxError(f"sandbox level 2: no usable run_result in {str(reply)[:300]}")
    texts = [result.get(name) or "" for name in ("stdout", "stderr")]
    code, seconds = result.get("return_code"), result.get("execution_time") or 0.0
    numbers = isinstance(code, int | None) and isinstance(seconds, int | float)
    if not (numbers and all(isinstance(text, str) for text in texts)):
        raise SandboxError(f"sandbox level 2: run_result of unexpected shape: {str(result)[:300]}")
    # bytes that are not UTF-8 may come back as lone surrogates
    stdout, stderr = (text.encode(errors="replace") for text in texts)
    status = _ENDED.get(result["status"], SandboxStatus.FAILED)
    if status is SandboxStatus.OK and code != 0:
        status = SandboxStatus.FAILED
    if max(len(stdout), len(stderr)) > limits.output_bytes:
        status = SandboxStatus.OUTPUT
    return SandboxResult(
        status=status,
        returncode=code,
        stdout=stdout[: limits.output_bytes],
        stderr=stderr[: limits.output_bytes],
        cpu_s=math.nan,
        wall_s=float(seconds),
        peak_rss_bytes=0,
    )
