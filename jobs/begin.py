"""The old place of `jobs.worker.bootstrap`, which scripts written before version 0.2 start with `python -m jobs.begin`.

A job that waits in a queue or is requeued runs the script that it was submitted with. It may go after release 0.2, when
no such job is left.
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("jobs.worker.bootstrap", run_name="__main__", alter_sys=True)
