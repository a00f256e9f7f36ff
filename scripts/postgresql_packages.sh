#!/usr/bin/env bash
# Install PostgreSQL's server, which scripts/airflow_stack.py starts for its Airflow, from the packages of Debian or Ubuntu.
# Nothing is started and no database is made: the stack makes its own, in its own folder.
# Says nothing and does nothing where it is there. Where it cannot install, it says what is missing and ends well, for
# the tests that need it are then skipped; what cannot do without it says so itself.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

there() {
    local bin
    for bin in "$(dirname "$(command -v initdb || echo /none/x)")" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
        if [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && [ -x "$bin/pg_isready" ]; then return 0; fi
    done
    return 1
}
without() {
    echo "postgresql_packages: $1; no PostgreSQL server was found. The private Airflow cannot start, and tests that need it" \
        "will be skipped. On Debian or Ubuntu, as root: apt-get install --no-install-recommends postgresql" >&2
    exit 0
}

! there || exit 0
[ "$(id -u)" = 0 ] || without "not root"
command -v apt-get >/dev/null || without "there is no apt-get here"

echo "postgresql_packages: installing PostgreSQL through apt"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
ours=
settings=/etc/postgresql-common/createcluster.d/graphufs.conf
trap 'rm -f "$log" "$settings" ${ours:+"$policy"}' EXIT
# Packages ask this file whether they may start their services; 101 is "no". One that is there already stays, and decides.
if ! [ -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
# Debian's package would make a database of its own.
mkdir -p "$(dirname "$settings")"
echo "create_main_cluster = false" >"$settings"

install() {
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
        -o Dpkg::Use-Pty=0 postgresql >>"$log" 2>&1 </dev/null
}
# The lists of packages may be missing or too old: then, and only then, they are fetched.
if ! install && ! { apt-get update -qq -o DPkg::Lock::Timeout=300 >>"$log" 2>&1 && install; }; then
    tail -n 5 "$log" >&2
    without "apt-get failed, as above"
fi
there || without "apt-get ended well all the same"
