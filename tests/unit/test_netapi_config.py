"""The platform's section of the configuration."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nf.common.config import ConfigError, load
from nf.netapi.config import NetapiSection

TOKEN = "a-token-of-the-operator"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


def section(folder: Path, *lines: str) -> NetapiSection:
    file = folder / "netapi.toml"
    file.write_text("\n".join(lines))
    return load(NetapiSection, path=file)


def test_the_operator_has_a_token_or_its_digest_or_none(tmp_path: Path) -> None:
    assert NetapiSection().operator_digest is None
    assert section(tmp_path, f'operator_token = "{TOKEN}"').operator_digest == DIGEST
    assert section(tmp_path, f'operator_token_sha256 = "{DIGEST.upper()}"').operator_digest == DIGEST


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((f'operator_token = "{TOKEN}"', f'operator_token_sha256 = "{DIGEST}"'), "either operator_token or"),
        (('operator_token = "secret"',), "at least 16 characters"),
        (('operator_token = "with a space in it!"',), "at least 16 characters"),
        (('operator_token_sha256 = "abc"',), "64 hexadecimal digits"),
    ],
)
def test_a_token_that_is_refused_is_not_shown(tmp_path: Path, lines: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        section(tmp_path, *lines)
    for line in lines:
        assert line.partition('"')[2].rstrip('"') not in str(refused.value)
