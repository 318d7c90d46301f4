"""Fixtures of the service: a release store, its songs, and TLS certificates."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from catalog.embedded.store import EmbeddedStore

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.model import Point
    from tests.support.road import Road


@pytest.fixture
def store(road: Road, tmp_path: Path) -> EmbeddedStore:
    """A copy of the release store of `road`, in which a test may publish."""
    shutil.copytree(road.home.path, tmp_path / "home")
    return EmbeddedStore(tmp_path / "home")


@pytest.fixture(scope="module")
def best_known(road: Road) -> list[Point]:
    """The songs of the release of `road`, the most popular first."""
    release = road.home.open()
    points = asyncio.run(release.popular(10_000))
    release.close()
    return points


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate authority, and certificates for a server and for a caller."""
    folder = tmp_path_factory.mktemp("pem")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ours")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "caller", "renewed"):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("req", *new, *request)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder
