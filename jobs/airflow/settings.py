"""What an operator sets for the DAGs without editing them: environment variables, or Airflow's variables.

`GRAPHUFS_NIGHTLY_SITE` in the environment of the workers, or Airflow's variable `graphufs_nightly_site`, which goes
before it and can be changed in the user interface. They are read when a task runs, never when a DAG file is.
"""

from __future__ import annotations

import os

from graphufs.errors import UserError


def setting(name: str) -> str | None:
    """A setting by its name in lower case, as in `nightly_site`; None where it is not set."""
    from airflow.sdk import Variable

    value = Variable.get(f"graphufs_{name}", default=None)
    if value in (None, ""):
        value = os.environ.get(f"GRAPHUFS_{name.upper()}")
    return str(value).strip() if value not in (None, "") else None


def required(kind: str, name: str) -> str:
    """The experiment or site that runs of a kind have where the form names none: the setting `kind_name`.

    Raises
    ------
    UserError
        If it is not set.
    """
    found, key = setting(f"{kind}_{name}"), f"graphufs_{kind}_{name}"
    if found is None:
        raise UserError(
            f"no {name} is given for this {kind} run: choose one in the form, or set the variable {key} in Airflow "
            f"(or {key.upper()} in its workers' environment)"
        )
    return found
