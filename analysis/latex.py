"""Heat maps as LaTeX tables for booktabs: one tabular per panel."""

import numpy as np

from analysis.panels import COLOURED, CONTROL, Heatmap, Panel

_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\^{}"}
_GREEK = {"α": r"$\alpha$", "×": r"$\times$", "−": "$-$", "·": r"$\cdot$", "±": r"$\pm$"}
_WORDS = {"<": "$<$", "≥": r"$\ge$", "–": "--"}


def tables(info: Heatmap) -> str:
    """All panels of ``info``; bold: significant; a dash: missing, failed or undefined."""
    head = f"% {info.title}, {info.experiment}. {info.subtitle}\n% needs booktabs\n"
    return head + "\n".join(_table(info, panel) for panel in info.panels)


def _table(info: Heatmap, panel: Panel) -> str:
    columns = len(panel.coreset_ratios)
    rows = [
        f"{escape(rate)} & {' & '.join(_cell(info, panel, i, j) for j in range(columns))} \\\\"
        for i, rate in enumerate(panel.prune_rates)
    ]
    bold = " Bold: significant, q < 0.05." if info.diverging else ""
    single = " First row and column: accuracy (%) of the single treatments." if panel.count(CONTROL) else ""
    caption = (
        f"{info.title}: {panel.column}, preservation {panel.row} ({info.experiment}). "
        f"{info.subtitle}. Rows: {info.down}, columns: {info.across}.{bold}{single}"
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{escape(caption)}}}",
            f"\\begin{{tabular}}{{r{'r' * columns}}}",
            r"\toprule",
            f" & {' & '.join(map(escape, panel.coreset_ratios))} \\\\",
            r"\midrule",
            rows[0],
            *([r"\midrule"] if len(rows) > 1 else []),
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(info: Heatmap, panel: Panel, i: int, j: int) -> str:
    state = panel.state[i, j]
    if state not in (COLOURED, CONTROL):
        return "--"
    if state == CONTROL:
        return f"{panel.value[i, j]:.1f}"
    number = f"{panel.value[i, j]:+.1f}" if info.diverging else f"{panel.value[i, j]:.1f}"
    half = panel.half[i, j]
    body = f"{number} \\pm {half:.1f}" if np.isfinite(half) else number
    n = f" ($n = {panel.n[i, j]}$)" if panel.n[i, j] < info.seeds else ""
    return (f"$\\mathbf{{{body}}}$" if info.diverging and panel.significant[i, j] else f"${body}$") + n


def escape(text: str) -> str:
    """``text`` with LaTeX's special characters made literal."""
    table = {"\\": r"\textbackslash{}"} | _ESCAPES | _GREEK | _WORDS
    return "".join(table.get(character, character) for character in text)
