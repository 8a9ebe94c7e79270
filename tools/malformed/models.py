"""Models whose chat template, tokenizer, config or weights cannot be used."""

import json
from pathlib import Path

from malformed.case import Malformed
from rlnorm.trainers.tasks import shipped_model

SHIPPED = Path(shipped_model("quick"))
TEMPLATES = {
    "unclosed-for": "{% for m in messages %}{{ m.content }}",
    "unclosed-tag": "{% for m in messages",
    "unknown-tag": "{% foreach m in messages %}{% endforeach %}",
    "unknown-filter": "{{ messages | shout }}",
    "unknown-function": "{{ shout(messages) }}",
    "raises": "{{ raise_exception('only the system may speak') }}",
    "adds-text-to-number": "{{ 'a' + 1 }}",
    "adds-none": "{{ messages[0].content + none }}",
    "index": "{{ messages[7].content.x.y }}",
    "calls-text": "{{ messages[0].content() }}",
    "divides-by-zero": "{{ 1 // 0 }}",
    "undefined-attribute": "{{ tools.first.name }}",
    "iterates-number": "{% for m in 7 %}{% endfor %}",
    "slices-none": "{{ none[1:] }}",
    "length-of-none": "{{ none | length }}",
    "too-large-range": "{% for i in range(10000000) %}x{% endfor %}",
    "secret-attribute": "{{ messages.__class__.__mro__ }}",
    "includes-file": "{% include 'other.jinja' %}",
    "renders-nothing": "",
    "renders-nothing-for-user": "{% for m in messages if m.role == 'nobody' %}{{ m }}{% endfor %}",
}


def _settings(**changes: object) -> bytes:
    file = SHIPPED / "tokenizer_config.json"
    return json.dumps(json.loads(file.read_text()) | changes).encode()


def templates() -> list[Malformed]:
    """A chat template that fails, whatever it raises."""
    return [
        Malformed(
            name=f"template/{name}",
            arguments=["model.path=model"],
            model={
                "tokenizer_config.json": _settings(chat_template=text),
                "chat_template.jinja": None,
            },
            names=[r"chat template|has no tokens"],
        )
        for name, text in TEMPLATES.items()
    ]


def broken_files() -> list[Malformed]:
    """A file of the model that is missing, cut off, or of another model."""
    config = json.loads((SHIPPED / "config.json").read_text())
    weights = (SHIPPED / "model.safetensors").read_bytes()
    table: dict[str, dict[str, bytes | None]] = {
        "no-config": {"config.json": None},
        "config-cut-off": {"config.json": b'{"model_type": "qw'},
        "config-list": {"config.json": b"[]"},
        "config-empty": {"config.json": b""},
        "config-without-type": {
            "config.json": json.dumps(
                {k: v for k, v in config.items() if k != "model_type"}
            ).encode()
        },
        "config-unknown-type": {"config.json": json.dumps(config | {"model_type": "x"}).encode()},
        "no-tokenizer": {"tokenizer.json": None},
        "tokenizer-cut-off": {"tokenizer.json": b'{"version": "1.0", "mod'},
        "tokenizer-empty": {"tokenizer.json": b""},
        "tokenizer-list": {"tokenizer.json": b"[]"},
        "tokenizer-config-cut-off": {"tokenizer_config.json": b'{"a": '},
        "no-weights": {"model.safetensors": None},
        "weights-cut-off": {"model.safetensors": weights[: len(weights) // 2]},
        "weights-empty": {"model.safetensors": b""},
        "weights-text": {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"},
    }
    return [
        Malformed(
            name=f"model/{name}", arguments=["model.path=model"], model=files, names=["model"]
        )
        for name, files in table.items()
    ]


CASES = [*templates(), *broken_files()]
