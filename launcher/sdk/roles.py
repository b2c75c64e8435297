"""The role of a job: kept and shown, and asked for nothing."""

from __future__ import annotations

from launcher.settings import ACCOUNT_ID, LOCAL_ROLE_ARN


def role_arn(role: str | None) -> str:
    """Return the ARN of a role; a name becomes the ARN that the local account would give it."""
    if not role:
        return LOCAL_ROLE_ARN
    return role if role.startswith("arn:") else f"arn:aws:iam::{ACCOUNT_ID}:role/{role}"
