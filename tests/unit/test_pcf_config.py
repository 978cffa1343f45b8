"""The PCF's configuration: QoS references, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nf.cli.configuration import Configuration
from nf.common.config import ConfigError, load
from nf.pcf.v1.operator_policies_pb2 import QosReference


def configured(directory: Path, text: str) -> Configuration:
    path = directory / "castcore.toml"
    path.write_text(text)
    return load(Configuration, path=path)


def test_references_are_known_by_their_names(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        [[pcf.qos_references]]
        name = "gold"
        max_dl_bps = 8_000_000
        guaranteed_dl_bps = 2_000_000
        precedence = 10
        [[pcf.qos_references]]
        name = "upload"
        max_ul_bps = 1_000_000
        """,
    )
    assert config.pcf.arranged == {
        "gold": QosReference(qos_reference="gold", max_br_dl_bps=8_000_000, gbr_dl_bps=2_000_000, precedence=10),
        "upload": QosReference(qos_reference="upload", max_br_ul_bps=1_000_000),
    }


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('name = "gold"', "max_dl_bps or max_ul_bps"),
        ('name = "gold"\nmax_dl_bps = 1\nguaranteed_dl_bps = 2', "guaranteed_dl_bps at most max_dl_bps"),
        ('name = "gold"\nmax_dl_bps = 1\nguaranteed_ul_bps = 1', "guaranteed_ul_bps at most max_ul_bps"),
        ('name = "gold"\nmax_dl_bps = 1\nprecedence = 255', "less than or equal to 254"),
        ('name = "a"\nmax_dl_bps = 1\n[[pcf.qos_references]]\nname = "a"\nmax_dl_bps = 1', "a name of its own"),
    ],
)
def test_what_nobody_could_grant_is_refused(tmp_path: Path, lines: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        configured(tmp_path, f"[[pcf.qos_references]]\n{lines}\n")
