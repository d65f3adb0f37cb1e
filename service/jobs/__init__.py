"""Work that outlives its request or has none: placing, reconciling, resuming, and regular sweeps."""
