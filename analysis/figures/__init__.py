"""Drawing: the only package that loads matplotlib or plotly. Takes panels and frames only."""
