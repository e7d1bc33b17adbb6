"""What the clients of policy servers share: addresses, lost connections, conventions. No torch, no Ray, no protocol."""
