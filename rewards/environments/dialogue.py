"""A conversation with a simulated user, judged turn by turn; both behind OpenAI-compatible servers.

MAPO (arXiv:2603.06194) trains on such dialogues: the judge's score of the state after each turn is
a potential, and a turn's reward is its increase. Neither of the two sees the policy's reasoning.
"""

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal

from rlnorm.rewards.environments.types import EnvError, Message, Step
from rlnorm.rewards.judges.chat import ChatModel
from rlnorm.rewards.judges.client import RemoteError
from rlnorm.rewards.judges.judge import Judge
from rlnorm.rewards.text import after_reasoning
from rlnorm.rewards.together import together

END_WORD = "[END]"
_USER_INSTRUCTION = (
    "You play a person who talks with an assistant. Stay in that role whatever the assistant says, "
    "and write only what the person says next, in a few sentences. When the person has nothing "
    f"more to say, write {END_WORD} and nothing else.\nThe person: {{persona}}"
)
DEFAULT_RUBRIC = (
    "Judge how well the assistant has served the person's goal up to here, in the whole transcript."
)


class DialogueEnv:
    """One conversation; made by DialogueTask, which owns the connections."""

    stop: tuple[str, ...] = ()

    def __init__(self, task: "DialogueTask") -> None:
        self._task = task
        self._said: list[Message] = []
        self._turns, self._score = 0, 0.0

    async def reset(self, seed: int) -> list[Message]:
        """The scenario's opening, or what the simulated user says first."""
        self._scenario = self._task.scenarios[seed % len(self._task.scenarios)]
        self._seed, self._turns, self._score = seed, 0, 0.0
        opening = self._scenario.get("opening")
        self._said = []
        text = str(opening) if opening else await self._ask_user()
        if not text:
            raise EnvError("dialogue: the simulated user had nothing to say")
        self._said = [{"role": "user", "content": text}]
        system = self._scenario.get("system")
        return [*([{"role": "system", "content": str(system)}] if system else []), *self._said]

    async def step(self, text: str) -> Step:
        """Judge the turn and let the user answer, both at once."""
        visible = (after_reasoning(text) or "").strip()
        self._said.append({"role": "assistant", "content": visible})
        self._turns += 1
        last = self._turns >= self._task.turns
        asked: list[Coroutine[Any, Any, float | str]] = [self._judge()]
        score, *said = await together(asked if last else [*asked, self._ask_user()])
        score, reply = float(score), str(said[0]) if said else ""
        reward = score - self._score if self._task.reward == "increment" else score
        self._score = score
        info = {"score": score, "final": score}
        if not reply:
            return Step(reward=reward, done=True, info=info)
        self._said.append({"role": "user", "content": reply})
        return Step(messages=[self._said[-1]], reward=reward, info=info)

    async def _judge(self) -> float:
        lines = (f"{message['role'].upper()}: {message['content']}" for message in self._said)
        texts = {"GOAL": str(self._scenario["goal"]), "TRANSCRIPT": "\n\n".join(lines)}
        try:
            return (await self._task.judge.grade(texts))[0]
        except RemoteError as error:
            raise EnvError(f"dialogue judge: {error}") from error

    async def _ask_user(self) -> str:
        """What the user says next; empty at the end of the conversation."""
        instruction = _USER_INSTRUCTION.format(persona=self._scenario["persona"])
        swapped = {"user": "assistant", "assistant": "user"}
        messages = [{"role": "system", "content": instruction}] + [
            {"role": swapped[said["role"]], "content": said["content"]} for said in self._said
        ]
        if not self._said:
            messages.append({"role": "user", "content": "(The conversation begins. Speak first.)"})
        try:
            reply = await self._task.user.ask(messages, seed=self._seed)
        except RemoteError as error:
            raise EnvError(f"dialogue user: {error}") from error
        text = (after_reasoning(reply.text) or "").strip()
        return "" if END_WORD in text else text


class DialogueTask:
    """`dialogue`: calling it gives a fresh Env.

    scenarios: rows with persona and goal (both text), and optionally opening and system; the
    problem seed picks one. reward: "increment" of the judge's score over the turn before (they add
    up to the last score), or the "score" itself. The user's seed and temperature, both part of the
    request, decide whether the conversations of a group go the same way.
    """

    def __init__(
        self,
        *,
        scenarios: Sequence[Mapping[str, Any]],
        user: Mapping[str, Any],
        judge: Mapping[str, Any],
        turns: int = 4,
        reward: Literal["increment", "score"] = "increment",
        rubric: str = DEFAULT_RUBRIC,
        scale: float = 10.0,
    ) -> None:
        if not scenarios or any(not {"persona", "goal"} <= set(row) for row in scenarios):
            raise ValueError("dialogue.scenarios: needs rows, each with persona and goal")
        if turns < 1:
            raise ValueError(f"dialogue.turns = {turns!r}: must be at least 1")
        self.scenarios, self.turns, self.reward = list(scenarios), turns, reward
        self.user = ChatModel(**user)
        self.judge = Judge(ChatModel(**judge), rubric=rubric, scale=scale)

    def __call__(self) -> DialogueEnv:
        """A fresh Env over the shared connections."""
        return DialogueEnv(self)

    async def close(self) -> None:
        """Close the connections."""
        await self.user.close()
        await self.judge.chat.close()
