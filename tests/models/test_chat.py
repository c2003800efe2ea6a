"""Chat templates render as Hugging Face renders them, in a sandbox, with clear errors."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from splitweave.workers.models.chat import ChatTemplate, load_chat_template
from splitweave.workers.models.errors import ChatTemplateError
from splitweave.workers.models.tokenizer import load_tokenizer

NOW = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
HI = [{"role": "user", "content": "hi"}]


def test_smollm_chats_read_as_it_was_trained(smollm_path: Path) -> None:
    tokenizer = load_tokenizer(smollm_path)
    text = load_chat_template(smollm_path, tokenizer).render(HI, NOW)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer.encode_rendered(text)
    assert ids[:3] == [1, 9690, 198]
    assert ids.count(1) == 3
    assert ids.count(2) == 2


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>hi</s>"),
        ("{% if add_generation_prompt %}go{% endif %}", "go"),
        ("{{ strftime_now('%d %b %Y') }}", "03 Feb 2026"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "hi"}]'),
        ("{{ '<é>' | tojson }}", '"<é>"'),
        ("{% for m in messages %}{% break %}{% endfor %}x", "x"),
        ("{% generation %}{{ messages[0].role }}{% endgeneration %}", "user"),
        ("  {% if tools %}\n  T\n  {% endif %}\nend", "end"),
    ],
)
def test_the_dialect_is_hugging_faces(source: str, text: str) -> None:
    assert ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(HI, NOW) == text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refuses the messages: roles must"),
        ("{{ messages[0]['content'] + 1 }}", "template failed"),
        ("{{ messages[7].content }}", "template failed"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "template failed"),
        ("{{ messages.append(1) }}", "template failed"),
        ("{% for i in range(10**9) %}{% endfor %}", "template failed"),
    ],
)
def test_failures_say_why(source: str, reason: str) -> None:
    with pytest.raises(ChatTemplateError, match=reason):
        ChatTemplate(source).render(HI, NOW)


def test_a_broken_template_is_refused_when_loaded() -> None:
    with pytest.raises(ChatTemplateError, match="is broken"):
        ChatTemplate("{% if %}")


def test_a_model_without_a_template_says_what_to_send_instead() -> None:
    with pytest.raises(ChatTemplateError, match="send text or token ids"):
        ChatTemplate(None).render(HI, NOW)


def test_folders_may_hold_their_template_in_three_places(tmp_path: Path, smollm_path: Path) -> None:
    tokenizer = load_tokenizer(smollm_path)

    def rendered() -> str:
        return load_chat_template(tmp_path, tokenizer).render(HI, NOW)

    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"chat_template": "one"}')
    assert rendered() == "one"
    config.write_text('{"chat_template": [{"name": "default", "template": "two"}]}')
    assert rendered() == "two"
    (tmp_path / "chat_template.jinja").write_text("three")
    assert rendered() == "three"
