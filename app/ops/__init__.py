"""What watches the service: a Grafana dashboard, Prometheus rules, and a ServiceMonitor."""
