"""Claims about models, bound to measurable quantities and judged against a run."""
