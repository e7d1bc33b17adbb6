"""Ray: controller, rollout workers, policy servers, probe leases.

Importing this package imports neither Ray nor what only the driver needs: workers import it too.
"""
