# A machine of the cluster: Slurm, its database, an SSH server, and the environment in which jobs run (CPU). What a
# container of it is, controller or node, its entry script is told. No secret.
ARG DEBIAN_IMAGE=debian:bookworm-slim

FROM ${DEBIAN_IMAGE} AS base
# Packages ask policy-rc.d whether they may start their services: no.
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates python3 slurmctld slurmd slurm-client slurmdbd munge mariadb-server openssh-server \
 && rm -rf /var/lib/apt/lists/* /var/lib/mysql /etc/munge/munge.key /etc/ssh/ssh_host_* /var/log/*.log

FROM base AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
ENV UV_LINK_MODE=copy UV_NATIVE_TLS=true
COPY requirements/bootstrap.lock requirements/job-cpu.lock /build/
RUN python3 -m venv /build/tools \
 && /build/tools/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /build/bootstrap.lock \
 && /build/tools/bin/uv venv --python /usr/bin/python3 /opt/venv
RUN --mount=type=cache,target=/root/.cache/uv \
    /build/tools/bin/uv pip install --python /opt/venv/bin/python --compile-bytecode --require-hashes \
        -r /build/job-cpu.lock
COPY pyproject.toml README.md LICENSE /opt/graphufs/
COPY graphufs /opt/graphufs/graphufs
COPY jobs /opt/graphufs/jobs
RUN --mount=type=cache,target=/root/.cache/uv \
    /build/tools/bin/uv pip install --python /opt/venv/bin/python --no-deps -e /opt/graphufs \
 && /opt/venv/bin/python -m compileall -q /opt/graphufs

FROM base
# All daemons run as the one user who has jobs, so nothing here needs root.
RUN useradd --uid 1000 --create-home --shell /bin/bash graphufs \
 && install -d -o graphufs -g graphufs /scratch /cluster /cluster/run /cluster/log /cluster/state /cluster/ctld \
        /cluster/mysql /secrets/cluster \
 && rm -rf /etc/slurm && ln -s /secrets/cluster/etc /etc/slurm \
# Slurm's daemons write their logs to standard error as well, where the engine rotates them.
 && for name in slurmctld slurmdbd slurmd-node1 slurmd-node2; do ln -s /dev/null /cluster/log/$name.log; done
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/graphufs /opt/graphufs
COPY experiments /opt/graphufs/experiments
COPY docker/machine docker/sshd_config /opt/graphufs/docker/
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    SLURM_CONF=/secrets/cluster/etc/slurm.conf \
    GRAPHUFS_SITES=/etc/graphufs/sites
USER graphufs
WORKDIR /scratch
ENTRYPOINT ["/opt/graphufs/docker/machine"]
