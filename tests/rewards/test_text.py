import pytest

from rlnorm.rewards.text import after_reasoning, find_boxes, first_turn


@pytest.mark.parametrize(
    "rest",
    [
        "<|im_end|>\n<|im_start|>user\n4",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n4",
        "<|eot|><|header_start|>user<|header_end|>4",
        "</s>4",
        "</s>[INST] 4",
        "[INST] 4 [/INST]",
        "[/INST] 4",
        "<end_of_turn>\n<start_of_turn>user\n4",
        "<turn|>\n<|turn>user\n4",
        "<eos>4",
        "<|endoftext|>4",
        "<|end_of_text|>4",
        "<|end|>\n<|user|>4",
        "<|user|>4",
        "<|return|>",
        "<｜end▁of▁sentence｜><｜User｜>4",
        "<|END_OF_TURN_TOKEN|>4",
        "[|endofturn|]\n[|user|]4",
        "<|im_end|>",
    ],
)
def test_what_follows_the_first_turn_is_cut(rest):
    assert first_turn("12" + rest) == "12"


@pytest.mark.parametrize(
    "text",
    [
        "1 < 2 and [3] <= 4",
        "<answer>5</answer>",
        "<think>a</think>5",
        "the token '</s>' is number 2",
        "<|channel|>a<|message|>b<|end|><|start|>assistant<|channel|>c",
        "a <end> of <s>text",
    ],
)
def test_other_brackets_end_no_turn(text):
    assert first_turn(text) == text


def test_what_opens_the_answer_is_not_part_of_it():
    assert first_turn("[/INST] 5 </s>[INST] 6") == " 5 "
    assert first_turn("<|im_start|>assistant\n5<|im_end|>") == "\n5"


def test_only_the_final_channel_counts():
    analysis = "<|channel|>analysis<|message|>4<|end|><|start|>assistant"
    assert after_reasoning(analysis + "<|channel|>final<|message|>12<|return|>") == "12"
    assert after_reasoning(analysis) is None


def test_reasoning_that_never_ends_in_its_turn_is_open():
    assert after_reasoning("<think>4<|im_end|></think>5") is None


def test_only_the_text_after_closed_reasoning_counts():
    assert after_reasoning("a</think>b</think>c") == "c"
    assert after_reasoning("no tags") == "no tags"
    assert after_reasoning("<think>a</think>b<think>c") is None


def test_only_the_last_boxes_are_read():
    boxes = find_boxes("".join(f"\\boxed{{{i}}}" for i in range(200)))
    assert [b.content for b in boxes] == [str(i) for i in range(136, 200)]
