"""Methods against methods: what stands where, which points are shown, and what is drawn."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis import report
from analysis.figures import heatmap
from analysis.frontier import collapse_grid
from analysis.pairings import POINTS, UNPRUNED, WHOLE, pairings
from analysis.panels import COLOURED, CONTROL, FAILED, MISSING, Heatmap, heatmaps
from analysis.surface import surface
from analysis.synergy import synergy
from tests.analysis.synthetic_runs import run, table, write

ACCURACY = {"gmp": 0.90, "rigl": 0.80, "el2n": 0.70, "craig": 0.60}


def row(p: float, a: float, seed: int, y: float | None, pruner: str = "rigl", selector: str = "el2n") -> dict[str, Any]:
    fields = {"pruner": pruner} if p else {}
    return run(p, a, seed, y, **fields, **({"selector": selector} if a < 1 else {}))


def crossed(*points: tuple[float, float]) -> list[dict[str, Any]]:
    """Two pruners and two selectors, three seeds, at every point; a pair's accuracy is the product of its parts."""
    rows = [row(0, 1, seed, 0.95) for seed in range(3)]
    for seed in range(3):
        for pruner in ("gmp", "rigl"):
            rows += [row(p, 1, seed, ACCURACY[pruner], pruner=pruner) for p in {p for p, _ in points}]
        for selector in ("el2n", "craig"):
            rows += [row(0, a, seed, ACCURACY[selector], selector=selector) for a in {a for _, a in points}]
            for pruner in ("gmp", "rigl"):
                y = ACCURACY[pruner] * ACCURACY[selector] + 0.01 * seed
                rows += [row(p, a, seed, y, pruner, selector) for p, a in points]
    return rows


def maps(rows: list[dict[str, Any]]) -> dict[str, Heatmap]:
    runs = table(rows)
    return {info.name: info for info in pairings(surface(runs), synergy(runs), collapse_grid(runs))}


def test_a_pair_stands_at_its_pruner_and_selector_and_the_controls_first() -> None:
    """Accuracy of rigl x craig: the mean of 0.48, 0.49 and 0.50; its Bliss, chance 0.1 and dense 0.95, by hand:

    r = (y - 0.1) / 0.85: 0.39 / 0.85 - (0.7 / 0.85) (0.5 / 0.85) = 0.45882 - 0.48443 = -0.02561.
    """
    found = maps(crossed((0.9, 0.1)))
    assert list(found) == ["methods_accuracy", "methods_bliss"]
    for info in found.values():
        (panel,) = info.panels
        assert (info.down, info.across, info.columns) == ("pruner", "selector", (panel.column,))
        assert panel.column == "prune rate 90 %, coreset ratio 10 %"
        assert panel.prune_rates == (UNPRUNED, "gmp", "rigl")
        assert panel.coreset_ratios == (WHOLE, "craig", "el2n")
    (accuracy,), (bliss,) = (info.panels for info in found.values())
    expected = [[95, 60, 70], [90, 55, 64], [80, 49, 57]]
    assert accuracy.value == pytest.approx(np.array(expected))
    assert bliss.value[:, 0] == pytest.approx([95, 90, 80])
    assert bliss.value[2, 1] == pytest.approx(-2.561, abs=0.001)
    assert (bliss.state[0] == CONTROL).all()
    assert (bliss.state[1:, 1:] == COLOURED).all()
    assert found["methods_bliss"].limits[0] == -found["methods_bliss"].limits[1]


def test_missing_and_failed_pairs_fewer_seeds_and_collapses_are_marked() -> None:
    rows = [r for r in crossed((0.9, 0.1)) if (r["pruner"], r["selector"]) != ("gmp", "craig")]
    for r in rows:
        if (r["pruner"], r["selector"]) == ("rigl", "craig"):
            r |= {"status": "failed", "accuracy_test": None}
        if (r["pruner"], r["selector"]) == ("rigl", "el2n"):
            r |= {"accuracy_test": 0.12}
    rows = [r for r in rows if (r["pruner"], r["selector"], r["seed"]) != ("gmp", "el2n", 2)]
    info = maps(rows)["methods_bliss"]
    (panel,) = info.panels
    assert panel.state[1, 1] == MISSING
    assert panel.state[2, 1] == FAILED
    assert panel.n[1:, 2].tolist() == [2, 3]
    assert (panel.fallen[2, 2], panel.judged[2, 2]) == (3, 3)
    assert "1 missing, 1 failed or stopped" in info.caption
    texts = {text.get_text() for axes in heatmap.draw(info).axes for text in axes.texts}
    assert any("n=2" in text for text in texts)
    assert "3/3" in texts


@pytest.mark.parametrize("kept", [{"pruner": {"none", "rigl"}}, {"selector": {"none", "el2n"}}])
def test_one_pruner_or_one_selector_is_no_comparison(kept: dict[str, set[str]]) -> None:
    ((column, names),) = kept.items()
    assert maps([r for r in crossed((0.9, 0.1)) if r[column] in names]) == {}


def test_of_many_points_those_with_most_pairs_are_shown_in_order() -> None:
    points = [(p, a) for p in (0.5, 0.9) for a in (0.2, 0.1, 0.05)]
    lacking = {(0.5, 0.1), (0.9, 0.2)}
    rows = [r for r in crossed(*points) if (r["prune_rate"], r["coreset_ratio"]) not in lacking or r["pruner"] == "gmp"]
    info = maps(rows)["methods_accuracy"]
    assert [panel.column for panel in info.panels] == [
        f"prune rate {p} %, coreset ratio {a} %" for p, a in ((50, 20), (50, 5), (90, 10), (90, 5))
    ]
    assert f"Shown: {POINTS} of 6 points" in info.caption


def test_long_names_are_broken_and_kept_off_the_cells() -> None:
    rows = [r | ({"pruner": "iterative magnitude"} if r["pruner"] == "gmp" else {}) for r in crossed((0.9, 0.1))]
    rows += [r | {"prune_rate": 0.5, "coreset_ratio": 0.2} for r in rows if r["prune_rate"] and r["coreset_ratio"] < 1]
    figure = heatmap.draw(maps(rows)["methods_accuracy"])
    assert isinstance(figure, Figure)
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    first, second = (axes.get_window_extent(renderer) for axes in figure.axes[:2])
    labels = [label.get_window_extent(renderer) for label in figure.axes[1].get_yticklabels()]
    assert min(box.x0 for box in labels) > first.x1
    assert second.x0 > first.x1


def test_many_panels_go_on_in_bands_that_fit_a_page() -> None:
    rows = [run(0, 1, 0, 0.95)]
    pruners, selectors = [f"pruner{i}" for i in range(6)], [f"selector{i}" for i in range(6)]
    rows += [row(0.9, 1, 0, 0.9, pruner=pruner) for pruner in pruners]
    rows += [row(0, 0.1, 0, 0.8, selector=selector) for selector in selectors]
    rows += [row(0.9, 0.1, 0, 0.7, pruner, selector) for pruner in pruners for selector in selectors]
    runs = table(rows)
    figure = heatmap.draw(heatmaps(surface(runs), synergy(runs))[0])
    assert figure.get_figwidth() <= heatmap.WIDEST
    boxes = [axes.get_position() for axes in figure.axes]
    assert len({round(box.y0, 6) for box in boxes[:36]}) > 1
    assert all(box.x0 > 0 and box.x1 < 1 and box.y0 > 0 and box.y1 < 1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_the_report_shows_both(tmp_path: Path) -> None:
    written = report.write(report.analyze(write(tmp_path, table(crossed((0.9, 0.1))))))
    names = {path.name for path in written.files}
    assert {"methods_accuracy.png", "methods_bliss.svg", "methods_bliss.tex"} <= names
    page = (tmp_path / "report.html").read_text()
    assert page.count("r(p,α) − r(p,1)·r(0,α)") >= 2
