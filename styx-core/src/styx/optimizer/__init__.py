"""Where a task should run, and why."""
