"""What a chat template makes of a row, before torch is loaded."""

import json
import shutil
import subprocess
import sys

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.data.problems import ProblemRow
from rlnorm.trainers.config.template import fast_tokenizer, messages_of, prompt_tokens
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.tasks import shipped_model

ROW = ProblemRow(id="seven", question="1+1 ?", answer="2", source="mine.jsonl")


def test_the_fast_tokenizer_gives_the_tokens_of_the_models_own():
    messages = messages_of(ROW, "be brief")
    assert [m["role"] for m in messages] == ["system", "user"]
    fast, own = fast_tokenizer(str(shipped_model("quick"))), load_tokenizer("shipped:quick")
    assert prompt_tokens(fast, messages, ROW) == prompt_tokens(own, messages, ROW)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "prompt 'seven' of mine.jsonl: has no tokens"),
        ("{{ 'a' + 1 }}", r"prompt 'seven' of mine.jsonl: the chat template of .*\(user\): Type"),
    ],
)
def test_a_template_that_fails_or_renders_nothing_is_refused(template, message):
    tokenizer = fast_tokenizer(str(shipped_model("quick")))
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message):
        prompt_tokens(tokenizer, messages_of(ROW, None), ROW)


def test_a_folder_without_a_fast_tokenizer_is_left_to_its_own_class(tmp_path):
    assert fast_tokenizer(str(tmp_path)) is None


def test_a_special_token_of_the_models_own_class_is_left_to_it(tmp_path):
    # GPT-2's class names the token that its files leave out
    shutil.copytree(shipped_model("quick"), tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings |= {"chat_template": "{{ bos_token + messages[0].content }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    assert fast_tokenizer(str(tmp_path)) is None


def test_torch_is_not_loaded():
    code = (
        "import sys; from rlnorm.trainers.config.template import fast_tokenizer as f;"
        f"assert f({str(shipped_model('quick'))!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
