"""What operators see in numbers: every metric, how it is counted, and Prometheus's text of it."""
