"""Manifests of a deployment: Kubernetes, a Helm chart, KServe, and Docker Compose."""
