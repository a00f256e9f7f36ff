#!/usr/bin/env python3
"""Whether a part of Airflow is ready: healthy.py api-server|scheduler|dag-processor|triggerer.

The API server is when its public and its execution API answer: a task whose first call is the first of all would wait
too long for it. The others are when the API server has heard of them lately.
"""

from __future__ import annotations

import json
import sys
import urllib.request


def ask(path: str) -> dict[str, dict[str, str]]:
    """What the API server answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://api-server:8080{path}", timeout=45) as answer:
        content: dict[str, dict[str, str]] = json.load(answer)
    return content


part = sys.argv[1]
try:
    health = ask("/api/v2/monitor/health")
    if part == "api-server":
        ask("/execution/health")
        part = "metadatabase"
    state = health[part.replace("-", "_")]["status"]
except (OSError, ValueError, KeyError) as error:
    sys.exit(f"the API server does not answer: {error!r}")
if state != "healthy":
    sys.exit(f"{part} is {state}")
