"""What figures show: the panels, and the artists drawn from them (never pixels)."""

import json
import xml.etree.ElementTree as ElementTree
from functools import cache

import numpy as np
import plotly.graph_objects
import pytest
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis import latex
from analysis.cost import points
from analysis.figures import canvas, frontier, heatmap, interactive
from analysis.panels import CONTROL, FAILED, MISSING, UNDEFINED, Heatmap, Panel, heatmaps
from analysis.surface import surface
from analysis.synergy import MEASURES, synergy
from tests.analysis.synthetic_runs import grid, realistic, table


@cache
def maps() -> dict[str, Heatmap]:
    runs = realistic()
    return {info.name: info for info in heatmaps(surface(runs), synergy(runs))}


def panel(info: Heatmap, row: str, column: str) -> Panel:
    return next(p for p in info.panels if p.row == row and p.column.endswith(f"({column})"))


def test_one_map_for_accuracy_and_each_measure() -> None:
    assert list(maps()) == ["accuracy", *MEASURES]
    for info in maps().values():
        assert (info.rows, len(info.columns), len(info.panels)) == (("none", "complete"), 2, 4)


def test_axes_are_per_cent_with_baselines_first() -> None:
    shown = panel(maps()["bliss"], "none", "balanced=False")
    assert shown.prune_rates == ("0", "50", "80", "90", "95")
    assert shown.coreset_ratios == ("100", "20", "10", "5")
    assert (shown.state[0] == CONTROL).all()
    assert (shown.state[:, 0] == CONTROL).all()


def test_missing_and_failed_cells_are_told_apart() -> None:
    for name in ("accuracy", "bliss"):
        info = maps()[name]
        assert panel(info, "complete", "balanced=True").state[4, 2] == MISSING
        assert panel(info, "none", "balanced=True").state[2, 3] == FAILED
        assert "1 missing, 1 failed or stopped, 0 without controls" in info.caption


def test_values_are_points_and_match_the_table() -> None:
    runs = realistic()
    row = (
        synergy(runs)
        .query("measure == 'bliss' and prune_rate == 0.9 and coreset_ratio == 0.05 and preservation == 'none'")
        .iloc[0]
    )
    shown = panel(maps()["bliss"], "none", "balanced=False")
    assert shown.value[3, 3] == pytest.approx(100 * row["value"])
    assert shown.half[3, 3] == pytest.approx(50 * (row["hi"] - row["lo"]))
    assert shown.significant[3, 3] == row["significant"]


def test_diverging_limits_are_centred_on_zero() -> None:
    low, high = maps()["bliss"].limits
    assert low == -high
    assert maps()["accuracy"].limits[0] > 0


def test_words_say_unit_n_interval_and_test() -> None:
    info = maps()["additive"]
    assert info.subtitle.startswith("percentage points")
    assert "95 % t-interval, n = 3 paired seeds" in info.subtitle
    assert "paired t test" in info.caption
    assert "Benjamini–Hochberg" in info.caption
    assert "gains only" in maps()["hsa"].caption
    assert "above-chance" in maps()["bliss"].unit


def test_a_cell_without_controls_is_undefined_not_missing() -> None:
    runs = table(grid({(0.0, 1.0): [0.9], (0.5, 0.1): [0.5]}))
    info = {i.name: i for i in heatmaps(surface(runs), synergy(runs))}
    assert info["additive"].panels[0].state[1, 1] == UNDEFINED
    assert "1 without controls" in info["additive"].caption
    assert heatmap.draw(info["additive"]).axes


def test_each_experiment_gets_its_own_map() -> None:
    cells = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7], (0.5, 0.1): [0.5]}
    runs = table([*grid(cells), *grid(cells, model="resnet 20")])
    names = [i.name for i in heatmaps(surface(runs), synergy(runs))]
    assert "accuracy-digits-mlp" in names
    assert "bliss-digits-resnet-20" in names


def test_hatches_and_crosses_are_drawn() -> None:
    info = maps()["bliss"]
    figure = heatmap.draw(info)
    shown = [axes for axes in figure.axes if axes.get_xlabel() or axes.get_title()][:4]
    hatched = sum(isinstance(p, Rectangle) and bool(p.get_hatch()) for axes in figure.axes for p in axes.patches)
    crossed = sum(
        isinstance(a, Line2D)
        and len(a.get_xdata()) == 2
        and a.get_color() in {mark[0] for mark in heatmap.MARKS.values()}
        for axes in figure.axes
        for a in axes.lines
    )
    expected = sum(int(((p.state == "coloured") & ~p.significant).sum()) for p in info.panels)
    assert hatched == expected > 0
    assert crossed == 2 * 2
    assert shown


def test_no_text_is_small_and_none_leaves_the_figure() -> None:
    for figure in (heatmap.draw(maps()["hsa"]), frontier.draw(points(realistic()), "digits, mlp")):
        frame = figure.bbox
        texts = [t for t in figure.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text() and t.get_visible()]
        for text in texts:
            assert text.get_fontsize() >= 8
        for text in figure.texts:
            box = text.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= frame.x1, text.get_text()
            assert 0 <= box.y0 < box.y1 <= frame.y1, text.get_text()


def test_texts_of_a_cell() -> None:
    shown = panel(maps()["bliss"], "none", "balanced=False")
    assert heatmap.cell_text(shown, 0, 0, True) == f"{shown.value[0, 0]:.1f}"
    assert heatmap.cell_text(shown, 3, 3, True).startswith("−")
    assert "±" in heatmap.cell_text(shown, 3, 3, True)


def test_files_are_valid_and_equal_for_equal_input() -> None:
    info = maps()["accuracy"]
    png, svg = (canvas.encode(heatmap.draw(info), kind) for kind in ("png", "svg"))
    assert png.startswith(b"\x89PNG")
    assert len(canvas.shrink(png)) < len(png)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert svg == canvas.encode(heatmap.draw(info), "svg")
    assert png == canvas.encode(heatmap.draw(info), "png")


def test_front_labels_do_not_touch() -> None:
    figure = frontier.draw(points(realistic()), "digits, mlp")
    labels = [t for t in figure.axes[0].texts if " / " in t.get_text()]
    boxes = [t.get_window_extent() for t in labels]
    assert labels
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_front_without_seconds() -> None:
    runs = realistic().drop(columns="seconds")
    assert frontier.draw(points(runs), "digits, mlp").axes


def test_interactive_figure_is_valid_plotly() -> None:
    shown = interactive.figure(tuple(maps().values()))
    plotly.graph_objects.Figure(shown)
    assert len(shown["data"]) == 6 * 4
    assert sum(trace["visible"] for trace in shown["data"]) == 4
    assert json.loads(interactive.figure_json(tuple(maps().values()))) == json.loads(json.dumps(shown))


def test_latex_rows_bold_and_escapes() -> None:
    text = latex.tables(maps()["bliss"])
    assert text.count(r"\begin{tabular}{rrrrr}") == 4
    assert text.count(r"\mathbf") == sum(
        int((p.significant & (p.state == "coloured")).sum()) for p in maps()["bliss"].panels
    )
    assert " -- " in text
    assert latex.escape("50 % α_1") == r"50 \% $\alpha$\_1"


def test_one_seed_figures_have_no_interval() -> None:
    runs = realistic(seeds=1)
    info = heatmaps(surface(runs), synergy(runs))
    assert all(np.isnan(p.half).all() for i in info for p in i.panels)
    assert "±" not in heatmap.cell_text(info[0].panels[0], 0, 0, False)
    assert "No test" in info[1].caption
