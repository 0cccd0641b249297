"""Styx's own settings that a configuration file or a task's `config` may give."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, ValidationError, field_validator

from styx.models.base import Model, Nested, Problem, Problems
from styx.models.configkeys import FORMAT_KEYS, TASK_KEYS
from styx.models.configschema import check, find
from styx.models.hooks import MAX_HOOKS, Hook
from styx.models.infra import canonical_cloud
from styx.models.placement import PlacementSettings
from styx.models.scalars import Text, amount, choice, duration_s

Duration = Annotated[float, BeforeValidator(duration_s())]


class LeaseSettings(Model):
    """How long a cluster may live unattended. Whichever limit is reached first ends it."""

    idle: Duration | None = None
    """Time without work after which the cluster is ended, in seconds or as text such as `30m`."""
    max_age: Duration | None = None
    """Time after its creation at which the cluster is ended, work or not."""
    max_cost: Annotated[float, BeforeValidator(amount(above=0, unit="US dollars"))] | None = None
    """US dollars spent on the cluster at which it is ended, work or not."""
    dead_man: Duration | None = None
    """Time without any contact from a client after which nodes end themselves."""
    action: Annotated[str, BeforeValidator(choice(("stop", "down")))] | None = None
    """What ending means: `stop` keeps the disks where the cloud can, `down` removes everything."""

    def in_agent_terms(self) -> dict[str, Any]:
        """The limits that are set, by the names of the agent's lease (seconds and US dollars)."""
        terms = {
            "idle_s": self.idle,
            "max_age_s": self.max_age,
            "max_usd": self.max_cost,
            "dead_man_s": self.dead_man,
            "action": self.action,
        }
        return {name: value for name, value in terms.items() if value is not None}


class LaunchSettings(Model):
    """How a launch behaves."""

    retry_for: Duration | None = None
    """How long `--retry-until-up` goes on trying every place; 24 hours when unset."""
    ready_timeout: Duration | None = None
    """How long a created machine may take to become reachable."""
    first_lease: Duration | None = None
    """How long a created machine may run before a client has set it up, as when the client died; then it ends itself,
    where its cloud lets it. 1 hour when unset."""


class RaySettings(Model):
    """How Ray comes to the nodes of a cluster of several. Nodes that share this machine use the Ray of Styx itself."""

    version: Text | None = None
    """The version to install; the newest in `wheels`, or the one that this release was tested with, when unset."""
    index: Text | None = None
    """URL of a package index for the nodes to install from; as uv or pip there are configured when unset."""
    wheels: Text | None = None
    """A folder of wheels on this machine; they are uploaded, and the nodes need no index."""
    find_links: tuple[Text, ...] | None = None
    """Folders on the nodes, or pages, where they look for wheels; without `index`, nowhere else."""


def docker_words(value: Any) -> Any:
    """Options of `docker run`, one or several in each text."""
    import shlex

    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise Problem("must be a list of options of `docker run`")
    try:
        return tuple(word for text in texts for word in shlex.split(text))
    except ValueError as error:
        raise Problem(f"cannot be read as options: {error}") from None


class DockerSettings(Model):
    """How the container of a `docker:` image is run on nodes that are machines."""

    run_options: Annotated[tuple[str, ...], BeforeValidator(docker_words)] | None = None
    """Further options of `docker run`, such as `--shm-size=16g`."""


def budget_scope(value: Any) -> str:
    """Whose money a budget is about: `all`, `user`, or `cloud:<name>`."""
    words = value.strip().lower() if isinstance(value, str) else ""
    if words in ("all", "user"):
        return words
    if words.startswith("cloud:") and words != "cloud:":
        return f"cloud:{canonical_cloud(words.removeprefix('cloud:').strip())}"
    raise Problem("must be all, user, or cloud: and the name of a cloud", suggestion='such as "cloud:aws"')


class Budget(Model):
    """A limit on what may be spent, looked at whenever something is planned that costs money."""

    name: Text
    """For messages; each budget has its own."""
    usd: Annotated[float, BeforeValidator(amount(above=0, unit="US dollars"))]
    """The limit in US dollars."""
    per: Annotated[Literal["day", "month", "total"], BeforeValidator(choice(("day", "month", "total")))] = "month"
    """What the limit is for: each day or each month (both in UTC), or all time."""
    scope: Annotated[str, BeforeValidator(budget_scope)] = "all"
    """What counts: `all`, `user` for the clusters of whoever plans, or `cloud:<name>` for those at one cloud."""
    on_limit: Annotated[Literal["warn", "refuse"], BeforeValidator(choice(("warn", "refuse")))] = "refuse"
    """What happens to a plan that would go over the limit. From 80 % on there is a warning in either case."""


def distinct_budgets(value: Any) -> Any:
    """A list of budgets, each with a name of its own."""
    if not isinstance(value, (list, tuple)):
        raise Problem("must be a list of budgets, each with name and usd")
    names = [each.get("name") if isinstance(each, dict) else getattr(each, "name", None) for each in value]
    twice = [index for index, name in enumerate(names) if name is not None and names.index(name) != index]
    if twice:
        raise Problems(Problem("is the name of another budget, too", at=(index, "name")) for index in twice)
    return value


class TaskConfig(Model):
    """A task's `config`: lifecycle hooks and settings for this task only.

    Keys of the format that have no model (`kubernetes.pod_config`, ...) are kept as they are, in `model_extra`.
    """

    model_config = ConfigDict(extra="allow")

    hooks: tuple[Hook, ...] | None = None
    """Scripts that run before the cluster is stopped, preempted or removed; at most 32."""
    lease: LeaseSettings | None = None
    """Limits on the cluster's life."""
    launch: LaunchSettings | None = None
    """How the launch behaves."""
    placement: PlacementSettings | None = None
    """Where its machines may be made, and where rather."""
    clouds: dict[str, dict[str, Any]] | None = None
    """Settings of a cloud's driver, by cloud."""
    docker: DockerSettings | None = None
    """How containers are run."""

    @field_validator("hooks", mode="before")
    @classmethod
    def _few_hooks(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Problem("must be a list of hooks, each with a run script")
        if len(value) > MAX_HOOKS:
            raise Problem(f"has {len(value)} hooks; at most {MAX_HOOKS} are allowed")
        return value

    @field_validator("clouds", mode="before")
    @classmethod
    def _cloud_tables(cls, value: Any) -> Any:
        return cloud_tables(value)


def cloud_tables(value: Any) -> Any:
    """The `clouds` table with canonical names; what is inside belongs to each driver."""
    if not isinstance(value, dict):
        raise Problem("must be a mapping from cloud to settings")
    wrong = [key for key, item in value.items() if item is not None and not isinstance(item, dict)]
    if wrong:
        raise Problems(Problem("must be a mapping", at=(key,)) for key in wrong)
    return {canonical_cloud(str(key)): item or {} for key, item in value.items()}


def task_config(value: Any) -> Any:
    """A task's `config` with all its faults told at once."""
    if isinstance(value, TaskConfig) or value is None:
        return value
    if not isinstance(value, dict):
        raise Problem("must be a mapping")
    own = TaskConfig.known_keys()
    problems: list[Problem] = []
    for problem in check({**dict.fromkeys(own, "any"), **TASK_KEYS}, value):
        known = find(FORMAT_KEYS, problem.at) is not None and find(TASK_KEYS, problem.at) is None
        if known or problem.at[0] in ("allowed_clouds", "budgets", "logs"):
            problem = Problem("cannot be set by a task; it belongs in the configuration file", at=problem.at)
        problems.append(problem)
    try:
        config = TaskConfig.model_validate({key: item for key, item in value.items() if key in own or not problems})
    except ValidationError as error:
        raise Problems([*problems, Nested(error)]) from None
    if problems:
        raise Problems(problems)
    return config
