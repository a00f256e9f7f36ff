"""One of the two processes of a job with dask, started by test_ports.py: FOLDER RANK.

They listen on a loopback address of their own, so that it shows what else is listened on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from graphufs.storage.atomic import write_json
from jobs.worker import multi_process

NETWORK = "127.0.0.2"


def double(number: int) -> int:
    return 2 * number


def main(folder: Path, rank: int) -> None:
    multi_process.address = lambda interface: NETWORK
    member = multi_process.Member(folder, "7", rank, 2, None)
    if rank:
        multi_process._dask_worker(member)
        return
    with multi_process._dask_client(member) as client:
        workers = list(client.scheduler_info()["workers"])
        answers = [client.submit(double, 21, workers=[one], pure=False).result() for one in workers]
        write_json(folder / "ready.json", {"answers": answers, "scheduler": client.scheduler.address})
        while not (folder / "done").exists():
            time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
