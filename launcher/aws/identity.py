"""Who a client is here, and what it may do: everybody is a session of one role, and may do everything."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from launcher.aws.errors import AwsError
from launcher.settings import ACCOUNT_ID, LOCAL_ROLE_ARN

ROLE_NAME = LOCAL_ROLE_ARN.rpartition("/")[2]
TRUST_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
_ROLE_ID = "AROALAUNCHERLOCAL0000"
_SESSION = "launcher"
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def get_caller_identity(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return a session of the default role, from which the SageMaker SDK finds the role to run jobs as."""
    return {
        "Arn": f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/{ROLE_NAME}/{_SESSION}",
        "UserId": f"{_ROLE_ID}:{_SESSION}",
        "Account": ACCOUNT_ID,
    }


def get_role(document: Mapping[str, Any], home: Path) -> dict[str, Any] | None:
    """Return the default role, which is always there; None for another one, and once moto keeps the roles."""
    if document.get("RoleName") != ROLE_NAME or "moto" in sys.modules:
        return None
    role = {
        "Path": "/",
        "RoleName": ROLE_NAME,
        "RoleId": _ROLE_ID,
        "Arn": LOCAL_ROLE_ARN,
        "CreateDate": _CREATED,
        "AssumeRolePolicyDocument": quote(TRUST_POLICY),
        "Description": "Every job of the local AWS may run as this role.",
        "MaxSessionDuration": 3600,
    }
    return {"Role": role}


def simulate_principal_policy(document: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """Return that each action is allowed on each resource: nothing is forbidden here.

    Raises:
        AwsError: an action or the principal is missing.
    """
    actions, resources = document.get("ActionNames"), document.get("ResourceArns") or ["*"]
    if not isinstance(actions, list) or not isinstance(resources, list) or not document.get("PolicySourceArn"):
        raise AwsError("InvalidInput", "PolicySourceArn and ActionNames are needed, and lists have numbered members.")
    results = [
        {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": "allowed", "MatchedStatements": []}
        for action in actions
        for resource in resources
    ]
    return {"EvaluationResults": results, "IsTruncated": False}
