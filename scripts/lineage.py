"""Where an answer comes from, and where data went: python scripts/lineage.py VERSION|REQUEST_ID|RUN|FINGERPRINT

    python scripts/lineage.py 3                    # the version: run, data, commit, gates, answers and how good
    python scripts/lineage.py r-2026-04-02-000017  # the request: asked, said, came true, and from there back
    python scripts/lineage.py runs/demo            # the run: what became of it
    python scripts/lineage.py 0dff30e9f706177d     # the data: who was trained on it

A link that is written nowhere is named as missing. docs/lineage.md
"""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.tree import Tree

from hailtime.lineage import KINDS, Node, Places, trace
from hailtime.report import console, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description="From data to predictions and back.")
    parser.add_argument("what", help="a version, a request id, a run or its folder, or a data fingerprint")
    parser.add_argument("--as", dest="kind", choices=KINDS, help="what it is, where it could be several")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="the folder Triton serves")
    parser.add_argument("--log", help="the prediction log: a SQLite file or a postgresql:// URL")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of run folders")
    parser.add_argument("--json", action="store_true", help="all of it, for machines")
    arguments = parser.parse_args()
    found = trace(Places(arguments.repository, arguments.log, arguments.runs), arguments.what, arguments.kind)
    if arguments.json:
        print(json.dumps(found, indent=1, default=str))
    else:
        console().print(TREES[found["kind"]](found), highlight=False)


def request_tree(node: Node) -> Tree:
    tree = Tree(f"request {escape(node['request'])}")
    for row in node["answers"]:
        said = " / ".join(f"{row[name]:.0f}" for name in ("p10_s", "p50_s", "p90_s"))
        by = {"triton": f"version {row['version']}", "local": f"the local model {row['version']}", "rule": "the rule"}
        line = f"{at(row['answered_at_us'] / 1e6)} {by[row['path']]} said {said} s, in {1e3 * row['latency_s']:.1f} ms"
        branch = tree.add(escape(line))
        branch.add(escape(ended(row)))
        kept = row["features"]
        branch.add(escape(f"asked with {kept}") if kept else "what was asked was not kept in the log (features=)")
    for source in node["sources"]:
        tree.add(version_tree(source) if "version" in source else run_tree(source))
    return tree


def version_tree(node: Node) -> Tree:
    tree = Tree(" ".join(told(f"version {node['version']}", node.get("state"), "since", node.get("since"))))
    if "model" in node:
        tree.add(model_line(node["model"]))
        passed = [gate["name"] for gate in node["gates"] if gate["passed"]]
        failed = [gate["text"] for gate in node["gates"] if not gate["passed"]]
        tree.add(
            escape(f"gates passed: {', '.join(passed) or 'none'}" + "".join(f"; failed: {text}" for text in failed))
        )
        for change in node["changes"]:
            tree.add(escape(f"{change['at']} {change['action']} {change['why']}"))
        tree.add(answers_line(node["answers"]))
        tree.add(run_tree(node["run"]))
    return with_missing(tree, node)


def run_tree(node: Node) -> Tree:
    tree = Tree(escape(f"run {node['run']}  {node.get('folder', '')}"))
    if "code" in node:
        changed = " with changes that are not committed" if node["code"].endswith("+") else ""
        tree.add(escape(f"commit {node['code'].rstrip('+')}{changed}, seed {node['seed']}, began {node['began_at']}"))
        tree.add(escape(" ".join(["command:", *node["command"]])))
        tree.add(
            escape(f"on {node['machine']['host']}: {node['machine']['cpu']}, torch {node['packages'].get('torch')}")
        )
    tree.add(escape("figures: " + ", ".join(f"{name} {value}" for name, value in node["figures"].items())))
    if node.get("retraining"):
        tree.add(escape(f"retraining {node['retraining']['id']}: {node['retraining']['because']}"))
    if node.get("model"):
        tree.add(model_line(node["model"]))
    tree.add(data_line(node["data"]))
    return with_versions(tree, node)


def data_tree(node: Node) -> Tree:
    tree = Tree(data_line(node["data"]))
    for run in node["runs"]:
        tree.add(escape(f"run {run['run']}  {run['folder']}"))
    return with_versions(tree, node)


def with_versions(tree: Tree, node: Node) -> Tree:
    for row in node.get("versions", []):
        tree.add(escape(f"version {row['version']}, {row['state']} since {row['since']}")).add(
            answers_line(row["answers"])
        )
    return with_missing(tree, node)


def with_missing(tree: Tree, node: Node) -> Tree:
    for text in node.get("missing", []):
        tree.add(f"[yellow]not known: {escape(text)}[/]")
    return tree


def model_line(model: Node) -> str:
    off_s, size = model["parity_max_abs_s"], model["bytes"]
    told_size = [] if size is None else [f"{size / 1e6:.1f} MB"]
    told_off = [] if off_s is None else [f"{off_s:.5f} s off PyTorch"]
    return escape(", ".join([f"model.onnx sha256 {model['sha256']}", *told_size, *told_off]))


def data_line(data: Node) -> str:
    line = f"data {data.get('fingerprint')}"
    if "parts" in data:
        parts = data["parts"]
        rows = ", ".join(f"{name} {part['rows']:,}" for name, part in parts.items())
        cleaning = data["cleaning"]
        line += f" of {data['source']}, {parts['train']['first']} to {parts['test']['last']}: {rows} rows"
        if cleaning["rows_in"] is not None:
            line += f"; cleaning left {cleaning['rows_out']:,} of {cleaning['rows_in']:,}"
    return escape(line)


def answers_line(answers: Node | None) -> str:
    if answers is None:
        return "requests: not known"
    if not answers["requests"]:
        return "answered no request in this log"
    line = f"answered {answers['requests']:,} requests, {at(answers['first_s'])} to {at(answers['last_s'])}"
    if answers["arrived"]:
        line += (
            f"; of {answers['arrived']:,} that arrived: MAE {answers['mae_s']:.1f} s, bias {answers['bias_s']:+.1f} s, "
        )
        line += f"P10-P90 held {answers['share_inside']:.1%}"
    return line


def ended(row: Node) -> str:
    if row["pickup_time_s"] is not None:
        late_s = row["pickup_time_s"] - row["p50_s"]
        return f"the driver came after {row['pickup_time_s']:.0f} s, {late_s:+.0f} s to what was said"
    if row["cancelled_after_s"] is not None:
        return f"cancelled after {row['cancelled_after_s']:.0f} s"
    return "nobody has told how it ended"


def at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def told(*words: Any) -> Iterator[str]:
    return (escape(str(word)) for word in words if word)


TREES = {"request": request_tree, "version": version_tree, "run": run_tree, "data": data_tree}


if __name__ == "__main__":
    run_script(main)
