"""The SAM template as CloudFormation gets it, translated on this machine without a call to AWS."""

from __future__ import annotations

import copy
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import intrinsics_multi_constructor

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where the translator wants an S3 address, whatever it is; `sam deploy` puts the real one there.
_CODE_PROPERTIES = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
}


# It warns that a feature toggle of AWS's own isn't set, which it never is outside of AWS.
logging.getLogger("samtranslator").setLevel(logging.ERROR)


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms (`!Ref`, `!Sub`, …)."""


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)


def read_template(path: Path) -> dict[str, Any]:
    """The SAM template at `path` as written, CloudFormation's short forms as their long ones."""
    template: dict[str, Any] = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a subclass of the safe loader
    return template


def translate(
    path: Path, parameters: Mapping[str, str], *, region: str = "eu-central-1"
) -> dict[str, Any]:
    """Translate the SAM template at `path`; no network, no credentials.

    `parameters` overrides the template's defaults. The result's `Parameters` carry the values that
    counted as their defaults, so a `Ref` that SAM left in place can be resolved from the result
    alone. Raises samtranslator's InvalidDocumentException for a template that SAM refuses.
    """
    template = read_template(path)
    _set_parameters(template, parameters)
    # One anchor may stand for several resources, and the translator changes what it is given.
    template = copy.deepcopy(template)
    _replace_local_code(template)
    translator = Translator(None, Parser(), boto_session=boto3.Session(region_name=region))
    translated: dict[str, Any] = translator.translate(
        template, parameter_values=dict(parameters), get_managed_policy_map=dict
    )
    return translated


def _set_parameters(template: dict[str, Any], parameters: Mapping[str, str]) -> None:
    declared = template.get("Parameters", {})
    unknown = parameters.keys() - declared.keys()
    if unknown:
        raise ValueError(f"The template has no parameter named {', '.join(sorted(unknown))}.")
    for name, value in parameters.items():
        declared[name]["Default"] = value


def _replace_local_code(template: dict[str, Any]) -> None:
    common = template.get("Globals", {}).get("Function", {})
    common.pop("CodeUri", None)
    for name, resource in template.get("Resources", {}).items():
        code = _CODE_PROPERTIES.get(resource.get("Type"))
        if code:
            resource.setdefault("Properties", {})[code] = f"s3://local/{name}"


if __name__ == "__main__":
    print(json.dumps(translate(Path(sys.argv[1]), {}), indent=2))
