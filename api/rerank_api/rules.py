"""Rules that no plain schema can state, written once in CEL.

The generated CRDs carry them as `x-kubernetes-validations`, and the manifest reader evaluates the same
strings, so that a cluster and a laptop refuse the same manifest with the same sentence. Only CEL that
Kubernetes 1.30 has too, and with its escapes: a property named by a CEL keyword is written `__package__`.
Format: https://kubernetes.io/docs/reference/using-api/cel/
"""

from dataclasses import dataclass
from typing import Final

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

KEYWORD: Final = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """One condition on a value, which CEL calls `self`."""

    cel: str
    """True for a value that may stand."""
    message: str
    """What to do about a value that may not, with an example; one line."""
    field: str = ""
    """The field to blame, as a path from `self` such as `metadata.name`; empty for `self` as a whole."""
    wording: str = ""
    """CEL for a sentence that quotes the value; `message` stands in where it fails or spans lines."""

    def as_schema(self) -> dict[str, str]:
        """Return the rule as an item of `x-kubernetes-validations`."""
        item = {"rule": self.cel, "message": self.message}
        if self.wording:
            item["messageExpression"] = self.wording
        if self.field:
            item["fieldPath"] = "." + self.field
        return item


def text_rule(cel: str, complaint: str) -> Rule:
    """Build a rule on a string; the sentence is the quoted string, then the complaint (no quotes in it)."""
    return Rule(cel, f"This {complaint}", wording=f'"\'" + self + "\' {complaint}"')


def pattern_rule(pattern: str, complaint: str) -> Rule:
    """Build a rule that wants a string to match a pattern without single quotes or backslashes."""
    return text_rule(f"self.matches('{pattern}')", complaint)


def between(low: int, high: int, example: int) -> Rule:
    """Build a rule on a whole number with both bounds included."""
    # The number is not quoted: an API server cannot bound the cost of making a number text, and refuses to.
    message = f"This is out of range: write a whole number from {low} to {high}, e.g. {example}"
    return Rule(f"self >= {low} && self <= {high}", message)


def above_zero(example: float) -> Rule:
    """Build a rule on a number (CEL's double)."""
    return Rule("self > 0.0", f"This is not above zero: write a positive number, e.g. {example}")


def exactly_one(fields: tuple[str, ...], message: str) -> Rule:
    """Build a rule that wants one of some optional fields; a CEL keyword comes with its `__` already."""
    return Rule(f"[{', '.join(f'has(self.{name})' for name in fields)}].exists_one(given, given)", message)


@dataclass(frozen=True)
class Ruled:
    """Attaches rules to an annotated type: `Annotated[str, Ruled(rule)]`."""

    rules: tuple[Rule, ...]

    def __init__(self, *rules: Rule) -> None:
        object.__setattr__(self, "rules", rules)

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the rules to the type's schema."""
        return with_rules(handler(core_schema), self.rules)


def with_rules(schema: JsonSchemaValue, rules: tuple[Rule, ...]) -> JsonSchemaValue:
    """Return a schema that carries these rules after those that it had."""
    carried = [*schema.get(KEYWORD, ()), *(rule.as_schema() for rule in rules)]
    return {**schema, KEYWORD: carried} if carried else schema
