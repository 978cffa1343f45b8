"""Who calls at M1: credentials, and what a provider may see and change."""

from __future__ import annotations

import hashlib

import pytest

from nf.af.config import AfSection, ProviderSection
from nf.af.errors import NotOwnAspId, OperatorOnly
from nf.af.providers import UNRESTRICTED, Providers
from nf.af.v1.provisioning_pb2 import ProvisioningSession
from nf.common.config import ConfigError, Section, load
from nf.common.errors import NotFound, Unauthenticated

ALPHA, BETA, OPERATOR = "alpha-0123456789abcdef", "beta-0123456789abcdef", "operator-0123456789abcdef"
DIGEST = hashlib.sha256(BETA.encode()).hexdigest()
SECTIONS = (
    ProviderSection(asp_id="alpha", token=ALPHA, may_ask_location=True),
    ProviderSection(asp_id="beta", token_sha256=DIGEST.upper()),
    ProviderSection(asp_id="net", token=OPERATOR, operator=True),
)


class Whole(Section):
    af: AfSection = AfSection()


def session(asp_id: str) -> ProvisioningSession:
    return ProvisioningSession(provisioning_session_id="s-1", asp_id=asp_id)


def test_without_providers_everyone_may_do_everything():
    providers = Providers(())
    assert not providers.configured
    anyone = providers.identify("")
    assert providers.identify("Bearer whatever") == anyone
    assert anyone.operator
    assert anyone.sees is None
    assert anyone.own_asp_id("alpha") == "alpha"
    assert anyone.own_asp_id("") == ""
    assert anyone.may_use(session("alpha"))
    assert anyone.may_ask_location(session("alpha"))
    anyone.check_operator("suspend a policy template")


def test_without_providers_the_list_of_location_still_counts():
    anyone = Providers((), ("trusted",)).identify("")
    assert anyone.may_ask_location(session("trusted"))
    assert not anyone.may_ask_location(session("alpha"))


@pytest.mark.parametrize(
    ("authorization", "asp_id"),
    [
        (f"Bearer {ALPHA}", "alpha"),
        (f"bearer  {ALPHA} ", "alpha"),
        (f"Bearer {BETA}", "beta"),
        (f"Bearer {OPERATOR}", "net"),
    ],
)
def test_a_token_or_its_digest_says_who_calls(authorization, asp_id):
    assert Providers(SECTIONS).identify(authorization).asp_id == asp_id


@pytest.mark.parametrize(
    ("authorization", "reason", "challenge"),
    [
        ("", "UNAUTHENTICATED", 'Bearer realm="castcore"'),
        (ALPHA, "INVALID_TOKEN", 'Bearer realm="castcore", error="invalid_token"'),
        (f"Basic {ALPHA}", "INVALID_TOKEN", 'Bearer realm="castcore", error="invalid_token"'),
        ("Bearer", "INVALID_TOKEN", 'Bearer realm="castcore", error="invalid_token"'),
        (f"Bearer {ALPHA}x", "INVALID_TOKEN", 'Bearer realm="castcore", error="invalid_token"'),
        (f"Bearer {DIGEST}", "INVALID_TOKEN", 'Bearer realm="castcore", error="invalid_token"'),
        ("Bearer tökèn", "INVALID_TOKEN", 'Bearer realm="castcore", error="invalid_token"'),
    ],
)
def test_no_credential_or_a_wrong_one_is_refused_and_not_repeated(authorization, reason, challenge):
    with pytest.raises(Unauthenticated) as refused:
        Providers(SECTIONS).identify(authorization)
    assert (refused.value.reason, refused.value.challenge) == (reason, challenge)
    assert ALPHA not in str(refused.value)


def test_a_provider_has_its_own_sessions_and_no_other():
    alpha = Providers(SECTIONS).identify(f"Bearer {ALPHA}")
    assert alpha.sees == "alpha"
    alpha.check(session("alpha"))
    for other in ("beta", ""):
        with pytest.raises(NotFound, match="ProvisioningSession 's-1' does not exist"):
            alpha.check(session(other))
    assert alpha.own_asp_id("") == "alpha"
    assert alpha.own_asp_id("alpha") == "alpha"
    with pytest.raises(NotOwnAspId, match="'alpha' may not act for 'beta'"):
        alpha.own_asp_id("beta")
    with pytest.raises(OperatorOnly, match="may not suspend a policy template: only the operator may"):
        alpha.check_operator("suspend a policy template")


def test_an_operator_has_everything():
    operator = Providers(SECTIONS).identify(f"Bearer {OPERATOR}")
    assert operator.sees is None
    assert all(operator.may_use(session(each)) for each in ("alpha", "beta", ""))
    assert operator.own_asp_id("beta") == "beta"
    operator.check_operator("suspend a policy template")
    operator.check_asp_id("beta")


def test_a_request_id_of_one_provider_means_nothing_to_another():
    providers = Providers(SECTIONS)
    alpha, beta = (providers.identify(f"Bearer {token}") for token in (ALPHA, BETA))
    assert alpha.scoped("CreateProvisioningSession") != beta.scoped("CreateProvisioningSession")
    assert UNRESTRICTED.scoped("CreateProvisioningSession") == "CreateProvisioningSession"


def test_location_is_for_trusted_providers_alone_once_there_are_providers():
    alpha = Providers(SECTIONS).identify(f"Bearer {ALPHA}")
    assert alpha.may_ask_location(session("alpha"))
    beta = Providers(SECTIONS).identify(f"Bearer {BETA}")
    assert not beta.may_ask_location(session("beta"))
    assert Providers(SECTIONS, ("beta",)).identify(f"Bearer {BETA}").may_ask_location(session("beta"))


def test_a_file_names_the_providers(tmp_path):
    path = tmp_path / "castcore.toml"
    path.write_text(
        f'[[af.providers]]\nasp_id = "alpha"\ntoken = "{ALPHA}"\nmay_ask_location = true\n'
        f'[[af.providers]]\nasp_id = "beta"\ntoken_sha256 = "{DIGEST}"\n'
    )
    sections = load(Whole, path=path).af.providers
    assert [each.asp_id for each in sections] == ["alpha", "beta"]
    assert [each.may_ask_location for each in sections] == [True, False]
    assert Providers(sections).identify(f"Bearer {BETA}").asp_id == "beta"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('asp_id = "alpha"', "either token or token_sha256"),
        (f'asp_id = "alpha"\ntoken = "{ALPHA}"\ntoken_sha256 = "{DIGEST}"', "either token or token_sha256"),
        ('asp_id = "alpha"\ntoken = "secret"', "a token of at least 16 characters"),
        ('asp_id = "alpha"\ntoken_sha256 = "secret"', "token_sha256 as 64 hexadecimal digits"),
        (f'asp_id = ""\ntoken = "{ALPHA}"', "at least 1 character"),
        (
            f'asp_id = "alpha"\ntoken = "{ALPHA}"\n[[af.providers]]\nasp_id = "beta"\ntoken = "{ALPHA}"',
            "a token of its own for each provider",
        ),
    ],
)
def test_a_wrong_provider_is_refused_and_its_token_not_shown(tmp_path, lines, expected):
    path = tmp_path / "castcore.toml"
    path.write_text(f"[[af.providers]]\n{lines}\n")
    with pytest.raises(ConfigError) as refused:
        load(Whole, path=path)
    assert "castcore.toml:" in str(refused.value)
    assert "af.providers" in str(refused.value)
    assert expected in str(refused.value)
    assert ALPHA not in str(refused.value)
    assert "secret" not in str(refused.value)
