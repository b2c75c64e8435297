"""A certificate authority of this home, which can speak for AWS's names alone.

Its key and its certificates lie in ``LAUNCHER_HOME/exec``, readable by their owner. The authority is constrained to
AWS's domains, so that a stolen key is worth nothing for any other name. Source: RFC 5280, section 4.2.1.10.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.aws_domains import AWS_DOMAINS

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 397
_RENEWED_DAYS = 30
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


class Authority:
    """The authority of a home; it is made when it is first needed, and again a month before it ends.

    Args:
        folder: of its own, ``LAUNCHER_HOME/exec``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contexts: dict[str, ssl.SSLContext] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            if not _lasts(self.certificate_path) or not self._key_path.exists():
                for path in folder.glob("leaf-*.pem"):
                    path.unlink()
                self._make()

    @property
    def certificate_path(self) -> Path:
        """The authority's certificate, in PEM."""
        return self._folder / "ca.pem"

    @property
    def _key_path(self) -> Path:
        return self._folder / "ca.key"

    def context(self, host: str) -> ssl.SSLContext:
        """Return what a server that calls itself ``host`` answers TLS with; its certificate is made when first asked.

        Raises:
            ValueError: the name is none that a certificate can have.
        """
        context = self._contexts.get(host)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            context.load_cert_chain(self._leaf(host))
            self._contexts[host] = context
        return context

    def _leaf(self, host: str) -> Path:
        if len(host) > 253 or not _HOST.fullmatch(host):
            raise ValueError(f"{host!r:.80} is no name of a host")
        parent = host.partition(".")[2]
        # All buckets, and all services of a region, have a certificate between them.
        name, file_name = (f"*.{parent}", f"leaf-any.{parent}.pem") if "." in parent else (host, f"leaf-{host}.pem")
        path = self._folder / file_name
        with self._locked():
            if not _lasts(path):
                self._sign(name, path)
        return path

    def _make(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("launcher: AWS on this machine")
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            _certificate(name, name, key, _AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.NameConstraints([x509.DNSName(domain) for domain in AWS_DOMAINS], None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write_private(self._key_path, _key_text(key))
        write_private(self.certificate_path, certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, host: str, path: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        issuer = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        issuer_key = serialization.load_pem_private_key(self._key_path.read_bytes(), None)
        if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{self._key_path} holds another kind of key")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _certificate(_name(host[:64]), issuer.subject, key, _LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        write_private(path, _key_text(key) + certificate.public_bytes(serialization.Encoding.PEM))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_text(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _lasts(path: Path) -> bool:
    """Return whether a file holds a certificate that is good for another month."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left > datetime.timedelta(days=_RENEWED_DAYS)


def write_private(path: Path, text: bytes) -> None:
    """Write a file whole, for its owner alone; programs that read it meanwhile get the old one or the new one."""
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    Path(new).replace(path)
