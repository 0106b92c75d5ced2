"""Tables and rollouts turned into plotly figures. Computes nothing."""
