"""The role of a job: kept and shown, and asked for nothing."""

from __future__ import annotations

from launcher.errors import BadInputError
from launcher.settings import ACCOUNT_ID, AWS_MODE, LOCAL_ROLE_ARN


def role_arn(role: str | None) -> str:
    """Return the ARN of a role; a name becomes the ARN that the local account would give it."""
    if not role:
        return LOCAL_ROLE_ARN
    return role if role.startswith("arn:") else f"arn:aws:iam::{ACCOUNT_ID}:role/{role}"


def checked_role(role: str | None) -> str:
    """Return the role of a job on AWS.

    Raises:
        BadInputError: none is given, or it is a name and no ARN.
    """
    if not role:
        raise BadInputError(
            "no role is given, and a job on AWS runs with one.",
            'Name the ARN of a role of yours that SageMaker may take on: role="arn:aws:iam::ACCOUNT:role/NAME".',
        )
    if not role.startswith("arn:"):
        raise BadInputError(
            f"role='{role}' is no ARN, and its account is not looked up.",
            f"See: aws iam get-role --role-name {role} --query Role.Arn",
        )
    return role


def role_in(mode: str, role: str | None) -> str:
    """Return the ARN of a role in a session's mode.

    Raises:
        BadInputError: the mode is ``aws``, and it is no ARN.
    """
    return checked_role(role) if mode == AWS_MODE else role_arn(role)
