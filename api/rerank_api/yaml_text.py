"""Writes YAML that kubectl, PyYAML and this package's reader read alike."""

from typing import Any

import yaml

from rerank_api.scalars import resolve


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some reader of YAML takes for something else, as `on`, `y` or `1e3`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out: what is generated is read by people."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists under their field."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = isinstance(resolve(text), str) and text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def dump_yaml(value: Any) -> str:
    """Write a JSON value as one YAML document, fields in the order given."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
