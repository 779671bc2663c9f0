from __future__ import annotations

import pytest
from jobgate.adapters import query_protocol

_ASSUMED = b"""<?xml version="1.0" encoding="utf-8"?>
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult>
    <Credentials>
      <AccessKeyId>ASIA</AccessKeyId>
      <SecretAccessKey>a/b+c</SecretAccessKey>
      <SessionToken>x&amp;y==</SessionToken>
      <Expiration>2027-01-15T09:00:00Z</Expiration>
    </Credentials>
  </AssumeRoleResult>
  <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>
</AssumeRoleResponse>
"""


def test_an_answer_is_read_as_nested_objects() -> None:
    assert query_protocol.answer(_ASSUMED) == {
        "AssumeRoleResponse": {
            "AssumeRoleResult": {
                "Credentials": {
                    "AccessKeyId": "ASIA",
                    "SecretAccessKey": "a/b+c",
                    "SessionToken": "x&y==",
                    "Expiration": "2027-01-15T09:00:00Z",
                }
            },
            "ResponseMetadata": {"RequestId": "r"},
        }
    }


def test_a_request_is_a_form_with_its_version() -> None:
    body = query_protocol.form("AssumeRole", {"RoleArn": "arn:x/y"})
    assert body == b"Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Ax%2Fy"


@pytest.mark.parametrize(
    "body",
    [
        b"<a>",
        b"</a>",
        b"<a></b>",
        b"<a></a></a>",
        b"text",
        b"<a/>",
        b"<a b='c'></a>",
        b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        b"<a><![CDATA[x]]></a>",
        b"<a><!-- x --></a>",
        b"<a>&x;</a>",
        b"<a>&#65;</a>",
        b"<a>a & b</a>",
        b"\xff",
    ],
)
def test_what_is_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        query_protocol.answer(body)
