"""`jobgate keys`: rotation between the two slots, and that no token is refused meanwhile."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jobgate.adapters.access_tokens import PublishedKeysVerifier
from jobgate.adapters.deployment_reader import DeploymentReader
from jobgate.adapters.kms_signer import KMSSigner
from jobgate.cli.registry import Registry
from jobgate.core import keys
from jobgate.core.access_token import claims_of
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken
from moto import mock_aws

from tests.support import builders as b
from tests.support.operators_stack import NOW, OperatorsStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BOUNDS = Bounds(token_max=600)
WAIT = keys.usual_wait(BOUNDS)
RETIRES = NOW + WAIT + 2 * BOUNDS.leeway + BOUNDS.token_max


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    with mock_aws():
        stack = OperatorsStack.deploy()
        stack.real = TwoKeys(stack)  # type: ignore[assignment]
        stack.parameters = {"TokenMaxSeconds": "600"}
        stack.json("setup")
        yield stack


def published(stack: OperatorsStack) -> list[tuple[str, str]]:
    """Slot and state of each key, the oldest first."""
    found = sorted(stack.json("keys", "list"), key=lambda key: key["signs_from"])
    return [(key["slot"], key["state"]) for key in found]


def test_a_rotation_publishes_then_signs_then_retires_by_itself(stack: OperatorsStack) -> None:
    before = published(stack)
    stack.json("keys", "rotate")
    states = []
    for moment in (NOW, NOW + WAIT - 1, NOW + WAIT, RETIRES - 1, RETIRES):
        stack.now = moment
        states.append(published(stack))

    waiting = [("A", "signs"), ("B", "published")]
    changed = [("A", "verifies"), ("B", "signs")]
    assert before == [("A", "signs")]
    assert states == [waiting, waiting, changed, changed, [("A", "retired"), ("B", "signs")]]


def test_slots_are_used_in_turn(stack: OperatorsStack) -> None:
    for slot in "BAB":
        stack.json("keys", "rotate")
        stack.now += WAIT
        assert [slot] == [name for name, state in published(stack) if state == "signs"]


def test_a_second_rotation_waits_for_the_first(stack: OperatorsStack) -> None:
    stack.json("keys", "rotate")
    before = Registry(stack.table).public_keys()

    answer = stack.run("keys", "rotate")

    assert (answer.code, Registry(stack.table).public_keys()) == (4, before)


@pytest.mark.parametrize("wait", ["0", "119.9", "-1", "nan"])
def test_a_key_never_signs_before_every_function_knows_it(stack: OperatorsStack, wait: str) -> None:
    assert stack.run("keys", "rotate", "--wait", wait).code == 2
    assert published(stack) == [("A", "signs")]


def test_the_stacks_own_bounds_count(stack: OperatorsStack) -> None:
    stack.parameters = {
        "IssuersMaxAgeSeconds": "1",
        "LeewaySeconds": "2",
        "TokenMaxSeconds": "0",
        "JobKeptSeconds": "100",
        "StageName": "live",
    }
    stack.json("keys", "rotate", "--wait", "5")

    old = next(k for k in Registry(stack.table).public_keys() if k.retire_after is not None)
    assert old.retire_after == NOW + 5 + 2 + 100 + 2


def test_of_two_rotations_at_once_one_counts(stack: OperatorsStack) -> None:
    real, rotated = stack.real, []

    def late(service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "TransactWriteItems" and not rotated:
            rotated.append(True)
            stack.json("keys", "rotate")
        return real(service, operation, request)

    stack.real = late  # type: ignore[assignment]

    assert stack.run("keys", "rotate").code == 3
    assert published(stack) == [("A", "signs"), ("B", "published")]


def test_a_killed_rotation_has_changed_nothing_or_all(stack: OperatorsStack) -> None:
    stack.run("keys", "list")
    seen = set()
    for after in range(8):
        stack.break_after = after
        stack.run("keys", "rotate")
        stack.break_after = None
        retiring = sum(k.retire_after is not None for k in Registry(stack.table).public_keys())
        seen.add((len(published(stack)), retiring))

    assert seen == {(1, 0), (2, 1)}


class TwoKeys:
    """An AWSCall whose KMS signs digests, which moto's doesn't; all else is moto."""

    def __init__(self, stack: OperatorsStack) -> None:
        self._real = stack.real
        slots = (stack.outputs["SigningKeyAArn"], stack.outputs["SigningKeyBArn"])
        self._keys = {slot: ec.generate_private_key(ec.SECP256R1()) for slot in slots}

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if service != "kms":
            return self._real(service, operation, request)
        key = self._keys[request["KeyId"]]
        if operation == "Sign":
            algorithm = ec.ECDSA(Prehashed(hashes.SHA256()))
            return {"Signature": key.sign(request["Message"], algorithm)}
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return {"PublicKey": key.public_key().public_bytes(*form)}


class Function:
    """A warm function: its own copy of the keys, read when it happened to, and its own clock."""

    def __init__(self, stack: OperatorsStack, *, skew: float) -> None:
        def clock() -> float:
            return stack.now + skew

        self._clock = clock
        self.reader = DeploymentReader(stack.real, "table", bounds=BOUNDS, clock=clock)
        self.signer = KMSSigner(stack.real, self.reader, clock=clock)
        self.verifier = PublishedKeysVerifier(self.reader, bounds=BOUNDS, clock=clock)

    def sign(self) -> tuple[str, float]:
        now = self._clock()
        token = b.an_access_token(expires_at=int(now + BOUNDS.token_max))
        base_url = self.reader().base_url
        assert base_url is not None
        return self.signer.sign(claims_of(token, base_url=base_url, now=now)), token.expires_at


def test_while_keys_are_rotated_under_load_no_token_is_refused(stack: OperatorsStack) -> None:
    half = BOUNDS.leeway / 2
    functions = [Function(stack, skew=skew) for skew in (-half, -1, 0, 1, half)]
    for number, function in enumerate(functions):
        # So that each reads the keys again at a moment of its own.
        stack.now = NOW + 60 + number * 13
        function.sign()
    issued: list[tuple[str, float]] = []
    signers: set[str] = set()
    began = stack.now
    rotate_at = {5: True, 600: True, 1500: True}
    for second in range(0, 2400, 30):
        stack.now = began + second
        if any(rotate_at.pop(at) for at in list(rotate_at) if at <= second):
            stack.json("keys", "rotate")
        signed = [function.sign() for function in functions]
        signers |= {_kid(token) for token, _ in signed}
        # Fresh ones of everybody, and each old one until its end.
        sample = [*signed, *issued[second % 7 :: 29]]
        for token, ends in sample:
            for function in functions[second % 2 :: 2]:
                if ends > stack.now + half:
                    function.verifier.verify(token)
        issued += signed

    assert len(signers) == 2
    stack.now += 2 * BOUNDS.token_max
    with pytest.raises(InvalidToken):
        functions[0].verifier.verify(issued[0][0])


def _kid(token: str) -> str:
    head = token.split(".", maxsplit=1)[0]
    return str(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"])
