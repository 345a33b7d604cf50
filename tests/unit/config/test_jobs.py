"""Jobs: what a file may say, and what each thing it may not say is answered with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.config import Settings, trace
from rlm_kernel.config.job import (
    RLM_CONFIG,
    FileSource,
    Job,
    ResultsSource,
    ValueSource,
    is_job_file,
    read_job,
)
from rlm_kernel.config.layers import BY_NAME
from rlm_kernel.errors import ConfigError, RlmKernelError

FIRST: dict[str, Any] = {"type": "ai_agent", "id": "first", "prompt": "Who?", "context": {"value": "a text"}}
SECOND: dict[str, Any] = {"type": "ai_agent", "id": "second", "prompt": "Why {{nodes.first.answer}}?"}
WHOLE = {
    "name": "a flow",
    "settings": {"memory": "512m"},
    "nodes": [
        {
            "type": "ai_agent",
            "id": "first",
            "provider": "openai",
            "model": "gpt-5",
            "sub_model": "ollama:llama3:8b",
            "prompt": "Who?",
            "context": "text.txt",
            "rlm_enabled": True,
            "rlm_config": {
                "max_total_tokens": 50_000,
                "max_depth": 2,
                "default_chunk_strategy": "markdown",
                "max_parallel_invocations": 7,
                "token_budget_percentile": 95,
                "enable_trajectory_logging": False,
            },
            "settings": {"max_turns": 3, "cell_timeout": "5m"},
        },
        {"type": "ai_agent", "name": "second", "rlm_enabled": False, "question": "Why {{ nodes.first.answer }}?"},
    ],
}
TOML = """
[settings]
memory = "512m"
[[nodes]]
type = "ai_agent"
id = "first"
provider = "openai"
model = "gpt-5"
prompt = "Who?"
context = "text.txt"
rlm_config = {max_depth = 2}
"""
YAML = """
settings: {memory: 512m}
nodes:
- type: ai_agent
  id: first
  provider: openai
  model: gpt-5
  prompt: Who?
  context: text.txt
  rlm_config:
    max_depth: 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a text, and one beside it that jobs have no business with."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "text.txt").write_text("a text")
    (tmp_path / "secret.txt").write_text("a secret")
    return tmp_path / "inside"


def written(folder: Path, content: object, name: str = "job.json") -> Path:
    """Write a job's file; what is no text is written as JSON."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def settings_of(job: Job, node: int = 0) -> Settings:
    """Return what a node's run would have."""
    return trace({}, {}, job.nodes[node].settings).settings


def test_a_whole_job_is_read(folder: Path) -> None:
    """Every key of a node has its meaning, and every name of `rlm_config` its setting."""
    job = read_job(written(folder, WHOLE))
    first, second = job.nodes
    assert (first.id, first.prompt, first.rlm) == ("first", "Who?", True)
    assert first.contexts == {"": FileSource(folder / "text.txt")}
    settings = settings_of(job)
    assert (settings.model, settings.sub_model) == ("openai:gpt-5", "ollama:llama3:8b")
    assert (settings.memory, settings.max_turns, settings.cell_timeout) == (2**29, 3, 300)
    assert (settings.max_total_tokens, settings.max_depth, settings.max_parallel_subcalls) == (50_000, 2, 7)
    assert (settings.default_chunk_strategy, settings.budget_percentile) == ("markdown", 95)
    assert settings.keep_recording is False
    assert (second.id, second.rlm, second.contexts) == ("second", False, {})
    assert second.filled({"first": "the cat"}) == "Why the cat?"
    assert settings_of(job, 1).memory == 2**29


@pytest.mark.parametrize(("name", "text"), [("job.toml", TOML), ("job.yaml", YAML), ("job.yml", YAML)])
def test_every_form_means_the_same(folder: Path, name: str, text: str) -> None:
    """A job in TOML or YAML is the job that it would be in JSON."""
    job = read_job(written(folder, text, name))
    assert job.nodes[0].contexts == {"": FileSource(folder / "text.txt")}
    settings = settings_of(job)
    assert (settings.model, settings.sub_model, settings.max_depth, settings.memory) == ("openai:gpt-5", None, 2, 2**29)


def test_a_job_may_be_a_list_or_one_node_or_a_value(folder: Path) -> None:
    """The list around one node, and the table around a list, can be left out."""
    assert [node.id for node in read_job(written(folder, [FIRST, SECOND])).nodes] == ["first", "second"]
    assert read_job(FIRST).nodes[0].contexts == {"": ValueSource("a text")}
    assert [node.id for node in read_job({"nodes": [{**FIRST, "id": None}, SECOND | {"prompt": "x"}]}).nodes] == [
        "node1",
        "second",
    ]


def test_each_node_has_the_results_before_it(folder: Path) -> None:
    """Without a context of its own a node works on the answers so far; a plain call that names some does not."""
    plain = {"type": "ai_agent", "rlm_enabled": False, "prompt": "And?"}
    named = {"type": "ai_agent", "prompt": "And?", "contexts": {"book": "text.txt", "so_far": {"nodes": ["first"]}}}
    job = read_job(written(folder, [FIRST, SECOND, plain, {**plain, "prompt": "{{nodes.first.answer}}"}, named]))
    found = [node.contexts for node in job.nodes[1:]]
    assert found == [
        {"": ResultsSource(("first",))},
        {"": ResultsSource(("first", "second"))},
        {},
        {"book": FileSource(folder / "text.txt"), "so_far": ResultsSource(("first",))},
    ]


def test_an_answer_is_never_looked_up_itself() -> None:
    """What a model wrote can't name another node's answer."""
    job = read_job([FIRST, SECOND, {"type": "ai_agent", "prompt": "{{nodes.second.answer}} {{nodes.first.answer}}"}])
    answers = {"first": "A", "second": "{{nodes.first.answer}} {{nodes.third.answer}}"}
    assert job.nodes[2].filled(answers) == "{{nodes.first.answer}} {{nodes.third.answer}} A"


def test_braces_around_anything_but_a_name_are_text() -> None:
    """Python, LaTeX and the like may stand in a prompt."""
    prompt = "f'{{x + 1}}' {{}} {x} {{ 'a' }} \\frac{{1}}{{2}}"
    assert read_job({**FIRST, "prompt": prompt}).nodes[0].filled({}) == prompt


def test_the_order_of_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line goes before a job's settings, `rlm_config` before `settings`, a node's before all nodes'."""
    node = {**FIRST, "rlm_config": {"max_depth": 3}, "settings": {"max_depth": 2, "pids": 70}}
    job = read_job({"nodes": [node], "settings": {"pids": 80, "nofile": 500, "sub_model": "local:smollm2"}})
    env = {"RLM_KERNEL_NOFILE": "999", "RLM_KERNEL_CPUS": "2", "RLM_KERNEL_MAX_DEPTH": "9"}
    settings = trace({"cpus": "4"}, env, job.nodes[0].settings).settings
    assert (settings.max_depth, settings.pids, settings.nofile, settings.cpus) == (3, 70, 500, 4)
    both = read_job({"nodes": [{**FIRST, "model": "ollama:a"}], "settings": {"sub_model": "ollama:b"}})
    assert (settings_of(both).model, settings_of(both).sub_model) == ("ollama:a", "ollama:b")


def test_every_name_of_rlm_config_is_a_setting() -> None:
    """The names that jobs have for settings lead to settings that there are."""
    assert set(RLM_CONFIG.values()) <= set(BY_NAME)


def test_relative_paths_are_those_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no difference where a job is started; a scripted model's file is such a path too."""
    monkeypatch.chdir("/")
    (folder / "script.md").write_text("--- turn ---\nhello\n")
    job = read_job(written(folder, {**FIRST, "provider": "scripted", "model": "script.md", "context": "text.txt"}))
    assert settings_of(job).model == f"scripted:{folder / 'script.md'}"
    assert job.nodes[0].contexts == {"": FileSource(folder / "text.txt")}


def test_what_lies_outside_has_to_be_allowed(folder: Path) -> None:
    """A job's file can't name what its folder does not hold, by dots, in full or by a link, unless `root` allows it."""
    (folder / "link").symlink_to(folder.parent / "secret.txt")
    for path in ("../secret.txt", str(folder.parent / "secret.txt"), "link", "/proc/self/environ"):
        with pytest.raises(RlmKernelError, match="lies outside of"):
            read_job(written(folder, {**FIRST, "context": path}))
    with pytest.raises(RlmKernelError, match=r"nodes\[0\].settings.profile is .* outside of"):
        read_job({**FIRST, "settings": {"profile": "/etc/secret.md"}})
    assert settings_of(read_job({**FIRST, "settings": {"profile": "default"}})).profile == "default"
    job = read_job(written(folder, {**FIRST, "context": "../secret.txt"}), root=folder.parent)
    assert job.nodes[0].contexts == {"": FileSource(folder.parent / "secret.txt")}


def test_which_words_are_a_jobs_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there, or one word, that is named as one; a question that ends like that is a question."""
    written(folder, FIRST)
    monkeypatch.chdir(folder)
    assert is_job_file("job.json")
    assert is_job_file(str(folder / "job.json"))
    assert is_job_file("not-there.json")
    (folder / "my job.json").write_text("{}")
    assert is_job_file("my job.json")
    for text in (
        "text.txt",
        "What is in job.json",
        "no job.json",
        "",
        ".json",
        "\0 .json",
        "x " * 5000 + ".json",
        str(folder),
    ):
        assert not is_job_file(text)


def node(**changes: Any) -> dict[str, Any]:
    """Return a job whose second node is good but for `changes`."""
    return {"nodes": [FIRST, {**SECOND, **changes}]}


BROKEN: list[tuple[object, str]] = [
    ([], "job.json must be a list of nodes"),
    ("3", "job.json must be a list of nodes"),
    ({"nodes": {}}, "nodes must be a list of nodes"),
    ({"nodes": [FIRST], "node": 1}, r"job.json: node means nothing; did you mean nodes\?"),
    ([3], r"nodes\[0\] must be a table"),
    (node(type="http_request"), r"nodes\[1\].type is 'http_request', and this is no workflow engine: only 'ai_agent'"),
    ([FIRST, {"type": "http", "url": "x"}], r"nodes\[1\].type is 'http', and this is no workflow engine"),
    (node(type=None), r"nodes\[1\].type is missing"),
    (node(type=5), r"nodes\[1\].type must be text"),
    (node(promt="x"), r"nodes\[1\].promt means nothing; did you mean prompt\?"),
    (
        node(rlm_config={"max_totl_tokens": 1}),
        r"nodes\[1\].rlm_config.max_totl_tokens means nothing; did you mean max_total_",
    ),
    (node(rlm_config={"max_cost": 1}), r"rlm_config.max_cost means nothing; as a setting it stands in \"settings\""),
    (node(max_turns=1), r"nodes\[1\].max_turns means nothing; as a setting it stands in \"settings\""),
    (
        node(rlm_config={"max_total_tokens": "many"}),
        r"nodes\[1\].rlm_config.max_total_tokens: 'many' is not a whole number",
    ),
    (node(rlm_config={"max_total_tokens": 10**400}), "so large a number"),
    (node(rlm_config={"max_depth": True}), r"rlm_config.max_depth must be a number, not true"),
    (node(rlm_config={"enable_trajectory_logging": "perhaps"}), "'perhaps' is neither yes nor no"),
    (node(rlm_config={"default_chunk_strategy": "pages"}), "'pages' is none of markdown"),
    (node(rlm_config=[]), r"nodes\[1\].rlm_config must be a table"),
    (node(rlm_enabled="yes"), r"nodes\[1\].rlm_enabled must be true or false"),
    (node(api_key="sk-1"), r"nodes\[1\].api_key means nothing; keys and other secrets stay in the environment"),
    (node(settings={"memroy": 1}), r"nodes\[1\].settings.memroy means nothing; did you mean memory\?"),
    (
        node(settings={"docker_host": "tcp://evil:1"}),
        "settings.docker_host is the machine's own, and a job can't set it",
    ),
    (node(settings={"state_dir": "/tmp"}), "settings.state_dir is the machine's own"),
    ({"nodes": [FIRST], "settings": {"oci_runtime": "x"}}, "job.json: settings.oci_runtime is the machine's own"),
    (node(id="first"), r"nodes\[1\].id is 'first', and so is an earlier node's"),
    (node(id="a b"), r"nodes\[1\].id can't be 'a b'"),
    (node(name="x"), "name means the same as id: give one of them"),
    (node(question="x"), "question means the same as prompt"),
    (node(prompt=" "), r"nodes\[1\].prompt must be text"),
    (node(prompt=None), r"nodes\[1\].prompt is missing"),
    (node(prompt="{{nodes.frist.answer}}"), r"which is no earlier node's answer; did you mean nodes.first.answer\?"),
    (node(prompt="{{nodes.second.answer}}"), r"refers to \{\{nodes.second.answer\}\}, which is no earlier"),
    (node(prompt="{{first}}"), r"refers to \{\{first\}\}"),
    ([{**FIRST, "prompt": "{{nodes.second.answer}}"}, SECOND], r"nodes\[0\].prompt refers to .*; no node is before"),
    ([{key: value for key, value in FIRST.items() if key != "context"}], r"nodes\[0\].context is missing"),
    (node(context="nope.txt"), r"nodes\[1\].context: there is nothing at .*nope.txt"),
    (node(context="\0"), r"nodes\[1\].context is no path"),
    (node(context=5), r"nodes\[1\].context must be a table"),
    (node(context={}), 'must have one of "path"'),
    (node(context={"path": "text.txt", "value": 1}), 'must have one of "path"'),
    (node(context={"path": "text.txt", "form": "xml"}), "context.form must be one of table, json, jsonl"),
    (node(context={"nodes": ["frist"]}), r"context.nodes has 'frist', which is no earlier node; did you mean first\?"),
    (node(context={"nodes": []}), "must be a list of ids"),
    (node(contexts={}), "contexts names no context"),
    (node(context="text.txt", contexts={}), "contexts can't go with context"),
    (node(provider="openai"), r"nodes\[1\].provider needs a model"),
    (node(rlm_enabled=False, answer_schema={}), 'answer_schema needs "rlm_enabled": true'),
    ('{"nodes": [], "nodes": []}', "'nodes' stands twice"),
    ('{"nodes": NaN}', "NaN is no number"),
    ('{"nodes": ', "Expecting value: line 1"),
    ("[" * 100_000, "nests deeper than 50"),
    (json.dumps({**FIRST, "context": {"value": 1}}).replace("1}}", "[" * 60 + "]" * 60 + "}}"), "nests deeper than 50"),
    (json.dumps({**FIRST, "prompt": "x" * 2**20}), "has more than 1024 KiB"),
    ([FIRST] * 1001, "has 1001 nodes, and at most 1000"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_a_broken_job_is_refused_by_its_place(folder: Path, content: object, message: str) -> None:
    """Whatever is wrong is said with the file and the place in it, the nearest name that is known, and no secret."""
    path = written(folder, content)
    with pytest.raises(RlmKernelError, match=message) as caught:
        read_job(path)
    assert str(path) in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_file_of_another_kind_is_no_job(folder: Path) -> None:
    """The suffix says what a file holds."""
    with pytest.raises(ConfigError, match=r"text\.txt is no job's file"):
        read_job(folder / "text.txt")
    with pytest.raises(ConfigError, match=r"no\.json can't be read"):
        read_job(folder / "no.json")
