#!/usr/bin/env bash
# Install programs that come from no Python lock, from the packages of Debian or Ubuntu, by group:
#   slurm        a real Slurm, MariaDB, sshd and faketime: what devstack/slurm/cluster.py and tests/slurm start
#   postgresql   PostgreSQL's server, which the private Airflow starts
#   browser      a Chromium, for the test of the user interface
# Nothing is started and no database is made: who needs them starts servers of its own, in its own folder. Says nothing and
# does nothing where all is there. Where it cannot install, it says what is missing and ends well, for the tests that need
# it are then skipped and all others run; what cannot do without it says so itself.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive

programs_of() {
    case $1 in
        slurm) echo slurmctld slurmd sbatch munged slurmdbd mariadbd sshd faketime ;;
        postgresql) echo initdb postgres pg_isready ;;
        browser) echo chromium ;;
        *) echo "packages: there is no group $1; there are slurm, postgresql, browser" >&2 && exit 2 ;;
    esac
}
packages_of() {
    case $1 in
        slurm) echo slurmctld slurmd slurm-client munge slurmdbd mariadb-server openssh-server faketime ;;
        postgresql) echo postgresql ;;
        browser) echo chromium fonts-dejavu-core ;;
    esac
}

missing() {
    local group program path="$PATH" folder
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do path="$path:$folder"; done
    for group in "${groups[@]}"; do
        for program in $(programs_of "$group"); do
            PATH="$path" command -v "$program" >/dev/null || echo "$program"
        done
    done
}
without() {
    echo "packages: $1; not found: $(missing | xargs). Tests that need them will be skipped." \
        "On Debian or Ubuntu, as root: apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 0
}

groups=("$@")
packages=()
for group in "${groups[@]}"; do
    programs_of "$group" >/dev/null
    for package in $(packages_of "$group"); do packages+=("$package"); done
done
[ -n "$(missing)" ] || exit 0
[ "$(id -u)" = 0 ] || without "not root"
command -v apt-get >/dev/null || without "there is no apt-get here"

echo "packages: installing through apt: ${packages[*]}"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
settings=/etc/postgresql-common/createcluster.d/graphufs.conf
ours=
trap 'rm -f "$log" "$settings" ${ours:+"$policy"}' EXIT
# Packages ask this file whether they may start their services; 101 is "no". One that is there already stays, and decides.
if ! [ -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
# Debian's PostgreSQL would make a database of its own.
mkdir -p "$(dirname "$settings")"
echo "create_main_cluster = false" >"$settings"

install() {
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \
        -o Dpkg::Use-Pty=0 "${packages[@]}" >>"$log" 2>&1 </dev/null
}
# The lists of packages may be missing or too old: then, and only then, they are fetched.
if ! install && ! { apt-get update -qq -o DPkg::Lock::Timeout=300 >>"$log" 2>&1 && install; }; then
    tail -n 5 "$log" >&2
    without "apt-get failed, as above"
fi
[ -z "$(missing)" ] || without "apt-get ended well all the same"
