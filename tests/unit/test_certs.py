"""``castcore certs``: what it writes, what it refuses, and what reading such files back finds wrong."""

from __future__ import annotations

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import CASTCORE
from cryptography.hazmat.primitives import serialization

from nf.cli.certs.making import make_files, told_lines
from nf.common import certificates
from nf.common.clock import ManualClock
from nf.common.config import TlsSection
from nf.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from nf.common.tls import Credentials, TlsError, is_loopback

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make(directory: Path, *names: str, san: tuple[str, ...] = (), days: int = 365, clients: tuple[str, ...] = ("ue",)):
    return make_files(directory, names, alternatives=san, days=days, clients=clients, clock=ManualClock(NOW))


def section(directory: Path, name: str = "{name}", *, ca: Path | None = None, key: str = "") -> TlsSection:
    return TlsSection(
        ca=str(ca or directory / "ca.pem"),
        certificate=str(directory / f"{name}.pem"),
        key=str(directory / f"{key or name}.key"),
    )


def load(directory: Path, name: str = "af", *, now: datetime = NOW, **changes) -> Credentials:
    return Credentials.load(section(directory, **changes), name, now=now)


def test_an_authority_and_a_pair_of_files_for_every_name_are_made(tmp_path):
    made = make(tmp_path / "certs", "af", "ue", san=("192.0.2.10", "core.lab"))
    assert [each.name for each in made] == ["ca.pem", "ca.key", "af.pem", "af.key", "ue.pem", "ue.key"]
    for file in made:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == (0 if file.suffix == ".key" else 0o044)
    af, ue, ca = (
        certificates.tell(certificates.read_certificates((tmp_path / "certs" / f"{name}.pem").read_bytes())[0])
        for name in ("af", "ue", "ca")
    )
    assert (af.subject, af.issuer, af.uses) == ("CN=af", "CN=castcore lab CA", ("client", "server"))
    assert af.names == ("af", "localhost", "127.0.0.1", "::1", "192.0.2.10", "core.lab")
    assert (ue.uses, ue.names) == (("client",), ())
    assert ca.authority
    assert not af.authority
    assert af.not_after == NOW + timedelta(days=365)
    assert ca.not_after == NOW + timedelta(days=3650)


def test_further_names_are_below_the_authority_that_is_there_and_nothing_is_overwritten(tmp_path):
    make(tmp_path, "af")
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    assert [each.name for each in make(tmp_path, "pcf")] == ["pcf.pem", "pcf.key"]
    with pytest.raises(AlreadyExists, match=r"af\.pem, .*af\.key: there already, and nothing is overwritten"):
        make(tmp_path, "smf", "af")
    assert {each: each.read_bytes() for each in before} == before
    assert not (tmp_path / "smf.pem").exists()
    assert load(tmp_path, "pcf").ca == load(tmp_path, "af").ca


@pytest.mark.parametrize(
    ("names", "san", "told"),
    [
        (("../af",), (), "NAME: expected letters"),
        (("ca",), (), "NAME: expected letters, digits and -_. and not 'ca'"),
        (("af",), ("core lab",), "san: expected a host name or an IP address, found 'core lab'"),
        (("af",), ("",), "san: expected a host name"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_written(tmp_path, names, san, told):
    with pytest.raises(InvalidArgument, match=told):
        make(tmp_path, *names, san=san)
    assert list(tmp_path.iterdir()) == []


def test_half_an_authority_or_something_else_in_its_place_is_refused(tmp_path):
    make(tmp_path, "af")
    (tmp_path / "ca.key").unlink()
    with pytest.raises(FailedPrecondition, match=r"ca\.key: missing"):
        make(tmp_path, "pcf")
    (tmp_path / "ca.key").write_bytes((tmp_path / "af.key").read_bytes())
    with pytest.raises(FailedPrecondition, match="expected an authority and its key, found something else"):
        make(tmp_path, "pcf")
    (tmp_path / "ca.key").write_text("no key")
    with pytest.raises(FailedPrecondition, match="no authority"):
        make(tmp_path, "pcf")


def test_one_section_serves_every_function(tmp_path):
    make(tmp_path, "af", "pcf")
    assert load(tmp_path, "af").certificate == (tmp_path / "af.pem").read_bytes()
    assert load(tmp_path, "pcf").key == (tmp_path / "pcf.key").read_bytes()


def test_what_is_wrong_with_a_file_is_one_line_with_its_name(tmp_path):
    lab, other = tmp_path / "lab", tmp_path / "other"
    make(lab, "af", "pcf", days=30)
    make(other, "af")
    (lab / "text.pem").write_text("no certificate")
    (lab / "text.key").write_text("no key")
    encrypted = certificates.read_key((lab / "af.key").read_bytes())
    (lab / "locked.key").write_bytes(
        encrypted.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    wrong = {
        r"smf\.pem: No such file or directory": lambda: load(lab, "smf"),
        r"lab: Is a directory": lambda: load(lab, ca=lab),
        r"text\.pem: expected a certificate in PEM": lambda: load(lab, "text"),
        r"text\.pem: expected the certificate of an authority": lambda: load(lab, ca=lab / "text.pem"),
        r"text\.key: expected a private key in PEM without a password, found none": lambda: load(lab, key="text"),
        r"locked\.key: expected a private key .* found an encrypted one": lambda: load(lab, key="locked"),
        r"pcf\.key: the key is not that of the certificate .*af\.pem": lambda: load(lab, key="pcf"),
        r"af\.pem: not of the authority .*other/ca\.pem: it was issued by 'CN=castcore lab CA'": lambda: load(
            lab, ca=other / "ca.pem"
        ),
        r"af\.pem: expired on 2026-12-23 12:00:00 UTC": lambda: load(lab, now=NOW + timedelta(days=31)),
        r"ca\.pem: not valid before 2026-11-23 11:55:00 UTC": lambda: load(lab, now=NOW - timedelta(days=1)),
    }
    for told, act in wrong.items():
        with pytest.raises(TlsError, match=told) as refused:
            act()
        assert len(str(refused.value).splitlines()) == 1


def test_the_command_prints_the_section_and_shows_what_it_made(tmp_path):
    directory = tmp_path / "certs"
    made = subprocess.run(
        [CASTCORE, "certs", "--dir", str(directory), "af"], capture_output=True, text=True, check=True
    )
    assert made.stdout.splitlines() == [
        "[tls]",
        f'ca = "{directory}/ca.pem"',
        f'certificate = "{directory}/{{name}}.pem"',
        f'key = "{directory}/{{name}}.key"',
    ]
    assert made.stderr.splitlines() == [
        f"wrote {directory}/{each}" for each in ("ca.pem", "ca.key", "af.pem", "af.key")
    ]
    shown = list(told_lines(directory / "af.pem"))
    assert shown[:4] == [
        "subject      CN=af",
        "issuer       CN=castcore lab CA",
        "for          client, server",
        "names        af, localhost, 127.0.0.1, ::1",
    ]
    again = subprocess.run(
        [CASTCORE, "certs", "--dir", str(directory), "af"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "nothing is overwritten" in again.stderr
    wrong = subprocess.run(
        [CASTCORE, "certs", "show", str(directory / "af.key")], capture_output=True, text=True, check=False
    )
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == f"castcore: certs: {directory}/af.key: expected a certificate in PEM, found none\n"


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:0", True),
        ("localhost:7001", True),
        ("[::1]:7001", True),
        ("0.0.0.0:7001", False),
        ("[::]:7001", False),
        ("192.0.2.1:7001", False),
        ("core.lab:7001", False),
    ],
)
def test_what_is_loopback(address, loopback):
    assert is_loopback(address) is loopback
