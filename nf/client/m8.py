"""M8: the document by which an Application Provider configures its application (TS 26.512 A.3.2 step 3).

A JSON object: the catalogue of titles with the URLs of their MPDs, the identifiers of subscriptions and device types,
and the policy descriptions: each a network policy id with the URL of the service access information that goes with it
(table A.3.3-1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from nf.af.v1.media_session_pb2 import ServiceDescriptorFilter
from nf.common.bit_rate import BIT_RATE_PATTERN, parse_bit_rate
from nf.common.errors import FieldViolation, InvalidArgument, NotFound

DASH: Final = "application/dash+xml"
_RESOURCE: Final = "service-access-information"

Part = TypeVar("Part")


class M8Invalid(InvalidArgument):
    """The document is refused; each violation names a property."""

    reason = "INVALID_M8_DOCUMENT"


class TitleUnknown(NotFound):
    """The catalogue has no such title, or the user may not see it."""

    reason = "TITLE_UNKNOWN"


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("an absolute http or https URL without a fragment")
    return value


def _check_name(value: str) -> str:
    if not value:
        raise ValueError("a string that is not empty")
    return value


def _check_any(value: tuple[Part, ...]) -> tuple[Part, ...]:
    if not value:
        raise ValueError("at least one")
    return value


def _check_bit_rate(value: str) -> str:
    if parse_bit_rate(value) == 0:
        raise ValueError("a bit rate above 0")
    return value


def _check_access_url(value: str) -> str:
    try:
        access_of(value)
    except InvalidArgument as error:
        raise ValueError(str(error).partition("expected ")[2].partition(", found")[0]) from None
    return value


Url = Annotated[str, AfterValidator(_check_url)]
AccessUrl = Annotated[str, AfterValidator(_check_access_url)]
BitRate = Annotated[str, AfterValidator(_check_bit_rate)]
Name = Annotated[str, AfterValidator(_check_name)]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=False,
        validate_by_alias=True,
    )


class EntryPoint(_Part):
    """Where a title is: a Media Player Entry."""

    locator: Url
    content_type: Name = DASH


class Title(_Part):
    """A title of the catalogue. Without subscriptions or device types it is for all of them."""

    title_id: Name
    title: str = ""
    entry_points: Annotated[tuple[EntryPoint, ...], Field(strict=False), AfterValidator(_check_any)]
    subscription_ids: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    device_type_ids: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    # Where other than the document's.
    service_access_information_url: AccessUrl | None = None

    @property
    def entry(self) -> str:
        """The MPD."""
        return next(each.locator for each in self.entry_points if each.content_type == DASH)

    @model_validator(mode="after")
    def _has_an_mpd(self) -> Title:
        if not any(each.content_type == DASH for each in self.entry_points):
            raise ValueError(f"at least one entry point of content type {DASH}")
        return self


class KnownFilter(_Part):
    """A service descriptor filter that is looked up by a value of the answer to an activation (step 7).

    answer_value: the identifier of the policy template, or the enforcement bit rate ("5 Mbps").
    """

    answer_value: Name
    service_description_id: str = ""
    operating_bandwidth_max: BitRate | None = None

    def message(self) -> ServiceDescriptorFilter:
        """The filter."""
        rate = self.operating_bandwidth_max
        return ServiceDescriptorFilter(
            service_description_id=self.service_description_id,
            operating_bandwidth_max_bps=parse_bit_rate(rate) if rate is not None else 0,
        )

    @model_validator(mode="after")
    def _bounds_something(self) -> KnownFilter:
        if not self.service_description_id and self.operating_bandwidth_max is None:
            raise ValueError("serviceDescriptionId or operatingBandwidthMax")
        return self


class PolicyDescription(_Part):
    """A network policy id, and where the service access information is that says how to use it (table A.3.3-1).

    service_descriptor_filters: for networks whose answer to an activation has none (castcore's extension).
    """

    network_policy_id: Name
    service_access_information_url: AccessUrl
    service_descriptor_filters: Annotated[tuple[KnownFilter, ...], Field(strict=False)] = ()


class M8(_Part):
    """The document."""

    catalogue: Annotated[tuple[Title, ...], Field(strict=False), AfterValidator(_check_any)]
    # What there is; a title names those that it is for.
    subscription_ids: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    device_type_ids: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    policy_descriptions: Annotated[tuple[PolicyDescription, ...], Field(strict=False)] = ()
    # Of the service without a policy: consumption reporting. By default that of the first policy description.
    service_access_information_url: AccessUrl | None = None

    def titles(self, subscription_ids: Collection[str] | None = None, device_type_id: str = "") -> tuple[Title, ...]:
        """The titles that a user with these subscriptions (None: all of them) can see on this type of device."""
        return tuple(
            each
            for each in self.catalogue
            if _admits(each.subscription_ids, subscription_ids)
            and (not device_type_id or not each.device_type_ids or device_type_id in each.device_type_ids)
        )

    def title(self, title_id: str) -> Title:
        """The title of that identifier, or else of that name. Raises TitleUnknown."""
        for each in self.catalogue:
            if each.title_id == title_id:
                return each
        for each in self.catalogue:
            if each.title == title_id:
                return each
        known = ", ".join(each.title_id for each in self.catalogue)
        raise TitleUnknown(f"title {title_id!r} is not in the catalogue (known: {known})")

    def access_url(self, title: Title, network_policy_id: str = "") -> str:
        """Where the service access information for a title is, with this policy or (empty) without one.

        Raises InvalidArgument for a network policy id that the document does not have, and where no URL is given.
        """
        if network_policy_id:
            for each in self.policy_descriptions:
                if each.network_policy_id == network_policy_id:
                    return each.service_access_information_url
            known = ", ".join(each.network_policy_id for each in self.policy_descriptions) or "none"
            raise InvalidArgument(f"network policy id {network_policy_id!r} is not in the document (known: {known})")
        url = title.service_access_information_url or self.service_access_information_url
        if url is None and self.policy_descriptions:
            url = self.policy_descriptions[0].service_access_information_url
        if url is None:
            raise InvalidArgument(
                f"title {title.title_id!r}: no serviceAccessInformationUrl, neither its own nor the document's"
            )
        return url

    def known_filters(self, network_policy_id: str) -> dict[str, ServiceDescriptorFilter]:
        """The service descriptor filters of a network policy, by the value of the answer (bit rates in bit/s)."""
        return {
            _answer_value(each.answer_value): each.message()
            for policy in self.policy_descriptions
            if policy.network_policy_id == network_policy_id
            for each in policy.service_descriptor_filters
        }

    @model_validator(mode="after")
    def _identifiers_are_known(self) -> M8:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        seen: set[str] = set()
        for at, title in enumerate(self.catalogue):
            if title.title_id in seen:
                yield f"catalogue[{at}].titleId: {title.title_id!r} is there twice"
            seen.add(title.title_id)
            for name, used, known in (
                ("subscriptionIds", title.subscription_ids, self.subscription_ids),
                ("deviceTypeIds", title.device_type_ids, self.device_type_ids),
            ):
                for each in used:
                    if each not in known:
                        named = ", ".join(known) or "none"
                        yield f"catalogue[{at}].{name}: {each!r} is none of the document's ({named})"
        policies = [each.network_policy_id for each in self.policy_descriptions]
        for at, policy in enumerate(policies):
            if policy in policies[:at]:
                yield f"policyDescriptions[{at}].networkPolicyId: {policy!r} is there twice"


def parse(text: str | bytes, *, source: str = "M8 document") -> M8:
    """The document. Raises M8Invalid with a violation for every property at fault."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise M8Invalid(f"{source}: expected JSON: {error}") from None
    try:
        return M8.model_validate(tree)
    except ValidationError as error:
        violations = [_violation(dict(each)) for each in error.errors(include_url=False)]
        told = "\n".join(f"{source}: {each.field or 'document'}: {each.description}" for each in violations)
        raise M8Invalid(told, violations=violations) from None


def read(path: Path) -> M8:
    """The document in a file. Raises M8Invalid, also where it cannot be read."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise M8Invalid(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, source=str(path))


def access_of(url: str) -> tuple[str, str]:
    """The M5 root and the provisioning session id in the URL of service access information.

    ``http://HOST/3gpp-m5/v2/service-access-information/ID``, or ``grpc://HOST:PORT/ID`` for the AF's gRPC services.
    Raises InvalidArgument.
    """
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    segments = parts.path.strip("/").split("/") if named else []
    if named and parts.scheme in ("grpc", "grpcs") and len(segments) == 1 and segments[0]:
        return f"{parts.scheme}://{parts.netloc}", unquote(segments[0])
    if named and parts.scheme in ("http", "https") and len(segments) > 1 and segments[-2] == _RESOURCE and segments[-1]:
        root = "/".join(segments[:-2])
        return f"{parts.scheme}://{parts.netloc}{f'/{root}' if root else ''}", unquote(segments[-1])
    raise InvalidArgument(
        f"service access information URL: expected http(s)://…/{_RESOURCE}/ID or grpc://HOST:PORT/ID, found {url!r}"
    )


def _answer_value(value: str) -> str:
    return str(parse_bit_rate(value)) if re.fullmatch(BIT_RATE_PATTERN, value) else value


def _admits(wanted: Collection[str], had: Collection[str] | None) -> bool:
    return had is None or not wanted or not set(wanted).isdisjoint(had)


def _violation(error: dict[str, object]) -> FieldViolation:
    path = ""
    location = error["loc"]
    assert isinstance(location, tuple)
    for each in location:
        path += f"[{each}]" if isinstance(each, int) else f"{'.' if path else ''}{each}"
    if error["type"] == "missing":
        return FieldViolation(path, "missing")
    if error["type"] == "extra_forbidden":
        return FieldViolation(path, "an unknown property")
    message = str(error["msg"]).removeprefix("Value error, ")
    found = error["input"]
    if isinstance(found, dict | list):
        return FieldViolation(path, message)
    return FieldViolation(path, f"expected {message.removeprefix('Input should be ')}, found {json.dumps(found)[:80]}")
