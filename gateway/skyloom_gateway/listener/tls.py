"""TLS for the listeners."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """A context that serves with TLS 1.2 or newer.

    Args:
        certificate_file: PEM file with the certificate and its chain.
        key_file: PEM file with the private key, without a passphrase.

    Raises:
        ValueError: a file cannot be read or is no certificate or key; names it and the remedy.
    """
    for field, path in (("certificate_file", certificate_file), ("key_file", key_file)):
        try:
            path.open("rb").close()
        except OSError as exc:
            raise ValueError(
                f"{field} {str(path)!r} cannot be read ({exc.strerror}); give a readable PEM file"
            ) from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Asking for a passphrase on the terminal would hang a server, so one is never asked for.
    try:
        context.load_cert_chain(certificate_file, key_file, password=lambda: "")
    except (ssl.SSLError, ValueError) as exc:
        raise ValueError(
            f"certificate_file {str(certificate_file)!r} and key_file {str(key_file)!r} are not a PEM "
            f"certificate and its unencrypted private key ({exc})"
        ) from exc
    return context
