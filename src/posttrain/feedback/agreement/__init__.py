"""Do people agree? Coefficients from a table of units by raters with gaps, each with an interval over items."""
