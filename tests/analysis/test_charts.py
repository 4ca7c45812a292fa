"""Charts of courses: what they hold, worked by hand, and the artists drawn from them."""

import json
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from matplotlib.collections import PathCollection
from scipy import stats

from analysis import episodes, noise, switches
from analysis.charts import Chart, Charts, Line, median_band, plain
from analysis.collapse import collapse_events
from analysis.courses import courses, matrices
from analysis.dips import Detection
from analysis.dynamics import dynamics
from analysis.figures import charts as figure
from analysis.figures import chooser, interactive
from analysis.figures.canvas import encode
from analysis.runs import validate_runs
from tests.analysis.test_collapse import AT, FLAT, T, step, sweep

SETTINGS = Detection()
LOST = {"joint": step(0.85, 15, 0.3)}


def line_of(chart: Chart, name: str) -> Line:
    return next(line for line in chart.lines if line.name == name)


def test_bands_are_median_and_quartiles_of_what_is_known() -> None:
    values = np.array([[1.0, np.nan, 4.0], [2.0, np.nan, np.nan], [3.0, np.nan, 8.0]])
    line = median_band("x", values)
    assert line is not None
    assert line.epoch.tolist() == [1, 3]
    assert line.value.tolist() == [2.0, 6.0]
    assert (line.lo.tolist(), line.hi.tolist()) == ([1.5, 5.0], [2.5, 7.0])
    assert median_band("x", np.full((2, 3), np.nan)) is None
    assert plain("x", np.array([1, 2]), np.array([np.nan, 5.0])).epoch.tolist() == [2]


def test_a_trajectory_holds_the_run_its_references_and_the_expected_course() -> None:
    runs, history = sweep({**LOST, "dense": step(0.9, 15, -0.05), "prune": step(0.88, 15, -0.05)})
    c = courses(runs, history)
    events = collapse_events(runs, history)
    chart = episodes.trajectories(c, events, SETTINGS).charts[0]
    assert [line.name for line in chart.lines] == ["prune-only", "coreset-only", "dense", "expected course", "the run"]
    assert line_of(chart, "the run").value == pytest.approx(100 * np.where(AT >= 15, 0.55, 0.85))
    expected = line_of(chart, "expected course")
    assert expected.epoch.tolist() == list(range(15, 26))
    # 85 before; two of three references gain 5 points; the smallest event is 3 points below. The first of the
    # smoothed epochs has its neighbour of epoch 14 in the median.
    assert expected.value == pytest.approx([90.0] * 11)
    assert expected.lo == pytest.approx([87.0] * 11)
    assert chart.switches == (10, 15, 20, 25, 30)
    assert chart.window == (15, 25)
    assert (chart.marks[0].epoch[0], chart.marks[0].value[0]) == (15, pytest.approx(55))
    assert chart.title.startswith("critical double-loss, suspected\nrigl × el2n, p\u00a0=\u00a090\u00a0%")


def test_the_page_lets_one_choose_among_the_courses_of_all_events() -> None:
    """Every event is offered, also of one cell, in the order of the table; a choice shows its lines, frame and unit."""
    runs, history = sweep({**LOST, "dense": step(0.9, 15, -0.05), "prune": step(0.88, 15, -0.05)})
    event = collapse_events(runs, history)[0]
    milder = replace(event, epoch=20, horizon=30, trough_epoch=21)
    both = episodes.trajectories(courses(runs, history), (event, milder), SETTINGS)
    shown = chooser.figure(both)
    plotly.graph_objects.Figure(shown)
    assert json.loads(interactive.to_json(shown)) == json.loads(json.dumps(shown))
    buttons = shown["layout"]["updatemenus"][0]["buttons"]
    title = both.charts[0].title.replace("\n", ": ")
    assert [button["label"] for button in buttons] == [f"{title}, epoch 15", f"{title}, epoch 20"]
    visible, frame = buttons[1]["args"]
    drawn = [trace for trace, on in zip(shown["data"], visible["visible"], strict=True) if on]
    assert [trace["name"] for trace in drawn if trace.get("showlegend", True)] == [
        *(line.name for line in figure.stacked(both.charts[1].lines)),
        "trough",
    ]
    assert not any(trace["visible"] and on for trace, on in zip(shown["data"], visible["visible"], strict=True))
    course = next(trace for trace in drawn if trace.get("name") == "the run")
    assert course["y"] == pytest.approx(line_of(both.charts[1], "the run").value.tolist())
    window, *lines = frame["shapes"]
    assert (window["x0"], window["x1"]) == (19.5, 30.5)
    assert [line["x0"] for line in lines] == [10, 15, 20, 25, 30]
    assert frame["yaxis.title.text"] == both.charts[1].unit == shown["layout"]["yaxis"]["title"]["text"]


def test_the_gravest_of_each_cell_whatever_its_seed() -> None:
    (event,) = collapse_events(*sweep(LOST))
    runs, history = sweep(LOST)
    rates = [0.9, 0.9, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    copies = [
        {**row, "cell_id": f"{row['cell_id']}-{k}", "prune_rate": rate, "seed": k if k < 3 else 0, "model": model}
        for model in ("mlp", "cnn")
        for k, rate in enumerate(rates)
        for row in runs[runs["cell_id"] == event.cell_id].to_dict("records")
    ]
    for k, row in enumerate(copies):
        row["cell_id"] = f"{k:012x}"
    told = pd.concat([history[history["cell_id"] == event.cell_id].assign(cell_id=row["cell_id"]) for row in copies])
    c = courses(validate_runs(pd.DataFrame(copies)), told)
    mlp, cnn = ([replace(event, cell_id=row["cell_id"]) for row in copies if row["model"] == m] for m in ("mlp", "cnn"))
    shown = episodes.gravest(c, mlp)
    assert [int(e.cell_id, 16) for e in shown] == [0, 3, 4, 5, 6, 7]
    assert [int(e.cell_id, 16) for e in episodes.gravest(c, [*mlp[:3], *cnn[:3]])] == [0, 10]  # another experiment


def test_the_worst_classes_are_those_that_lost_most_up_to_the_trough() -> None:
    """Class 2 loses 90 points, class 0 loses 30, class 3 loses 10; class 1 is the lowest but loses none."""
    recall = {
        "accuracy_class_0": step(0.9, 15, 0.3),
        "accuracy_class_1": np.full(T, 0.2),
        "accuracy_class_2": step(1.0, 15, 0.9),
        "accuracy_class_3": step(0.8, 15, 0.1),
        "accuracy_class_4": np.full(T, 0.6),
    }
    runs, history = sweep(LOST)
    joint = runs.loc[(runs["prune_rate"] > 0) & (runs["coreset_ratio"] < 1), "cell_id"].iloc[0]
    for name, values in recall.items():
        history.loc[history["cell_id"] == joint, name] = values
    events = collapse_events(runs, history)
    info = episodes.classes(courses(runs, history), history, events, SETTINGS)
    assert info is not None
    (chart,) = info.charts
    assert chart.title.startswith("classes 2, 0, 3: critical double-loss")
    assert line_of(chart, "worst class").value[14] == pytest.approx(10)
    assert line_of(chart, "third class").value[14] == pytest.approx(70)
    others = line_of(chart, "other classes")
    assert (others.lo[14], others.value[14], others.hi[14]) == pytest.approx((20, 40, 60))
    assert episodes.classes(courses(runs, history), sweep(LOST)[1], events, SETTINGS) is None


def test_switches_are_those_of_joint_runs_with_what_followed() -> None:
    """A loss of 30 points at epoch 15 of a run that is expected at 85: from there on 30 below, before it nothing."""
    runs, history = sweep(LOST, shock=np.where((AT >= 10) & (AT % 5 == 0), AT / 10, np.nan))
    events = collapse_events(runs, history)
    found = switches.switches(courses(runs, history), events, SETTINGS)
    assert found["epoch"].tolist() == [10, 15, 20, 25, 30]
    assert found["drop"].tolist() == pytest.approx([0.0, 0.3, 0.0, 0.0, 0.0])
    assert found["shock"].tolist() == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0])
    assert found["kind"].tolist() == ["", "critical_double_loss", "", "", ""]
    info = switches.charts(found, switches.foretelling(found), T)
    assert info is not None
    (chart,) = info.charts
    assert (chart.title, chart.unit, chart.log) == ("el2n · 1 run, 1 event", "shock", True)
    assert line_of(chart, "no event follows").epoch.tolist() == [10]
    assert [(m.name, m.epoch.tolist(), m.value.tolist()) for m in chart.marks] == [("a lasting loss", [15], [1.5])]
    assert switches.charts(found.drop(columns="shock"), switches.foretelling(found), T) is None


def test_a_run_has_its_own_switches_among_those_of_its_group() -> None:
    """Another selector chose in the first epoch too, and measured Λ at fewer switches than shock."""
    runs, history = sweep(LOST, shock=np.where(AT % 5 == 0, AT / 10, np.nan))
    more = runs.assign(cell_id=[f"{k:012x}" for k in range(50, 54)])
    more["selector"] = more["selector"].replace("el2n", "infobatch")
    names = dict(zip(runs["cell_id"], more["cell_id"], strict=True))
    told = history.assign(cell_id=history["cell_id"].map(names), lost_support=history["weights_removed"] / 10)
    told["switch"] |= (told["epoch"] == 1) & (told["coreset_size"] > 0)
    both = pd.concat([runs, more], ignore_index=True), pd.concat([history, told], ignore_index=True)
    c, events = courses(*both), collapse_events(*both)
    found = switches.switches(c, events, SETTINGS)
    assert found.groupby("selector")["epoch"].apply(list).to_dict() == {
        "el2n": [10, 15, 20, 25, 30],
        "infobatch": [1, 10, 15, 20, 25, 30],
    }
    shown = {event.selector: event for event in events if event.role == "joint"}
    lines = episodes.trajectories(c, (shown["el2n"], shown["infobatch"]), SETTINGS).charts
    assert [chart.switches for chart in lines] == [(10, 15, 20, 25, 30), (1, 10, 15, 20, 25, 30)]


def test_the_caption_counts_the_switches_of_each_measure() -> None:
    rng = np.random.default_rng(0)
    found = pd.DataFrame({"cell_id": [str(k) for k in range(10)], "epoch": 10, "selector": "el2n", "kind": ""})
    found["status"] = ""
    found = found.assign(drop=rng.random(10), shock=rng.random(10), lost_support=[*rng.random(4), *[np.nan] * 6])
    info = switches.charts(found, switches.foretelling(found), T)
    assert info is not None
    assert "(n = 4 switches of 4 runs); shock" in info.caption
    assert "(n = 10 switches of 10 runs). Λ is not defined where no weight is removed yet" in info.caption
    assert [chart.title for chart in info.charts] == ["el2n · 4 runs, 0 events", "el2n · 10 runs, 0 events"]


def test_a_measure_that_never_varies_has_no_chart_but_a_sentence() -> None:
    """Class imbalance of balanced coresets is 0 at every switch: an empty chart would say nothing."""
    at_switches = (AT >= 10) & (AT % 5 == 0)
    zero, shock = np.where(at_switches, 0.0, np.nan), np.where(at_switches, AT / 10, np.nan)
    found = dynamics(*sweep(LOST, shock=shock, class_imbalance=zero))
    (info,) = (info for info in found.charts if info.name == "switches")
    assert [chart.unit for chart in info.charts] == ["shock"]
    assert info.caption.endswith("Class imbalance is 0 at every switch: it has no chart.")
    assert not any("at every switch" in note for note in found.notes)
    alone = dynamics(*sweep(LOST, class_imbalance=zero))
    assert "switches" not in {info.name for info in alone.charts}
    assert "Class imbalance is 0 at every switch: it has no chart." in alone.notes


def test_a_chart_in_which_nothing_varies_says_so() -> None:
    runs, history = sweep(LOST, class_imbalance=np.where((AT >= 10) & (AT % 5 == 0), AT / 100, np.nan))
    found = switches.switches(courses(runs, history), (), SETTINGS)
    balanced, unknown = (
        found.assign(selector=name, cell_id=name, class_imbalance=value) for name, value in (("b", 0.0), ("c", np.nan))
    )
    three = pd.concat([found, balanced, unknown], ignore_index=True)
    info = switches.charts(three, switches.foretelling(three), T)
    assert info is not None
    assert [chart.title for chart in info.charts] == [
        "b · 1 run, 0 events · always 0",
        "c · not measured",
        "el2n · 1 run, 0 events",
    ]


def test_foretelling_is_spearman_with_an_interval_over_runs() -> None:
    rng = np.random.default_rng(3)
    drop = rng.exponential(0.1, 400)
    made = pd.DataFrame({"cell_id": np.repeat(np.arange(80).astype(str), 5), "drop": drop})
    made["shock"] = drop + rng.normal(0, 0.1, 400)
    made["lost_support"] = rng.random(400)
    found = switches.foretelling(made).set_index("measure")
    assert list(found.index) == ["lost_support", "shock"]
    for name in found.index:
        assert found.loc[name, "rank_correlation"] == pytest.approx(stats.spearmanr(made[name], drop).statistic)
    assert found.loc["shock", "lo"] > 0.3 > found.loc["lost_support", "hi"]
    assert (found["n_switches"].tolist(), found["n_runs"].tolist()) == ([400] * 2, [80] * 2)
    assert found.loc["lost_support", "lo"] < 0 < found.loc["lost_support", "hi"]
    pd.testing.assert_frame_equal(switches.foretelling(made), switches.foretelling(made))


def test_what_never_varies_foretells_nothing() -> None:
    """Every coreset keeps the class shares: no rank, no number, no warning."""
    made = pd.DataFrame({"cell_id": list("aabbcc"), "drop": [0.0, 0.1, 0.2, 0.0, 0.3, 0.1], "class_imbalance": 0.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert switches.foretelling(made).empty


def test_intervals_draw_runs_and_not_switches() -> None:
    """Twenty copies of each of ten runs' one switch tell no more than ten switches do."""
    rng = np.random.default_rng(0)
    once = pd.DataFrame({"cell_id": [str(k) for k in range(10)], "drop": rng.random(10), "shock": rng.random(10)})
    many = pd.concat([once] * 20, ignore_index=True)
    a, b = (switches.foretelling(frame).iloc[0] for frame in (once, many))
    assert b["hi"] - b["lo"] == pytest.approx(a["hi"] - a["lo"], rel=0.05)


def noisy() -> tuple[pd.DataFrame, pd.DataFrame]:
    runs, history = sweep(dict(FLAT))
    ratio = np.where(history["switch"], 0.4, np.nan)
    return runs, history.assign(noise_ratio=ratio, noisy_clean_loss=2.0, loss_val=0.5, loss_test=0.6)


def test_label_noise_by_role() -> None:
    runs, history = noisy()
    c = courses(runs, history)
    found = noise.quantities(c, history)
    assert np.nanmax(found["overfitting"]) == pytest.approx(0.2)
    info = noise.charts(c, history)
    assert info is not None
    ratio, loss, gap = info.charts
    assert [line.name for line in ratio.lines] == ["coreset-only", "joint"]
    assert ratio.lines[0].epoch.tolist() == [10, 15, 20, 25, 30]
    assert ratio.lines[0].value.tolist() == pytest.approx([40.0] * 5)
    assert [line.name for line in loss.lines] == ["dense", "prune-only", "coreset-only", "joint"]
    assert gap.title == "el2n\nn = 1 dense, 1 prune-only, 1 coreset-only, 1 joint"
    other = runs.assign(cell_id=[f"{k:012x}" for k in range(90, 94)], model="cnn")
    names = dict(zip(runs["cell_id"], other["cell_id"], strict=True))
    plain = history.assign(cell_id=history["cell_id"].map(names), noise_ratio=np.nan, noisy_clean_loss=np.nan)
    two = pd.concat([history, plain], ignore_index=True)
    counted = noise.charts(courses(pd.concat([runs, other], ignore_index=True), two), two)
    assert counted is not None
    assert [chart.title for chart in counted.charts][1:] == [f"digits, mlp\n{gap.title}"] * 2
    clean = history.assign(noise_ratio=np.nan, noisy_clean_loss=np.nan)
    assert noise.charts(c, clean) is None


def test_label_noise_of_two_rates_is_drawn_apart_and_said_as_drawn() -> None:
    """The median of 10 and 40 % is what no run has."""
    runs, history = noisy()
    other = runs.assign(cell_id=[f"{k:012x}" for k in range(90, 94)], **{"data.label_noise": 0.1})
    names = dict(zip(runs["cell_id"], other["cell_id"], strict=True))
    less = history.assign(
        cell_id=history["cell_id"].map(names), noise_ratio=history["noise_ratio"] / 4, loss_val=np.nan
    )
    both = pd.concat([history.assign(loss_val=np.nan), less], ignore_index=True)
    made = pd.concat([runs.assign(**{"data.label_noise": 0.4}), other], ignore_index=True)
    info = noise.charts(courses(made, both), both)
    assert info is not None
    assert info.columns == 2
    assert sorted(chart.lines[0].value[0] for chart in info.charts[:2]) == pytest.approx([10, 40])
    assert len(info.charts) == 4  # without a validation loss there is no third row
    assert "test loss" not in info.caption


def test_a_column_that_is_missing_is_nan_and_a_figure_that_is_missing_is_said() -> None:
    runs, history = noisy()
    assert np.isnan(matrices(courses(runs, history), history, ["nothing"])["nothing"]).all()
    bare = history.drop(columns=["noise_ratio", "noisy_clean_loss"])
    notes = " ".join(dynamics(runs, bare).notes)
    for words in (
        "No figure of class recall in the events: no column accuracy_class_0, ... in the history.",
        "No figure of the switches: no column lost_support, shock, class_imbalance in the history.",
        "No figure of label noise: no column noise_ratio, noisy_clean_loss in the history.",
    ):
        assert words in notes
    assert "No figure of label noise" not in " ".join(dynamics(runs, history).notes)


def made_charts() -> tuple[Charts, ...]:
    runs, history = noisy()
    lost = sweep(LOST)[1]
    shock = history["epoch"].where(history["switch"])
    history = history.assign(accuracy_test=lost["accuracy_test"], shock=shock)
    told = history.assign(**{f"accuracy_class_{k}": 0.5 for k in range(3)})
    return dynamics(runs, told).charts


def test_every_chart_is_drawn_with_its_words_inside_the_figure() -> None:
    infos = made_charts()
    assert [info.name for info in infos] == ["collapse_events", "class_recall", "switches", "label_noise"]
    for info in infos:
        drawn = figure.draw(info)
        assert len(drawn.axes) == len(info.charts)
        assert set(info.names) <= set(figure.LOOK)
        assert [text.get_text() for text in drawn.legends[0].get_texts()] == list(info.names)
        drawn.draw_without_rendering()
        boxes = [axes.title.get_window_extent() for axes in drawn.axes] + [t.get_window_extent() for t in drawn.texts]
        boxes += [axes._left_title.get_window_extent() for axes in drawn.axes]
        assert all(box.x0 >= 0 and box.x1 <= drawn.bbox.x1 and box.y0 >= 0 for box in boxes)
        assert encode(figure.draw(info), "svg") == encode(drawn, "svg")


FAMILIES = (
    ("dense", "prune-only", "coreset-only", "joint"),
    ("dense", "prune-only", "coreset-only", "the run", "expected course"),
    ("worst class", "second class", "third class", "other classes"),
    ("without preservation", "preserved from the switch"),
)


@pytest.mark.parametrize("names", FAMILIES)
def test_lines_on_one_course_all_show(names: tuple[str, ...]) -> None:
    """Each is drawn before the one above it and is visibly wider, or a little where that has gaps."""
    at = np.arange(1, 21)
    lines = tuple(Line(name, at, np.full(20, 50.0), *np.full((2, 20), np.nan)) for name in names)
    info = Charts("x", "x", "x", 1, (Chart("x", "accuracy (%)", lines),))
    drawn = [line for line in figure.draw(info).axes[0].lines if len(np.asarray(line.get_xdata())) == 20]
    assert [line.get_zorder() for line in drawn] == sorted(line.get_zorder() for line in drawn)
    for below, above in pairwise(drawn):
        assert below.get_linewidth() >= (1.2 if above.is_dashed() else 1.25) * above.get_linewidth()
    assert len({line.get_color() for line in drawn}) == len(names)
    if len(names) > 2:
        assert drawn[-1].is_dashed()
    assert len({line.get_markevery() for line in drawn}) == min(len(names), figure.EVERY)


def test_the_page_draws_the_same_lines_in_the_same_order() -> None:
    runs, history = sweep({**LOST, "dense": step(0.9, 15, -0.05)})
    one = episodes.trajectories(courses(runs, history), collapse_events(runs, history)[:1], SETTINGS)
    named = [trace for trace in chooser.figure(one)["data"] if trace.get("showlegend", True)]
    lines = [trace for trace in named if "line" in trace]
    assert [trace["name"] for trace in lines] == [
        "the run",
        "dense",
        "prune-only",
        "expected course",
        "coreset-only",
    ]
    widths = [trace["line"]["width"] for trace in lines]
    assert widths == sorted(widths, reverse=True)
    assert [trace["line"]["dash"] == "solid" for trace in lines] == [True, True, True, False, False]


def test_a_mark_is_drawn_where_it_is_and_a_row_can_share_its_scale() -> None:
    info = made_charts()[0]
    axes = figure.draw(info).axes[0]
    (points,) = [found for found in axes.collections if isinstance(found, PathCollection)]
    assert np.asarray(points.get_offsets())[0].tolist() == pytest.approx([15, 55])
    runs, history = noisy()
    info = noise.charts(courses(runs, history), history)
    assert info is not None
    two = Charts("x", "x", "x", 2, (info.charts[0], info.charts[1]), shared=True)
    left, right = figure.draw(two).axes
    assert left.get_ylim() == right.get_ylim()
