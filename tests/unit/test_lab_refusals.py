"""What castcore lab says where it may not make user namespaces: the setting that forbids it, and how to change it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from nf.cli.lab import isolation


def refusal(number: int) -> str:
    return str(isolation._forbidden(OSError(number, "refused")))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a kernel that has none."""
    for name in ("kernel", "user"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(isolation, "_SETTINGS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "forbids", "allows"),
    [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "10000"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(settings: Path, name: str, forbids: str, allows: str) -> None:
    settings.joinpath(*name.split(".")).write_text(f"{forbids}\n")
    assert refusal(errno.EPERM) == (
        f"user namespaces: found {name} = {forbids}, expected {allows}: 'sudo sysctl -w {name}={allows}' allows them; "
        "'sudo castcore lab' does without"
    )


def test_settings_that_allow_namespaces_are_not_blamed(settings: Path) -> None:
    (settings / "kernel" / "unprivileged_userns_clone").write_text("1\n")
    (settings / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("0\n")
    (settings / "user" / "max_user_namespaces").write_text("96365\n")
    assert refusal(errno.EPERM) == (
        "user namespaces: found that they are refused here (refused), expected leave to make one: 'sudo castcore lab' "
        "does without; a container has it with '--cap-add SYS_ADMIN --security-opt seccomp=unconfined'"
    )


def test_as_many_namespaces_as_are_allowed_is_another_matter(settings: Path) -> None:
    (settings / "user" / "max_user_namespaces").write_text("3\n")
    assert refusal(errno.ENOSPC).startswith(
        "user namespaces: found as many as user.max_user_namespaces allows, expected room for one more"
    )
