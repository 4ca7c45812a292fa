"""A method of another package joins the tables; one that cannot join is left out and named."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from core import methods
from core.config import CellConfig
from core.coresets import SELECTORS
from core.coresets.samples import Selector
from core.third_party import Offers, Refusal, offered
from orchestration import catalogue, doctor, views
from orchestration.errors import UsageError
from sweeps import messages
from sweeps.spec import SpecError, parse
from sweeps.stages import chain

ROOT = Path(__file__).parent.parent
GRID = """
cell:
  data: {name: synthetic, samples: 64, test_samples: 32}
  model: {name: small_cnn, width: 2}
  epochs: 4
  select_every: 2
  warmup_epochs: 0
  batch_size: 32
  prune_rate: 0.5
  pruner: magnitude_at_init
  coreset_ratio: 0.5
  selector: {name: loss, smallest: true}
baselines: false
"""


def swast(site: Path, *arguments: str | Path) -> str:
    """The output of the command where ``site`` is installed."""
    return python(site, "from orchestration.cli import main; main()", *arguments)


def python(site: Path, code: str, *arguments: str | Path) -> str:
    """The output of ``code`` in a process of its own that finds what is installed in ``site``."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(site))), "COLUMNS": "200"},
        cwd=site.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def installed_example(folder: Path) -> Path:
    """The package that CONTRIBUTING.md shows, installed by pip without any index."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (folder / "package").mkdir()
    for kind, name in (("toml", "pyproject.toml"), ("python", "swast_example.py")):
        (block,) = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
        (folder / "package" / name).write_text(block)
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site")]
    subprocess.run([*command, str(folder / "package")], check=True, capture_output=True)
    return folder / "site"


def test_the_worked_example_is_installed_listed_and_run(tmp_path: Path) -> None:
    site = installed_example(tmp_path)
    assert "From: swast-example 1.0" in swast(site, "methods", "loss")
    assert re.search(r"pruner +│ magnitude_at_init +│ largest initial", swast(site, "methods"))
    grid = tmp_path / "mine.yaml"
    grid.write_text(GRID)
    assert "1 of 1 cells done, 0 running, 0 failed" in swast(site, "run", grid, "--inline", "--output", tmp_path)
    (row,) = pd.read_parquet(tmp_path / "mine" / "runs.parquet").to_dict("records")
    assert (row["status"], row["pruner"], row["selector"]) == ("finished", "magnitude_at_init", "loss")
    assert list(pd.read_parquet(tmp_path / "mine" / "history.parquet")["coreset_size"]) == [58, 29, 29, 29]
    _the_order_of_imports_does_not_matter(site)
    (cell,) = json.loads((tmp_path / "mine" / "plan.json").read_text())["cells"].values()
    assert cell["selector"] == {"name": "loss", "smallest": True}


def _the_order_of_imports_does_not_matter(site: Path) -> None:
    shown = "from core.methods import PRUNERS, SELECTORS; print('magnitude_at_init' in PRUNERS, 'loss' in SELECTORS)"
    for first in ("swast_example", "core.pruning.gmp"):
        assert python(site, f"import {first}; {shown}") == "True True\n"


def test_without_the_package_its_name_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GRID)
    (tmp_path / "site").mkdir()
    told = swast(tmp_path / "site", "plan", tmp_path / "mine.yaml")
    assert "line 10: pruner is magnitude_at_init, but must be one of 'none'" in told
    assert told.count("\n") == 1


GOOD = """
from typing import ClassVar, Literal
from core.plugin import plugin
from core.coresets.samples import Selector

@plugin
class Mine(Selector):
    name: Literal["mine"] = "mine"
"""


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, modules: Mapping[str, str], *entries: str) -> Offers[Selector]:
    """What a distribution ``strange`` 2.1 of these modules and entry points offers beside our selectors."""
    info = folder / "strange-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("\n".join(("[swast.selectors]", *entries)))
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    return offered("swast.selectors", Selector, dict(SELECTORS))


def test_a_class_joins_with_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = offer(tmp_path, monkeypatch, {"strange_good": GOOD}, "mine = strange_good:Mine")
    assert not offers.refused
    assert list(offers.classes) == ["mine"]
    assert offers.classes["mine"].distribution == "strange 2.1"


@pytest.mark.parametrize(
    ("module", "entry", "reason"),
    [
        ("raise OSError('no\\nlibrary')", "mine = strange_bad:Mine", "OSError: no"),
        ("", "mine = strange_bad:Mine", "AttributeError: module 'strange_bad' has no attribute 'Mine'"),
        (GOOD, "mine = strange_absent:Mine", "ModuleNotFoundError: No module named 'strange_absent'"),
        ("Mine = 3", "mine = strange_bad:Mine", "strange_bad:Mine is no subclass of core.coresets.samples.Selector"),
        ("class Mine: pass", "mine = strange_bad:Mine", "is no subclass of"),
        (GOOD.replace("@plugin", ""), "mine = strange_bad:Mine", 'under @plugin with name: Literal["mine"] = "mine"'),
        (GOOD, "other = strange_bad:Mine", 'with name: Literal["other"]'),
        (GOOD.replace('Literal["mine"]', "str"), "mine = strange_bad:Mine", "PydanticUserError: "),
        (GOOD + "    size: int", "mine = strange_bad:Mine", "ValidationError: "),
        (GOOD.replace("mine", "el2n"), "el2n = strange_bad:Mine", "the name is taken by SWaST Sweep"),
    ],
)
def test_what_cannot_join_is_left_out_with_one_sentence(
    module: str, entry: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {"strange_bad": module, "strange_good": GOOD.replace("mine", "fine")}
    offers = offer(tmp_path, monkeypatch, modules, entry, "fine = strange_good:Mine")
    assert list(offers.classes) == ["fine"]
    (refusal,) = offers.refused
    assert (refusal.name, refusal.distribution) == (entry.partition(" ")[0], "strange 2.1")
    assert reason in refusal.reason
    assert "\n" not in str(refusal)


def test_a_refusal_is_told_wherever_the_method_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Refusal("mine", "strange 2.1", "OSError: no")
    for table in (messages, catalogue, methods):
        monkeypatch.setattr(table, "OFFERS", {"selector": Offers({"fine": SELECTORS["el2n"]}, (refusal,))})
    told = "mine of strange 2.1 is left out (OSError: no): correct or remove the package"
    findings = {finding.what: finding for finding in doctor._methods()}
    assert findings["selector fine"].fine
    assert not findings["selector mine"].fine
    assert findings["selector mine"].detail == told
    for spelled in ("mine", "{name: mine}"):
        with pytest.raises(SpecError, match=re.escape(told)):
            parse(f"cell: {{coreset_ratio: 0.5, selector: {spelled}}}")
    console = Console(record=True, width=200)
    views.methods(None, console)
    assert told in console.export_text()
    with pytest.raises(UsageError, match=re.escape(told)):
        views.methods("mine", console)


def test_the_second_of_one_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "b" / "another-1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1\n")
    (other / "entry_points.txt").write_text("[swast.selectors]\nmine = strange_good:Mine\n")
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    offers = offer(tmp_path / "a", monkeypatch, {"strange_good": GOOD}, "mine = strange_good:Mine")
    assert offers.classes["mine"].distribution == "another 1"
    assert offers.refused == (Refusal("mine", "strange 2.1", "the name is taken by another 1"),)


def test_results_of_two_versions_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = CellConfig(epochs=20, select_every=4, coreset_ratio=0.5, selector=SELECTORS["el2n"]())
    keys = []
    for distribution in ("", "strange 2.1", "strange 2.2"):
        monkeypatch.setattr(SELECTORS["el2n"], "distribution", distribution)
        keys.append([segment.stage for segment in chain(cell, {})])
    assert len({stages[-1] for stages in keys}) == 3
    assert len({stages[0] for stages in keys}) == 1
