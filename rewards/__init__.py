"""Text to numbers: verifiers, worker pool, sandbox, environments, judges. No torch, no ray."""
