"""A certificate that the processes of one job know each other by: who does not have its file is a stranger."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

NAME = "certificate.pem"
PARTS = ("cert", "key")
CLOCKS = timedelta(days=1)
"""How far the clocks of a job's nodes may be off from each other."""
VALID = timedelta(days=366)
"""Longer than any segment of a job."""


def write(folder: Path) -> None:
    """Make a key and a certificate signed with it, in one file of a new folder; both are their owner's alone.

    `distributed.Security.temporary` makes such a one too, but only in memory, and valid from this moment on, which a
    node whose clock is behind refuses.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "graphufs-job")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS)
        .not_valid_after(now + VALID)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        secret = serialization.NoEncryption()
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
        file.write(certificate.public_bytes(serialization.Encoding.PEM))


def security(folder: Path) -> Any:
    """What dask needs to let in nobody who does not have the certificate, and to go to nobody else."""
    from distributed import Security

    roles = {f"tls_{role}_{part}": str(folder / NAME) for role in ("client", "scheduler", "worker") for part in PARTS}
    return Security(require_encryption=True, tls_ca_file=str(folder / NAME), **roles)
