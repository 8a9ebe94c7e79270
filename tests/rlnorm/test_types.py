from rlnorm.types import FinishReason, Role


def test_only_the_token_budget_truncates():
    assert [reason for reason in FinishReason if reason.is_truncated] == [FinishReason.LENGTH]


def test_roles_and_reasons_are_written_as_words():
    assert [str(role) for role in Role] == ["train", "baseline", "dropped"]
    assert FinishReason("length") is FinishReason.LENGTH
