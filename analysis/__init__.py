"""From the two tables of a sweep to surfaces, synergy, figures and one report.

Two calls are the whole interface for a command line:

    from analysis import report
    result = report.analyze(folder)                  # reads, computes; writes nothing
    result = report.write(result, command="swast analyze FOLDER")   # returns it with .files

``result.numbers()`` is a flat ``dict[str, float]`` for a tracker, ``result.notes`` are
the warnings in words, ``result.files`` the paths written, all of them under the folder.

Frames in, frames or small frozen values out: ``runs`` (schema, loading), ``facets`` (which runs
belong together), ``surface``, ``synergy``, ``cost``, ``panels`` (what a heat map shows), then
``figures`` (the only place that loads matplotlib or plotly) and ``report``.
"""
