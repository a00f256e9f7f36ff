#!/usr/bin/env bash
# Install what scripts/slurm_cluster.py and the tests under tests/slurm start: a real Slurm, MariaDB, sshd and faketime, from
# the packages of Debian or Ubuntu. Nothing is started: the tests start daemons of their own, with their own settings.
# Says nothing and does nothing where all of it is there. Where it cannot install, it says what is missing and ends well,
# for the tests that need Slurm are then skipped and all others run.
set -euo pipefail
packages=(slurmctld slurmd slurm-client munge slurmdbd mariadb-server openssh-server faketime)
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive

missing() {
    local program
    for program in slurmctld slurmd sbatch munged slurmdbd mariadbd sshd faketime; do
        command -v "$program" >/dev/null || echo "$program"
    done
}
without() {
    echo "slurm_packages: $1; not found: $(missing | xargs). The tests that need Slurm will be skipped." \
        "On Debian or Ubuntu, as root: apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 0
}

[ -n "$(missing)" ] || exit 0
[ "$(id -u)" = 0 ] || without "not root"
command -v apt-get >/dev/null || without "there is no apt-get here"

echo "slurm_packages: installing Slurm and what it needs through apt"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
ours=
trap 'rm -f "$log" ${ours:+"$policy"}' EXIT
# Packages ask this file whether they may start their services; 101 is "no". One that is there already stays, and decides.
if ! [ -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

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
