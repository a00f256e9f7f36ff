"""Tests of docker-compose.yml, as `make test-compose` runs them; those that need no engine are in `make test` too."""
