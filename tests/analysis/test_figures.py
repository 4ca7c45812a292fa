"""What figures show: the panels, and the artists drawn from them (never pixels)."""

import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text
from PIL import Image

from analysis import latex, panels
from analysis.cost import points
from analysis.figures import canvas, frontier, heatmap, interactive
from analysis.frontier import collapse_grid
from analysis.frontier import frontier as frontier_of
from analysis.panels import CONTROL, FAILED, MISSING, UNDEFINED, Heatmap, Panel, heatmaps
from analysis.surface import surface
from analysis.synergy import MEASURES, synergy
from tests.analysis.synthetic_runs import grid, realistic, run, table


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
        assert "1 missing, 1 failed or stopped, 0 undefined (no controls, or dense at chance)" in info.caption


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


def flat(spread: float) -> dict[str, Heatmap]:
    """Maps of a sweep in which every cell has the same accuracy but for ``spread``."""
    cells = {(p, a): [0.98 + spread * (p + a), 0.98] for p in (0.0, 0.5) for a in (1.0, 0.1)}
    runs = table(grid(cells))
    return {info.name: info for info in heatmaps(surface(runs), synergy(runs))}


@pytest.mark.parametrize("spread", [0.0, 1e-4])
def test_noise_around_zero_is_pale(spread: float) -> None:
    """Colours span at least a point to either side, so that a tenth of a point is no strong effect."""
    maps = flat(spread)
    assert all(maps[name].limits == (-1, 1) for name in MEASURES)
    low, high = maps["accuracy"].limits
    assert high - low == pytest.approx(2)
    assert low < 98 < high <= 100


def test_words_say_what_is_adjusted_for_many_cells() -> None:
    """The intervals are each cell's own; the hatching goes by q, over a family of cells."""
    for name in ("bliss", "additive"):
        info = maps()[name]
        assert "unadjusted 95 % t-interval" in info.subtitle
        assert "not adjusted for the number of cells" in info.caption
        assert "Hatched: not significant, q ≥ 0.05" in info.caption
        assert "q is the false-discovery rate" in info.caption
        assert "may leave out 0" in info.caption
    assert "losses too" in maps()["hsa"].caption


def test_words_say_where_test_and_interval_part() -> None:
    """One seed of ten breaks: all flips of sign agree (p = 2 / 1024), the t-interval covers 0."""
    cells = {(0.0, 1.0): [0.98] * 10, (0.5, 1.0): [0.97] * 10, (0.0, 0.1): [0.96] * 10}
    broken = [0.5] + [0.95 - 0.001 * seed for seed in range(9)]
    runs = table(grid({**cells, (0.5, 0.1): broken}))
    info = {i.name: i for i in heatmaps(surface(runs), synergy(runs))}["bliss"]
    shown = info.panels[0]
    assert shown.significant[1, 1]
    assert shown.value[1, 1] + shown.half[1, 1] > 0
    assert "a plain one's may cover it" in info.caption
    assert "a plain one's may cover it" not in maps()["bliss"].caption


def test_words_say_why_a_number_has_no_interval() -> None:
    for name in ("accuracy", "additive"):
        assert "Without ±: all seeds give the same number" in flat(0.0)[name].caption
        assert "Without ±" not in maps()[name].caption


def test_words_say_that_dense_runs_are_too_few_for_an_interval() -> None:
    cells = {
        (0.0, 1.0): [0.9],
        (0.5, 1.0): [0.8, 0.79, 0.81],
        (0.0, 0.1): [0.7, 0.72, 0.71],
        (0.5, 0.1): [0.5, 0.4, 0.6],
    }
    runs = table(grid(cells))
    info = {i.name: i for i in heatmaps(surface(runs), synergy(runs))}["bliss"]
    assert "Without ±: fewer than two of these seeds have a dense run." in info.caption
    assert "all seeds give the same" not in info.caption
    assert "a test needs two seeds" not in info.caption


def test_the_frontier_lies_in_the_rows_of_its_rates_below_a_row_of_the_classifier_alone() -> None:
    """Rows: nothing pruned, the classifier alone, 50 %, 90 %."""
    rows = [row for ratio in (1.0, 0.2, 0.1) for seed in range(3) for row in fc_rows(ratio, seed)]
    runs = table(rows)
    grids = surface(runs)
    info = {i.name: i for i in heatmaps(grids, synergy(runs), collapse_grid(runs), frontier_of(runs))}["bliss"]
    (shown,) = info.panels
    assert shown.prune_rates == ("0", "0 (FC)", "50", "90")
    assert shown.frontier is not None
    assert shown.frontier.y.tolist() == [1.5, 2.5, 3.5]


def fc_rows(ratio: float, seed: int) -> Iterator[dict[str, Any]]:
    """Of one ratio: dense, the classifier pruned alone, and with the rest; the smallest coreset collapses at 90 %."""
    for p, fc in ((0.0, None), (0.0, 0.9), (0.5, 0.9), (0.9, 0.9)):
        fallen = (p, ratio) == (0.9, 0.1)
        yield run(p, ratio, seed, 0.2 if fallen else 0.9) | {
            "pruner": "none" if fc is None else "rigl",
            "fc_prune_rate": fc,
        }


def test_a_cell_that_no_test_saw_is_not_called_insignificant() -> None:
    runs = realistic(seeds=1)
    alone = {i.name: i for i in heatmaps(surface(runs), synergy(runs))}
    assert alone["bliss"].hatched == "not tested"
    assert alone["bliss"].subtitle.endswith("n = 1 paired seed in every cell: no interval")
    assert "±" not in alone["bliss"].subtitle + alone["accuracy"].subtitle
    runs = realistic()
    some = runs[~((runs["prune_rate"] == 0.5) & (runs["coreset_ratio"] == 0.2) & (runs["seed"] > 0))]
    mixed = {i.name: i for i in heatmaps(surface(some), synergy(some))}
    assert mixed["bliss"].hatched == "not significant or not tested"
    assert maps()["bliss"].hatched == "not significant"


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
    assert "1 undefined (no controls, or dense at chance)" in info["additive"].caption
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


def variants() -> dict[str, Heatmap]:
    """Long names over narrow panels, and a row (0, classifier only) that two of the four panels lack."""
    rows = grid({(0.0, 1.0): [0.98, 0.97], (0.0, 0.1): [0.97, 0.97]})
    for every in ("10", "per_interval: 5"):
        cells: dict[tuple[float, float], list[float]] = {(0.9, 1.0): [0.96, 0.95], (0.9, 0.1): [0.9, 0.92]}
        rows += grid(cells, **{"pruner.update_every": every})
        cells |= {(0.0, 1.0): [0.98, 0.97], (0.0, 0.1): [0.97, 0.95]}
        rows += grid(cells, **{"pruner.update_every": every, "pruner": "rigl", "fc_prune_rate": 0.9})
    runs = table(rows)
    return {info.name: info for info in heatmaps(surface(runs), synergy(runs))}


def test_long_names_of_panels_touch_nothing() -> None:
    for info in variants().values():
        figure = heatmap.draw(info)
        figure.draw_without_rendering()
        boxes = [a.title.get_window_extent() for a in figure.axes if a.get_title()]
        boxes += [t.get_window_extent() for t in figure.texts]
        assert len(boxes) == 4 + 1 + 3
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_all_cells_are_equally_large() -> None:
    figure = heatmap.draw(variants()["bliss"])
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    sizes = {round(float(axes.bbox.height / axes.get_ylim()[0]), 3) for axes in panels}
    assert {axes.get_ylim()[0] for axes in panels} == {2, 3}
    assert len(sizes) == 1


def test_texts_of_a_cell() -> None:
    info = maps()["bliss"]
    shown = panel(info, "none", "balanced=False")
    assert heatmap.cell_text(info, shown, 0, 0) == f"{shown.value[0, 0]:.1f}"
    assert heatmap.cell_text(info, shown, 3, 3).startswith("−")
    assert "±" in heatmap.cell_text(info, shown, 3, 3)


def fewer() -> Heatmap:
    """Three seeds without preservation, two with it."""
    cells = {(0.0, 1.0): 0.9, (0.5, 1.0): 0.8, (0.0, 0.1): 0.7, (0.5, 0.1): 0.6}
    noise = np.array([-0.01, 0.0, 0.02])
    kept = [run(0.5, 0.1, seed, 0.65 + noise[seed], preservation="complete") for seed in range(2)]
    runs = table([*grid({cell: y + noise for cell, y in cells.items()}), *kept])
    return next(info for info in heatmaps(surface(runs), synergy(runs)) if info.name == "bliss")


def test_a_panel_says_how_many_seeds_it_has_where_another_has_more() -> None:
    info = fewer()
    assert "n = 2 to 3 paired seeds (given where below 3)" in info.subtitle
    none, complete = (next(p for p in info.panels if p.row == row) for row in ("none", "complete"))
    assert "n=" not in heatmap.cell_text(info, none, 1, 1)
    assert "n=2" in heatmap.cell_text(info, complete, 1, 1)
    text = latex.tables(info)
    assert text.count("($n = 2$)") == 1
    assert r"First row and column: accuracy (\%) of the single treatments." in text


def test_a_large_map_is_drawn_on_sheets_with_one_scale() -> None:
    info = maps()["bliss"]
    assert panels.sheets(info) == (info,)
    parts = panels.sheets(info, most=40)
    assert [part.name for part in parts] == ["bliss-1", "bliss-2"]
    assert sum((part.columns for part in parts), ()) == info.columns
    assert sum(len(part.panels) for part in parts) == len(info.panels)
    for part in parts:
        assert (part.limits, part.seeds) == (info.limits, info.seeds)
        assert f"of all {len(parts)} sheets" in part.caption
        assert canvas.encode(heatmap.draw(part), "png").startswith(b"\x89PNG")


def test_rates_have_as_many_digits_as_tell_them_apart() -> None:
    assert panels.percent(pd.Series([0.9, 1 / 3])).tolist() == ["90", "33.33"]
    assert panels.percent(pd.Series([0.9995, 0.99954])).tolist() == ["99.95", "99.954"]
    runs = table(grid({(0.0, 1.0): [0.9], (0.9995, 1.0): [0.8], (0.99954, 1.0): [0.7]}))
    (info,) = heatmaps(surface(runs), synergy(runs))
    assert info.panels[0].value[:, 0].tolist() == pytest.approx([90, 80, 70])


def test_files_are_valid_and_equal_for_equal_input() -> None:
    info = maps()["accuracy"]
    png, svg = (canvas.encode(heatmap.draw(info), kind) for kind in ("png", "svg"))
    assert png.startswith(b"\x89PNG")
    page = canvas.lossless(canvas.rendered(heatmap.draw(info)))
    assert len(page) < len(png)
    with Image.open(io.BytesIO(png)) as one, Image.open(io.BytesIO(page)) as other:
        assert np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert svg == canvas.encode(heatmap.draw(info), "svg")
    assert png == canvas.encode(heatmap.draw(info), "png")


def crowded() -> pd.DataFrame:
    """Twelve treatments on the front within half a decade and a point of accuracy, and wide intervals below."""
    rng = np.random.default_rng(0)
    rows = []
    for k, p in enumerate(np.linspace(0.5, 0.95, 12).round(3).tolist()):
        for ratio, level in ((0.05, 0.97 - 0.001 * k), (0.2, 0.6)):
            for seed in range(3):
                cost = 0.5 * (1 - p) * (1 + ratio)
                y = level + (0.2 * rng.normal() if ratio > 0.1 else 0)
                rows.append(run(p, ratio, seed, float(np.clip(y, 0, 1))) | {"flops_relative": cost, "seconds": 9.0})
    return points(table(rows))


def front_labels(figure: Figure) -> list[Text]:
    return [t for t in figure.axes[0].texts if " / " in t.get_text()]


@pytest.mark.parametrize("shown", [points(realistic()), crowded(), points(realistic(1, False))], ids="hcs")
def test_front_labels_touch_nothing(shown: pd.DataFrame) -> None:
    """Neither each other, nor a marker, an interval or the legend; and none leaves the axes."""
    figure = frontier.draw(shown, "digits, mlp")
    axes = figure.axes[0]
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(t) for t in front_labels(figure)]
    assert boxes
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    at = axes.transData.transform(shown[["flops_relative", "mean"]].to_numpy() * [1, 100])
    assert not any(box.contains(x, y) for box in boxes for x, y in at)
    bars = [path for c in axes.collections if isinstance(c, LineCollection) for path in c.get_paths()]
    assert not any(axes.transData.transform_path(path).intersects_bbox(box) for box in boxes for path in bars)
    assert not any(box.overlaps(figure.legends[0].get_window_extent()) for box in boxes)
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.corners())


def test_lines_to_labels_are_no_intervals() -> None:
    """They lean and are dotted, where intervals stand and the front is drawn through."""
    figure = frontier.draw(points(realistic()), "digits, mlp")
    figure.draw_without_rendering()
    lines = [t.arrow_patch for t in front_labels(figure) if isinstance(t, Annotation)]
    assert lines
    for line in filter(None, lines):
        assert line.get_linestyle() == ":"
        (x0, _), (x1, _) = line.get_path().vertices[[0, -1]]
        assert abs(x1 - x0) > 1


def test_front_is_readable_at_half_size() -> None:
    """Six points are left of twelve; the legend stays outside of the axes, where no point lies."""
    figure = frontier.draw(points(realistic()), "digits, mlp")
    assert all(text.get_fontsize() >= 12 for text in front_labels(figure))
    assert all(text.get_fontsize() >= 11 for text in figure.axes[0].get_xticklabels() + figure.legends[0].get_texts())
    figure.draw_without_rendering()
    assert not figure.legends[0].get_window_extent().overlaps(figure.axes[0].bbox)
    assert max(figure.axes[0].get_yticks()) <= 100


def test_front_says_how_many_labels_found_no_room() -> None:
    shown = crowded()
    figure = frontier.draw(shown, "digits, mlp")
    left_out = int(shown["front"].sum()) - len(front_labels(figure))
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert (f"{left_out} found no room" in said) == bool(left_out)


def test_front_without_seconds() -> None:
    runs = realistic().drop(columns="seconds")
    assert frontier.draw(points(runs), "digits, mlp").axes


def test_interactive_figure_is_valid_plotly() -> None:
    shown = interactive.figure(tuple(maps().values()))
    plotly.graph_objects.Figure(shown)
    assert len(shown["data"]) == 6 * 4
    assert sum(trace["visible"] for trace in shown["data"]) == 4
    assert json.loads(interactive.to_json(shown)) == json.loads(json.dumps(shown))


def test_a_name_wider_than_its_panel_stands_below_the_first_alone() -> None:
    info = maps()["bliss"]
    for across, often in (("coreset ratio (%)", len(info.columns)), ("a name that is wider than " * 4, 1)):
        figure = heatmap.draw(replace(info, across=across))
        assert sum(axes.get_xlabel() == across for axes in figure.axes) == often


def test_many_methods_go_on_in_bands_on_the_page() -> None:
    info = maps()["bliss"]
    panel = info.panels[0]
    names = tuple(f"pruner {k}" for k in range(20))
    many = replace(info, rows=(panel.row,), columns=names, panels=tuple(replace(panel, column=name) for name in names))
    layout = interactive.figure((many,))["layout"]
    abreast = interactive.CELLS // len(panel.coreset_ratios)
    boxes = {(*layout[f"xaxis{k}"]["domain"], *layout[f"yaxis{k}"]["domain"]) for k in ("", *range(2, 21))}
    assert len(boxes) == 20
    assert len({box[:2] for box in boxes}) == abreast < 20
    assert len({box[2:] for box in boxes}) == -(-20 // abreast)


def test_page_and_print_share_their_colours() -> None:
    """Low contrasts are red in both; plotly's own scale of that name is blue there, and has hard steps of grey."""
    for info in (maps()["bliss"], maps()["accuracy"]):
        scale = interactive.figure((info,))["layout"]["coloraxis"]
        print_scale, norm = heatmap.colour_scale(info)
        assert (scale["cmin"], scale["cmax"]) == (norm.vmin, norm.vmax)
        assert len(scale["colorscale"]) >= 64
        for position, colour in scale["colorscale"]:
            assert to_rgb(colour) == pytest.approx(print_scale(position)[:3], abs=0.01)
    low = to_rgb(interactive.figure((maps()["bliss"],))["layout"]["coloraxis"]["colorscale"][0][1])
    assert low[0] > low[2]


def test_page_shows_what_print_shows() -> None:
    """Signed values with a true minus, no negative zero, significant ones in bold; accuracies plain."""
    shown = panel(maps()["bliss"], "none", "balanced=False")
    trace = next(
        t for t in interactive.figure((maps()["bliss"],))["data"] if t["z"][3][3] == round(float(shown.value[3, 3]), 3)
    )
    assert trace["text"][3][3] == f"<b>−{-shown.value[3, 3]:.1f}</b>"
    assert trace["text"][0][0] == ""
    calm = interactive.figure((flat(1e-6)["additive"],))["data"][0]
    assert calm["text"][1][1] == "0.0"
    assert "<b>" not in str(interactive.figure((maps()["accuracy"],))["data"])


def test_headings_of_the_page_are_broken_where_columns_are_narrow() -> None:
    layout = interactive.figure((variants()["bliss"],))["layout"]
    texts = [heading["text"] for heading in layout["annotations"]]
    assert len(texts) == 4
    assert all(len(line) <= 40 for text in texts for line in text.split("<br>"))
    assert layout["margin"]["t"] > interactive.figure((maps()["bliss"],))["layout"]["margin"]["t"]


def test_a_map_without_numbers_has_no_colours() -> None:
    runs = table(grid({(0.0, 1.0): [None], (0.5, 1.0): [None], (0.0, 0.1): [None], (0.5, 0.1): [None]}))
    for info in heatmaps(surface(runs), synergy(runs)):
        assert info.subtitle.endswith("no cell has a number")
        assert "Grey" not in info.caption
        assert "No test" not in info.caption
        assert len(heatmap.draw(info).axes) == 1
        assert not interactive.figure((info,))["layout"]["coloraxis"]["showscale"]


def named(row: str) -> Heatmap:
    """A map whose rows are no numbers, as those of pruners against selectors."""
    info = maps()["accuracy"]
    shown = tuple(replace(p, prune_rates=(row, *p.prune_rates[1:])) for p in info.panels)
    return replace(info, panels=shown)


def test_latex_rows_bold_and_escapes() -> None:
    text = latex.tables(maps()["bliss"])
    assert text.count(r"\begin{tabular}{rrrrr}") == 4
    assert text.count(r"\mathbf") == sum(
        int((p.significant & (p.state == "coloured")).sum()) for p in maps()["bliss"].panels
    )
    assert " -- " in text
    assert r"fc\_prune\_rate & " in latex.tables(named("fc_prune_rate"))
    assert latex.escape("50 % α_1") == r"50 \% $\alpha$\_1"


def test_one_seed_figures_have_no_interval() -> None:
    runs = realistic(seeds=1)
    info = heatmaps(surface(runs), synergy(runs))
    assert all(np.isnan(p.half).all() for i in info for p in i.panels)
    assert "±" not in heatmap.cell_text(info[0], info[0].panels[0], 0, 0)
    assert "No test" in info[1].caption


def test_experiments_that_differ_in_a_sign_have_files_of_their_own() -> None:
    cells = {(0.0, 1.0): [0.9], (0.5, 1.0): [0.8], (0.0, 0.1): [0.7], (0.5, 0.1): [0.6]}
    runs = table([*grid(cells, lr=1e-6), *grid(cells, lr=1e6)])
    names = [info.name for info in heatmaps(surface(runs), synergy(runs))]
    assert len(names) == len(set(names))
    assert {"bliss-digits-mlp-lr-1e-06", "bliss-digits-mlp-lr-1e+06"} <= set(names)
    odd = table([*grid(cells, model="a(b"), *grid(cells, model="a)b")])
    assert {"bliss-digits-a-b", "bliss-digits-a-b-2"} <= {i.name for i in heatmaps(surface(odd), synergy(odd))}
