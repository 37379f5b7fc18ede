"""The planner: what a run needs in memory, time and money, from its configuration alone."""
