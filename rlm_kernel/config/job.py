"""A job: nodes that ask one after another, read from a file or a value and checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlm_kernel.config.documents import FORMS, read_document
from rlm_kernel.config.job_table import JobTable, Place
from rlm_kernel.config.layers import BY_NAME, Given, Layer
from rlm_kernel.config.nearest import nearest
from rlm_kernel.config.values import parse_path
from rlm_kernel.errors import ConfigError
from rlm_kernel.types import JSON

TYPE = "ai_agent"
MOST_NODES = 1_000
RLM_CONFIG = {
    "max_total_tokens": "max_total_tokens",
    "max_depth": "max_depth",
    "default_chunk_strategy": "default_chunk_strategy",
    "max_parallel_invocations": "max_parallel_subcalls",
    "token_budget_percentile": "budget_percentile",
    "enable_trajectory_logging": "keep_recording",
}
"""The settings that a node's `rlm_config` speaks of, by its own names for them."""
_OF_THE_MACHINE = frozenset({"docker_host", "oci_runtime", "carrier", "uid_first", "uid_last", "pool_size"})
_KEYS = (
    "type",
    "id",
    "name",
    "provider",
    "model",
    "sub_model",
    "prompt",
    "question",
    "context",
    "contexts",
    "rlm_enabled",
    "rlm_config",
    "settings",
    "answer_schema",
)
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_REFERENCE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*\}\}")


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file or folder; `form` is what a file is read as: text, or "table", "json" or "jsonl"."""

    path: Path
    form: str | None = None


@dataclass(frozen=True, slots=True)
class ValueSource:
    """A value that stands in the job itself."""

    value: JSON


@dataclass(frozen=True, slots=True)
class ResultsSource:
    """The answers of earlier nodes, as a dict from their ids."""

    nodes: tuple[str, ...]


Source = FileSource | ValueSource | ResultsSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One question of a job. `place` is where it stands; of several contexts each has a name, of one there is none.

    With `rlm` a session answers, else one plain call of the model. `settings` are what the job says of it.
    """

    id: str
    place: str
    prompt: str
    rlm: bool = True
    contexts: Mapping[str, Source] = field(default_factory=dict)
    settings: Layer = field(default_factory=dict)
    answer_schema: Mapping[str, JSON] | None = None

    def filled(self, answers: Mapping[str, str]) -> str:
        """Return the prompt with the answers it names; what stands in an answer is never looked up itself."""
        return _REFERENCE.sub(lambda match: answers[match[1].split(".")[1]], self.prompt)


@dataclass(frozen=True, slots=True)
class Job:
    """Nodes to run in order; `origin` is the file's path, or what stands for a value."""

    origin: str
    nodes: tuple[Node, ...]


def is_job_file(text: str) -> bool:
    """Return whether `text` names a file that a job may stand in: by its suffix, and it is there or is one word."""
    path = Path(text)
    try:
        return path.suffix.lower() in FORMS and (len(text.split()) == 1 or path.is_file())
    except (OSError, ValueError):
        return False


def read_job(job: Path | str | Mapping[str, Any] | Sequence[Any], *, root: Path | None = None) -> Job:
    """Return the job in a file, or that a value describes, checked but for models and contexts' contents.

    Paths in it are relative to the file, or to the working directory, and lead nowhere outside of it, or of `root`.
    Raise `ConfigError`, naming the place.
    """
    if isinstance(job, str | Path):
        path = Path(job).expanduser().absolute()
        if path.suffix.lower() not in FORMS:
            raise ConfigError(f"{path} is no job's file: its name must end in {', '.join(FORMS)}")
        return _job(read_document(path).value, Place(str(path), path.parent, root))
    return _job(job, Place("the job", Path.cwd(), root))


def _job(value: Any, place: Place) -> Job:
    shared: dict[str, Given] = {}
    if isinstance(value, Mapping) and "type" not in value:
        table = JobTable(value, place, ("nodes", "name", "settings"))
        table.text("name")
        if "settings" in table:
            shared = _settings(table.table("settings", tuple(BY_NAME)))
        nodes, place = value.get("nodes"), place.at("nodes")
    else:
        nodes = [value] if isinstance(value, Mapping) else value
    if not isinstance(nodes, list | tuple) or not nodes:
        raise place.error("must be a list of nodes")
    if len(nodes) > MOST_NODES:
        raise place.error(f"has {len(nodes)} nodes, and at most {MOST_NODES} can be")
    made: list[Node] = []
    for number, node in enumerate(nodes):
        _check_kind(JobTable(node, place.item(number), None))
        made.append(_node(JobTable(node, place.item(number), _KEYS), f"node{number + 1}", made, shared))
    return Job(place.origin, tuple(made))


def _check_kind(table: JobTable) -> None:
    kind = table.text("type", needed=True)
    if kind != TYPE:
        raise table.place.at("type").error(f"is {kind[:100]!r}, and this is no workflow engine: only {TYPE!r} can be")


def _node(table: JobTable, default_id: str, before: Sequence[Node], shared: dict[str, Given]) -> Node:
    name = table.one_of("id", "name") or default_id
    if not _ID.fullmatch(name):
        raise table.place.at("id").error(f"can't be {name[:100]!r}: letters, digits, - and _, beginning with a letter")
    if name in (node.id for node in before):
        raise table.place.at("id").error(f"is {name!r}, and so is an earlier node's")
    ids = tuple(node.id for node in before)
    rlm = table.flag("rlm_enabled", default=True)
    prompt = _prompt(table, ids)
    settings = shared | _node_settings(table, shared)
    contexts = _contexts(table, ids)
    if not contexts and ids and (rlm or not _REFERENCE.search(prompt)):
        contexts = {"": ResultsSource(ids)}
    if not contexts and rlm:
        raise table.place.at("context").error("is missing: give the first node something to work on")
    schema = table.table("answer_schema", None).value if "answer_schema" in table else None
    if schema is not None and not rlm:
        raise table.place.at("answer_schema").error('needs "rlm_enabled": true')
    return Node(
        id=name,
        place=table.place.name,
        prompt=prompt,
        rlm=rlm,
        contexts=contexts,
        settings=settings,
        answer_schema=schema,
    )


def _prompt(table: JobTable, ids: Sequence[str]) -> str:
    prompt = table.one_of("prompt", "question")
    place = table.place.at("question" if "question" in table else "prompt")
    if prompt is None or not prompt.strip():
        raise place.error("is missing: say what the node is to answer")
    known = [f"nodes.{each}.answer" for each in ids]
    for match in _REFERENCE.finditer(prompt):
        if match[1] not in known:
            there = nearest(match[1], known) or (f"; there are: {', '.join(known)}" if known else "; no node is before")
            raise place.error(f"refers to {match[0]}, which is no earlier node's answer{there}")
    return prompt


def _contexts(table: JobTable, ids: Sequence[str]) -> dict[str, Source]:
    if "context" in table and "contexts" in table:
        raise table.place.at("contexts").error("can't go with context: give one of them")
    if "context" in table:
        return {"": _source(table.value["context"], table.place.at("context"), ids)}
    if "contexts" in table:
        named = table.table("contexts", None)
        if not named.value:
            raise named.place.error("names no context")
        return {name: _source(each, named.place.at(name), ids) for name, each in named.value.items()}
    return {}


def _source(value: Any, place: Place, ids: Sequence[str]) -> Source:
    if isinstance(value, str):
        return FileSource(place.path(value))
    table = JobTable(value, place, ("path", "form", "value", "nodes"))
    if len({"path", "value", "nodes"} & set(table.value)) != 1 or ("form" in table and "path" not in table):
        raise place.error('must have one of "path" (with or without "form"), "value" or "nodes"')
    if "path" in table:
        return FileSource(place.at("path").path(table.text("path", needed=True)), table.choice("form", _FORMS))
    if "value" in table:
        return ValueSource(place.at("value").json(table.value["value"]))
    nodes = table.value["nodes"]
    at = place.at("nodes")
    if not isinstance(nodes, list) or not nodes:
        raise at.error("must be a list of ids of earlier nodes")
    for name in nodes:
        if name not in ids:
            raise at.error(f"has {str(name)[:100]!r}, which is no earlier node{nearest(str(name), ids)}")
    return ResultsSource(tuple(nodes))


_FORMS = ("table", "json", "jsonl")


def _node_settings(table: JobTable, shared: Layer) -> dict[str, Given]:
    given: dict[str, Given] = {}
    if "settings" in table:
        given |= _settings(table.table("settings", tuple(BY_NAME)))
    if "rlm_config" in table:
        config = table.table("rlm_config", tuple(RLM_CONFIG))
        given |= {RLM_CONFIG[key]: _given(RLM_CONFIG[key], config, key) for key in config.value}
    model, provider = table.text("model"), table.text("provider")
    if provider is not None and model is None:
        raise table.place.at("provider").error("needs a model")
    if model is not None:
        prefix = f"{provider}:" if provider and not model.startswith(f"{provider}:") else ""
        given["model"] = Given(table.place.at("model").model(prefix + model), table.place.at("model").words)
        if "sub_model" not in shared:
            given.setdefault("sub_model", Given(None, table.place.at("model").words))
    if (sub_model := table.text("sub_model")) is not None:
        place = table.place.at("sub_model")
        given["sub_model"] = Given(place.model(sub_model), place.words)
    return given


def _settings(table: JobTable) -> dict[str, Given]:
    for name in table.value:
        if name in _OF_THE_MACHINE or BY_NAME[name].parse is parse_path:
            raise table.place.at(name).error(
                "is the machine's own, and a job can't set it: use an option or a variable"
            )
    given = {name: _given(name, table, name) for name in table.value}
    for name, inside in (("model", Place.model), ("sub_model", Place.model), ("profile", Place.profile)):
        if name in given and isinstance(value := given[name].value, str):
            given[name] = Given(inside(table.place.at(name), value), given[name].origin)
    return given


def _given(name: str, table: JobTable, key: str) -> Given:
    words = table.place.at(key).words
    return Given(BY_NAME[name].read_value(table.value[key], words), words)
