"""How much, on the device: peaks that the device's own allocator counted."""
