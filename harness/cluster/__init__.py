"""Ray: controller, rollout workers, policy servers, probe leases."""
