"""The example of docs/environments.md runs as it stands."""

import re
from pathlib import Path

from rlnorm.rewards.environments import Step

DOCS = Path(__file__).parents[3] / "docs" / "environments.md"


async def test_the_first_example():
    source = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL).group(1)
    names = {}
    exec(source, names)
    env = names["Guess"]()
    assert await env.reset(13) == [{"role": "user", "content": "Guess a digit."}]
    wrong = await env.step("4")
    assert (wrong.reward, wrong.done, len(wrong.messages)) == (0.0, False, 1)
    assert await env.step(" 3 ") == Step(reward=1.0, done=True)
