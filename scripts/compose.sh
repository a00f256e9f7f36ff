#!/usr/bin/env bash
# Start and end docker-compose.yml, with one clear message where it cannot be: compose.sh up|down|logs|shell-hpc
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "compose: $*" >&2; exit 1; }

command -v docker >/dev/null || fail "there is no docker command; install Docker Engine with its compose plugin (v2)"
docker compose version >/dev/null 2>&1 || fail "docker has no compose plugin; install docker compose v2"
docker info >/dev/null 2>&1 || fail "no Docker engine answers; start one, or see whether you may use it (docker info)"
docker compose config -q || fail "docker-compose.yml or .env is not right, as said above"
port() { docker compose config --format json | sed -nE 's#.*"published": "([0-9]+)".*#\1#p' | head -n 1; }

case ${1:-} in
    up)
        [ -f .env ] || echo "compose: there is no .env, so all settings are their defaults; cp .env.example .env to change some"
        port=$(port)
        if [ -z "$(docker compose ps -q --status running api-server)" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "port $port of 127.0.0.1 is taken; set another PORT in .env"
        fi
        docker compose build
        docker compose up -d --wait || fail "not all services got ready; see docker compose ps -a, and make logs"
        echo "Airflow is up at http://127.0.0.1:$port, for this machine alone. Users and passwords:"
        docker compose exec -T api-server cat /secrets/airflow/passwords.json
        echo
        ;;
    down) docker compose down --remove-orphans ;;
    logs) docker compose logs --follow --tail 100 ;;
    shell-hpc) docker compose exec login bash ;;
    *) fail "what? up, down, logs or shell-hpc" ;;
esac
