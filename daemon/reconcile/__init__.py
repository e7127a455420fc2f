"""From the desired state to the kernel, again and again: watch, compile, order, apply, verify."""
