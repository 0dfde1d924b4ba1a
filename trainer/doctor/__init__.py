"""Is this machine right: every group, collective, schedule and way through a step, tried."""
