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
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": CredentialsError,
    "Blocked": CredentialsError,
    "ConcurrentTagAccess": TransientError,
    "DependencyViolation": TransientError,
    "ExpiredToken": CredentialsError,
    "ExpiredTokenException": CredentialsError,
    "IdempotentInstanceTerminated": CapacityError,
    "IdempotentParameterMismatch": TransientError,
    "IncorrectInstanceState": TransientError,
    "IncorrectSpotRequestState": TransientError,
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
    "InvalidAMIID.Malformed": UnsupportedError,
    "InvalidAMIID.NotFound": UnsupportedError,
    "InvalidAMIID.Unavailable": UnsupportedError,
    "InvalidBlockDeviceMapping": UnsupportedError,
    "InvalidClientTokenId": CredentialsError,
    "InvalidGroup.NotFound": TransientError,
    "InvalidIPAddress.InUse": TransientError,
    "InvalidInstanceType": UnsupportedError,
    "InvalidKeyPair.NotFound": UnsupportedError,
    "InvalidParameterCombination": UnsupportedError,
    "InvalidParameterValue": UnsupportedError,
    "InvalidPlacementGroup.InUse": TransientError,
    "InvalidPlacementGroup.Unknown": TransientError,
    "InvalidSubnetID.NotFound": UnsupportedError,
    "MaxIOPSLimitExceeded": QuotaError,
    "MaxSpotInstanceCountExceeded": QuotaError,
    "NetworkInterfaceLimitExceeded": QuotaError,
    "OptInRequired": CredentialsError,
    "PendingVerification": QuotaError,
    "RequestExpired": CredentialsError,
    "RequestLimitExceeded": TransientError,
    "ReservationCapacityExceeded": CapacityError,
    "ResourceCountExceeded": TransientError,
    "RulesPerSecurityGroupLimitExceeded": QuotaError,
    "SecurityGroupLimitExceeded": QuotaError,
    "SecurityGroupsPerInterfaceLimitExceeded": QuotaError,
    "ServerInternal": TransientError,
    "ServiceUnavailable": TransientError,
    "SignatureDoesNotMatch": CredentialsError,
    "SpotMaxPriceTooLow": CapacityError,
    "TagLimitExceeded": UnsupportedError,
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
    "VolumeTypeNotAvailableInZone": CapacityError,
}
"""Any other code goes by its HTTP status."""

SCOPES: Final[Mapping[str, Scope]] = {
    "IdempotentInstanceTerminated": Scope.OFFER,
    "InsufficientAddressCapacity": Scope.REGION,
    "InvalidAMIID.NotFound": Scope.REGION,
    "InvalidAMIID.Unavailable": Scope.REGION,
    "InvalidBlockDeviceMapping": Scope.OFFER,
    "InvalidInstanceType": Scope.REGION,
    "InvalidKeyPair.NotFound": Scope.REGION,
    "InvalidSubnetID.NotFound": Scope.REGION,
    "SpotMaxPriceTooLow": Scope.ZONE,
}
"""Where a code reaches further, or less far, than its class does."""

_WORDS: Final = (
    # A policy of an organisation, which most often forbids regions.
    ("UnauthorizedOperation", "explicit deny in a service control policy", Scope.REGION),
    ("InvalidParameterValue", "for InstanceType", Scope.REGION),  # a type that the region does not know
)
"""A code, a part of what AWS says with it, and where both together reach."""

HINTS: Final[Mapping[str, str]] = {
    "AddressLimitExceeded": "ask Service Quotas for more Elastic IP addresses, or set clouds.aws.private_ips",
    "AuthFailure": HINT,
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": "the account's first spot machine needs a role: have an "
    "administrator run `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com` once",
    "InsufficientFreeAddressesInSubnet": "name a larger subnet in clouds.aws.subnets",
    "InvalidKeyPair.NotFound": "key pairs belong to one region: import clouds.aws.key_pair there, or unset it, for "
    "Styx's own key needs none",
    "MaxIOPSLimitExceeded": "ask Service Quotas for more EBS IOPS in this region, or choose a lower disk_tier",
    "MaxSpotInstanceCountExceeded": "ask Service Quotas for more spot vCPUs of this family in this region",
    "OptInRequired": "enable the region, or accept the image's terms in AWS Marketplace, in the account named above",
    "PendingVerification": "AWS checks new accounts for up to four hours; try again later",
    "SecurityGroupLimitExceeded": "remove unused security groups, or name one in clouds.aws.security_groups",
    "UnauthorizedOperation": "`styx check aws --permissions` says which permissions are missing",
    "VcpuLimitExceeded": "ask Service Quotas for more vCPUs of this family in this region",
    "VolumeLimitExceeded": "ask Service Quotas for more EBS storage in this region, or choose a smaller disk_size",
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

_ENCODED: Final = "Encoded authorization failure message:"
"""What comes after it is of no use to a reader, and a thousand characters long."""

_RETRY_AFTER_S: Final[Mapping[str, float]] = {
    "DependencyViolation": 5.0,
    "IdempotentParameterMismatch": 5.0,
    "IncorrectInstanceState": 5.0,
    "IncorrectSpotRequestState": 5.0,
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
    code, message = str(said.get("Code") or ""), str(said.get("Message") or "").partition(_ENCODED)[0].rstrip()
    status = int(about.get("HTTPStatusCode") or 0)
    kind = ERRORS.get(code) or (TransientError if status >= 500 or status == 429 else DriverError)
    vendor = VendorDetail(code=code, message=message, request_id=about.get("RequestId"))
    text = f"{doing}: AWS says {code}: {message.rstrip('.') or 'nothing else'}"
    if issubclass(kind, TransientError):
        return kind(text, retry_after_s=_RETRY_AFTER_S.get(code, 2.0), vendor=vendor)
    hint = HINTS.get(code)
    if hint is None and kind is CredentialsError:
        hint = f"the credentials are from {origin}; {HINT}" if origin else HINT
    scope = next((where for one, words, where in _WORDS if one == code and words in message), SCOPES.get(code))
    return kind(text, scope=scope, vendor=vendor, hint=hint)


def code_of(error: Exception) -> str:
    """AWS's code of a `ClientError`; empty for anything else."""
    response: Any = getattr(error, "response", None)
    return str(response["Error"].get("Code", "")) if isinstance(response, Mapping) and "Error" in response else ""
