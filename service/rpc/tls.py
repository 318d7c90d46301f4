"""TLS for the servers, with certificates that are reloaded when their files change."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import grpc

from catalog.errors import SettingsError
from service.operate.logs import log

if TYPE_CHECKING:
    from service.settings import Settings


def load_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the certificates of a gRPC server, or None without TLS. Raises `SettingsError`."""
    if settings.tls_cert is None:
        return None
    certificates = _Certificates(settings)
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        certificates.load(),
        certificates.load_if_changed,  # type: ignore[arg-type]  # None: unchanged
        settings.tls_client_ca is not None,
    )
    return credentials


def build_ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of an HTTP server, or None without TLS. Raises `SettingsError`."""
    if settings.tls_cert is None:
        return None
    certificates = _Certificates(settings)
    certificates.load()
    current = certificates.build_context()

    def choose_context(connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        nonlocal current
        if certificates.load_if_changed():
            current = certificates.build_context()
        connection.context = current

    context = certificates.build_context()
    context.sni_callback = choose_context  # called at each handshake
    return context


class _Certificates:
    """The certificate files that the settings name, reloaded when they change."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        files = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._files = [path for path in files if path is not None]
        self._stamps: list[tuple[int, int]] = []

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Return the certificates for gRPC. Raises `SettingsError` if they cannot be used."""
        settings = self._settings
        assert settings.tls_cert is not None
        assert settings.tls_key is not None
        try:
            stamps = self._read_stamps()
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                settings.tls_cert, settings.tls_key, password=_no_password
            )
            ca = settings.tls_client_ca
            if ca is not None:
                ssl.create_default_context(cafile=ca)
            loaded: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
                [(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())],
                root_certificates=ca.read_bytes() if ca else None,
            )
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            names = ", ".join(str(path) for path in self._files)
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise SettingsError(f"TLS cannot be set up from {names}: {reason}") from error
        self._stamps = stamps
        return loaded

    def build_context(self) -> ssl.SSLContext:
        """Return a context of the standard library with the certificates in the files."""
        settings = self._settings
        assert settings.tls_cert is not None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        if settings.tls_client_ca:
            context.load_verify_locations(settings.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def load_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificates if the files have changed and can be used, else None.

        gRPC calls this method at each handshake, in a separate thread.
        """
        try:
            if self._read_stamps() != self._stamps:
                loaded = self.load()
                log.info("certificates read")
                return loaded
        except (OSError, SettingsError) as error:
            log.error(
                "changed certificates cannot be used: the old ones stay in use", reason=str(error)
            )
        return None

    def _read_stamps(self) -> list[tuple[int, int]]:
        stats = [path.stat() for path in self._files]
        return [(stat.st_mtime_ns, stat.st_ino) for stat in stats]


def _no_password() -> str:
    raise ValueError("the private key is encrypted: give one without a password")
