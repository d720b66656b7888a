"""What everything else may rely on: element types, tensor types, sizes, errors, source locations, options, targets. Imports nothing of graphc."""
