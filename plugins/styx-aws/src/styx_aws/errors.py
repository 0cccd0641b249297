"""AWS's error codes, and what each tells the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from styx.plugin import (
    CapacityError,
    CloudError,
    CredentialsError,
    DriverError,
    QuotaError,
    Scope,
    TransientError,
    UnsupportedError,
    VendorDetail,
)

HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`; with single sign-on, run `aws sso login`"
)

ERRORS: Final[Mapping[str, type[CloudError]]] = {
    "AccessDenied": CredentialsError,
    "AccessDeniedException": CredentialsError,
    "AddressLimitExceeded": QuotaError,
    "AuthFailure": CredentialsError,
    "Blocked": CredentialsError,
    "DependencyViolation": TransientError,
    "ExpiredToken": CredentialsError,
    "ExpiredTokenException": CredentialsError,
    "IdempotentInstanceTerminated": CapacityError,
    "IdempotentParameterMismatch": TransientError,
    "IncorrectInstanceState": TransientError,
    "InstanceLimitExceeded": QuotaError,
    "InsufficientAddressCapacity": CapacityError,
    "InsufficientCapacity": CapacityError,
    "InsufficientFreeAddressesInSubnet": CapacityError,
    "InsufficientHostCapacity": CapacityError,
    "InsufficientInstanceCapacity": CapacityError,
    "InsufficientReservedInstanceCapacity": CapacityError,
    "InsufficientVolumeCapacity": CapacityError,
    "InternalError": TransientError,
    "InternalFailure": TransientError,
    "InvalidAMIID.NotFound": UnsupportedError,
    "InvalidAMIID.Unavailable": UnsupportedError,
    "InvalidClientTokenId": CredentialsError,
    "InvalidGroup.NotFound": TransientError,
    "InvalidIPAddress.InUse": TransientError,
    "InvalidParameterCombination": UnsupportedError,
    "InvalidParameterValue": UnsupportedError,
    "InvalidPlacementGroup.InUse": TransientError,
    "InvalidSubnetID.NotFound": UnsupportedError,
    "MaxSpotInstanceCountExceeded": QuotaError,
    "OptInRequired": CredentialsError,
    "PendingVerification": QuotaError,
    "RequestExpired": CredentialsError,
    "RequestLimitExceeded": TransientError,
    "ReservationCapacityExceeded": CapacityError,
    "ResourceCountExceeded": TransientError,
    "SecurityGroupLimitExceeded": QuotaError,
    "SecurityGroupsPerInterfaceLimitExceeded": QuotaError,
    "ServerInternal": TransientError,
    "ServiceUnavailable": TransientError,
    "SignatureDoesNotMatch": CredentialsError,
    "SpotMaxPriceTooLow": CapacityError,
    "Throttling": TransientError,
    "ThrottlingException": TransientError,
    "Unavailable": TransientError,
    "UnauthorizedException": CredentialsError,
    "UnauthorizedOperation": CredentialsError,
    "UnrecognizedClientException": CredentialsError,
    "Unsupported": CapacityError,
    "UnsupportedOperation": UnsupportedError,
    "VPCIdNotSpecified": DriverError,
    "VcpuLimitExceeded": QuotaError,
    "VolumeLimitExceeded": QuotaError,
}
"""Any other code goes by its HTTP status."""

SCOPES: Final[Mapping[str, Scope]] = {
    "InsufficientAddressCapacity": Scope.REGION,
    "IdempotentInstanceTerminated": Scope.OFFER,
    "SpotMaxPriceTooLow": Scope.ZONE,
}
"""Where a code reaches further, or less far, than its class does."""

HINTS: Final[Mapping[str, str]] = {
    "AddressLimitExceeded": "ask Service Quotas for more Elastic IP addresses, or set clouds.aws.private_ips",
    "AuthFailure": HINT,
    "InsufficientFreeAddressesInSubnet": "name a larger subnet in clouds.aws.subnets",
    "MaxSpotInstanceCountExceeded": "ask Service Quotas for more spot vCPUs of this family in this region",
    "OptInRequired": "enable the region, or accept the image's terms in AWS Marketplace, in the account named above",
    "PendingVerification": "AWS checks new accounts for up to four hours; try again later",
    "SecurityGroupLimitExceeded": "remove unused security groups, or name one in clouds.aws.security_groups",
    "UnauthorizedOperation": "`styx check aws --permissions` says which permissions are missing",
    "VcpuLimitExceeded": "ask Service Quotas for more vCPUs of this family in this region",
}
"""What the user can do, beside trying elsewhere."""

GONE: Final = frozenset(
    {
        "InvalidAddress.NotFound",
        "InvalidAllocationID.NotFound",
        "InvalidAssociationID.NotFound",
        "InvalidGroup.NotFound",
        "InvalidGroupId.NotFound",
        "InvalidInstanceID.NotFound",
        "InvalidPlacementGroup.Unknown",
        "InvalidSpotInstanceRequestID.NotFound",
        "InvalidVolume.NotFound",
    }
)
"""What removing something that is gone already is answered with."""

_RETRY_AFTER_S: Final[Mapping[str, float]] = {
    "DependencyViolation": 5.0,
    "IdempotentParameterMismatch": 5.0,
    "IncorrectInstanceState": 5.0,
    "InvalidPlacementGroup.InUse": 5.0,
    "RequestLimitExceeded": 5.0,
}


def translated(error: Exception, doing: str, origin: str = "") -> CloudError:
    """What boto3 raised, as an instruction to the engine.

    Args:
        error: A `ClientError`, or another exception of botocore.
        doing: The action, for the message: `RunInstances in us-east-1`.
        origin: Where the credentials are from.
    """
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping) and isinstance(response.get("Error"), Mapping):
        return _refusal(response, doing, origin)
    name = type(error).__name__
    if name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}:
        return CredentialsError(f"{doing}: AWS has no usable credentials ({name})", hint=HINT)
    if name in {"ParamValidationError", "UnknownServiceError", "InvalidRegionError", "ValidationError"}:
        return UnsupportedError(f"{doing}: not a request that AWS knows: {str(error)[:300]}")
    return TransientError(f"{doing}: no answer from AWS ({name})", retry_after_s=2.0)


def _refusal(response: Mapping[str, Any], doing: str, origin: str) -> CloudError:
    said, about = response["Error"], response.get("ResponseMetadata") or {}
    code, message = str(said.get("Code") or ""), str(said.get("Message") or "")
    status = int(about.get("HTTPStatusCode") or 0)
    kind = ERRORS.get(code) or (TransientError if status >= 500 or status == 429 else DriverError)
    vendor = VendorDetail(code=code, message=message, request_id=about.get("RequestId"))
    text = f"{doing}: AWS says {code}: {message.rstrip('.') or 'nothing else'}"
    if issubclass(kind, TransientError):
        return kind(text, retry_after_s=_RETRY_AFTER_S.get(code, 2.0), vendor=vendor)
    hint = HINTS.get(code)
    if hint is None and kind is CredentialsError:
        hint = f"the credentials are from {origin}; {HINT}" if origin else HINT
    return kind(text, scope=SCOPES.get(code), vendor=vendor, hint=hint)


def code_of(error: Exception) -> str:
    """AWS's code of a `ClientError`; empty for anything else."""
    response: Any = getattr(error, "response", None)
    return str(response["Error"].get("Code", "")) if isinstance(response, Mapping) and "Error" in response else ""
