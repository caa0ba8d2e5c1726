"""What any process needs: clock, worker thread, signals, settings, logging."""
