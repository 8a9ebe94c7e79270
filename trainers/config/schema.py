"""Every key of the configuration of a run, with its type, default and meaning.

Torch is not imported here, so that a wrong key is reported immediately. The options of stages
depend on the estimators' signatures and are checked afterwards by `rlnorm.algorithms`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from rlnorm.from_python import with_names
from rlnorm.trainers.config.paths import local_path, source_text


def _file_name(name: str) -> str:
    plain = name.strip(".") and "/" not in name and name.isprintable()
    if not plain or len(name.encode()) > 200:
        raise ValueError(
            f"got {name!r}, needs the name of a file in one line, without / and at most 200 bytes"
        )
    return name


FileName = Annotated[str, AfterValidator(_file_name)]
LocalPath = Annotated[str, AfterValidator(local_path)]
Source = Annotated[str, AfterValidator(source_text)]


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation allows, also inside of a list; of a Literal, its values'."""
    inner = get_args(annotation)
    if not inner:
        return {annotation if isinstance(annotation, type) else type(annotation)}
    return set().union(*map(_kinds, inner))


class Section(BaseModel):
    """Unknown keys are errors, and values do not change after loading."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # an option may be infinite, and config.yaml holds it
    )

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_not_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        given = value if isinstance(value, list | tuple) else [value]
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if any(isinstance(v, bool) for v in given) and bool not in kinds and kinds & {int, float}:
            raise ValueError(f"got {str(value).lower()}, needs a number")
        return value


def _lora_target(value: Any) -> Any:
    named = isinstance(value, list) and value and all(isinstance(v, str) and v for v in value)
    if value != "all-linear" and not named:
        raise ValueError(f"got {value!r}, needs all-linear or a list such as [q_proj, v_proj]")
    return value


class LoraConfig(Section):
    rank: int = Field(ge=1)
    """Rank of the adapters."""
    alpha: float = Field(32.0, gt=0)
    """Numerator of their scale: adapters are multiplied by alpha / rank."""
    target: Annotated[str | list[str], BeforeValidator(_lora_target)] = "all-linear"
    """Layers with adapters: all linear layers of the body, or endings such as [q_proj, v_proj]."""


class ModelConfig(Section):
    path: LocalPath
    """Hugging Face folder or id, or `shipped:quick`, `shipped:graded`, `shipped:turns`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights, for training and sampling."""
    lora: LoraConfig | None = None
    """LoRA adapters (peft) on linear layers; None trains every weight."""


class TrainSource(Section):
    source: Source
    """A source of training prompts, as `data.train` takes a single one."""
    share: float = Field(1.0, gt=0)
    """Its part of the prompts that are drawn; the shares of all sources are scaled to sum to 1."""
    fields: dict[str, str] | None = None
    """Columns of this source; None for those in `data.fields`."""


def _form_of_train(value: Any) -> str:
    return "[table]" if isinstance(value, Mapping) else "[text]"


class DataConfig(Section):
    train: Annotated[
        Annotated[Source, Tag("[text]")]
        | Annotated[dict[FileName, TrainSource], Field(min_length=1), Tag("[table]")],
        Discriminator(_form_of_train),
    ]
    """`task:NAME[:SPLIT]`, a .jsonl or .parquet file, `hf:NAME[:SPLIT]`, or `FORMAT=FILE`; several
    as a table {name: {source: ..., share: 0.7}, ...}."""
    eval: dict[FileName, Source] = {}
    """Benchmarks by name, each a source like `train`."""
    fields: dict[str, str] = {}
    """Columns that hold id, question or messages, answer, source and level, where the names
    differ; answer: "" for data without golds."""
    system_prompt: str | None = None
    """System message placed before every question."""
    train_limit: int | None = Field(None, ge=1)
    """Use at most this many training rows of each source."""
    max_prompt_tokens: int | None = Field(None, ge=1)
    """Longest prompt in tokens, chat template included; None: what the model's context leaves in
    addition to rollout.max_tokens."""
    on_bad_row: Literal["drop", "error"] = "drop"
    """A row whose prompt is too long or whose gold a reward cannot read: drop it by name, or end
    the run. A malformed row always ends it."""

    def train_sources(self) -> dict[str, TrainSource]:
        """The sources of training prompts by name; the name of a single one is ""."""
        if isinstance(self.train, str):
            return {"": TrainSource(source=self.train)}
        return self.train


def _component_name(name: str) -> str:
    if name == "mean":
        raise ValueError("got 'mean', which in metrics is the weighted sum; choose another name")
    return name


NameOrFunction = Annotated[str | Callable[..., Any], PlainSerializer(with_names, when_used="json")]
"""A name in a file, or (from Python) the function itself."""


RowValue = str | int | float


class RewardConfig(Section):
    name: Annotated[FileName, AfterValidator(_component_name)]
    """Name of the component (or of the group of components) in metrics and weights."""
    function: NameOrFunction
    """A shipped reward's name, `module:function` or `FILE.py:function`; from Python a function."""
    weight: float | dict[str, float] = 1.0
    """Weight in the estimator, or the weight of each component by name."""
    gate: str | None = None
    """Count this component only where the component of this name is above 0."""
    components: list[str] | None = None
    """Component names of a function that returns several; shipped rewards define their own."""
    options: dict[str, Any] = {}
    """Keyword options of the function."""
    deadline_s: float | None = Field(None, gt=0)
    """Time limit per sample, which is masked beyond it; None: 2 s in a worker, 600 s if async."""
    memory_mb: int | None = Field(None, ge=64)
    """Memory limit of a worker, which all rewards share, so that the largest holds; None: 3072."""
    rows: dict[str, RowValue | Annotated[list[RowValue], Field(min_length=1)]] = {}
    """Only for data rows with these values, such as {source: math}; {}: for all rows."""


class RolloutConfig(Section):
    backend: Literal["local", "vllm"] = "local"
    """local: in this process; vllm: engines in Ray actors."""
    group_size: int = Field(8, ge=1)
    """Completions sampled for each prompt (G)."""
    prompts_per_step: int = Field(64, ge=1)
    """Prompts sampled for each step."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature; logprobs are computed at this temperature too."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling; 1 is off."""
    top_k: int = Field(0, ge=0)
    """Sample from the k most likely tokens; 0 is off."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """Drop tokens below min_p times the probability of the most likely one; 0 is off."""
    max_tokens: int = Field(512, ge=1)
    """Maximum tokens of one completion."""
    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Strings that end a completion."""
    environment: dict[str, Any] | None = None
    """Multi-turn environment: {name: chain, turns: 3, max_turns: 4}, options and limits in one."""
    engines: int = Field(1, ge=1)
    """Number of vLLM engines."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs per engine."""
    engine_options: dict[str, Any] = {}
    """Passed to vLLM unchanged."""
    deadline_s: float = Field(1800.0, gt=0)
    """Longest wait for one batch of rollouts, an engine's start or a weight transfer."""


Moment = Annotated[float, Field(ge=0, lt=1)]


class LearnerConfig(Section):
    backend: Literal["embedded", "deepspeed"] = "embedded"
    """embedded: torch in this process; deepspeed: ranks in Ray actors."""
    lr: float = Field(1e-6, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After warm-up: constant, or decaying to reach 0 one step after the last."""
    warmup_steps: int = Field(0, ge=0)
    """RL steps of linear warm-up."""
    betas: tuple[Moment, Moment] = (0.9, 0.99)
    """AdamW's decay rates of the moments."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of matrices."""
    grad_clip: float = Field(1.0, gt=0)
    """Maximum global gradient norm."""
    minibatches: int = Field(1, ge=1)
    """Optimizer steps per batch of rollouts, each on its share of the groups."""
    epochs: int = Field(1, ge=1)
    """Passes over each batch of rollouts."""
    tokens_per_microbatch: int = Field(16384, ge=1)
    """Token budget of one forward and backward pass; affects memory, not results."""
    old_logprobs: Literal["recompute", "sampler"] = "recompute"
    """Logprobs in the ratio's denominator: recomputed by the learner, or those of the sampler."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    ranks: int = Field(1, ge=1)
    """DeepSpeed ranks (GPUs)."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """What DeepSpeed shards: 1 optimizer state, 2 gradients too, 3 weights too."""
    offload: bool = False
    """Keep DeepSpeed's optimizer state in CPU memory."""


class ClusterConfig(Section):
    address: str | None = None
    """host:port of a running Ray cluster for vllm and deepspeed; None starts one here."""


class LoggingConfig(Section):
    wandb: str | None = None
    """Weights & Biases project; WANDB_MODE=offline works."""
    tensorboard: bool = False
    """Also write TensorBoard event files."""
    sample_rollouts: int = Field(4, ge=0)
    """Rollouts shown on the terminal and in W&B after an evaluation."""


class Config(Section):
    """Everything a run depends on."""

    algorithm: str | dict[str, Any] = "grpo"
    """A named algorithm, or {name: ..., estimator: ..., loss: ..., ...} to override its slots."""
    model: ModelConfig
    data: DataConfig
    rewards: list[RewardConfig] = Field(min_length=1)
    rollout: RolloutConfig = RolloutConfig()
    learner: LearnerConfig = LearnerConfig()
    logging: LoggingConfig = LoggingConfig()
    cluster: ClusterConfig = ClusterConfig()
    output_dir: LocalPath = "runs"
    """Folder of the run directories."""
    run_name: FileName = "run"
    """Name of the run directory."""
    steps: int = Field(100, ge=1)
    """RL steps."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of everything random: prompt order, sampling, adapters."""
    eval_every: int = Field(0, ge=0)
    """Steps between evaluations; 0 evaluates only before the first step and at the end."""
    eval_samples: int = Field(8, ge=1)
    """Sampled completions per benchmark problem (avg@k, pass@k), in addition to the greedy one."""
    checkpoint_every: int = Field(20, ge=0)
    """Steps between checkpoints; 0 writes one only at the end."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many of the newest checkpoints are kept."""
    max_staleness: Literal[0] = 0
    """How many versions old a rollout may be when it trains; 0 is strictly on-policy."""
    deterministic: bool = False
    """Training that is reproducible bit for bit, at some cost in speed."""

    @field_serializer("algorithm", when_used="json")
    def _functions_by_name(self, algorithm: Any) -> Any:
        return with_names(algorithm)

    @model_validator(mode="after")
    def _combinations(self) -> "Config":
        for key, needs in self._without_effect().items():
            raise ValueError(f"{key} has no effect here: it needs {needs}")
        if self.learner.minibatches > self.rollout.prompts_per_step:
            raise ValueError(
                f"learner.minibatches = {self.learner.minibatches}: at most "
                f"rollout.prompts_per_step = {self.rollout.prompts_per_step}"
            )
        if self.rollout.backend == "vllm" and self.rollout.temperature > 2:
            raise ValueError(
                f"rollout.temperature = {self.rollout.temperature}: vLLM accepts at most 2"
            )
        cut = self.rollout.top_p < 1 or self.rollout.top_k > 0 or self.rollout.min_p > 0
        if cut and self.learner.old_logprobs == "sampler":
            raise ValueError(
                "learner.old_logprobs = 'sampler' with top_p, top_k or min_p: the sampler's "
                "distribution is truncated, so use 'recompute'"
            )
        return self

    def _without_effect(self) -> dict[str, str]:
        """Keys that were given but would have no effect, with what each of them needs."""
        rollout, learner, data = self.rollout, self.learner, self.data
        ranks, engines = learner.backend == "deepspeed", rollout.backend == "vllm"
        turns, address = rollout.environment is not None, self.cluster.address is not None
        vllm, deepspeed = "rollout.backend: vllm", "learner.backend: deepspeed"
        rules = (
            ("learner.ranks", learner.ranks > 1 and not ranks, deepspeed),
            ("learner.offload", learner.offload and not ranks, deepspeed),
            ("learner.offload", learner.offload and not learner.zero_stage, "a zero_stage above 0"),
            ("rollout.engines", rollout.engines > 1 and not engines, vllm),
            (
                "rollout.tensor_parallel_size",
                rollout.tensor_parallel_size > 1 and not engines,
                vllm,
            ),
            ("rollout.engine_options", bool(rollout.engine_options) and not engines, vllm),
            ("cluster.address", address and not self.needs_ray, f"{vllm} or {deepspeed}"),
            ("deterministic", self.deterministic and self.needs_ray, "a run in one process"),
            ("data.system_prompt", data.system_prompt is not None and turns, "no environment"),
            ("data.fields", bool(data.fields) and turns, "no environment"),
            ("data.train as a table", not isinstance(data.train, str) and turns, "no environment"),
            ("data.max_prompt_tokens", bool(data.max_prompt_tokens) and turns, "no environment"),
            ("data.on_bad_row", data.on_bad_row == "error" and turns, "no environment"),
        )
        return {key: needs for key, idle, needs in rules if idle}

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.output_dir) / self.run_name

    @property
    def needs_ray(self) -> bool:
        """True when a part of the run lives in Ray actors."""
        return self.rollout.backend == "vllm" or self.learner.backend == "deepspeed"
