# The control plane: Airflow, the DAGs and the job layer's commands. No JAX, no Slurm, no secret.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV UV_LINK_MODE=copy UV_NATIVE_TLS=true
COPY requirements/bootstrap.lock requirements/airflow.lock /build/
RUN python3 -m venv /build/tools \
 && /build/tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /build/bootstrap.lock \
 && /build/tools/bin/uv venv --python "$(command -v python3)" /opt/venv
RUN --mount=type=cache,target=/root/.cache/uv \
    /build/tools/bin/uv pip install --python /opt/venv/bin/python --compile-bytecode --require-hashes \
        -r /build/airflow.lock
COPY pyproject.toml README.md LICENSE /opt/graphufs/
COPY graphufs /opt/graphufs/graphufs
COPY jobs /opt/graphufs/jobs
RUN --mount=type=cache,target=/root/.cache/uv \
    /build/tools/bin/uv pip install --python /opt/venv/bin/python --no-deps -e /opt/graphufs \
 && /opt/venv/bin/python -m compileall -q /opt/graphufs

FROM ${PYTHON_IMAGE}
# The same number as in the image of the cluster: both read what `setup` has made.
RUN useradd --uid 1000 --create-home --shell /bin/bash graphufs \
 && install -d -o graphufs -g graphufs /airflow /airflow/logs /airflow/mirror \
        /secrets/airflow /secrets/database /secrets/cluster
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/graphufs /opt/graphufs
COPY experiments /opt/graphufs/experiments
COPY dags /opt/graphufs/dags
COPY devstack/slurm/files.py /opt/graphufs/devstack/slurm/
COPY docker/airflow docker/healthy.py docker/make_pools.py docker/migrate docker/setup.py /opt/graphufs/docker/
ENV PATH=/opt/graphufs/docker:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    AIRFLOW_HOME=/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/graphufs/dags \
    GRAPHUFS_MIRROR=/airflow/mirror
USER graphufs
WORKDIR /airflow
CMD ["airflow", "version"]
