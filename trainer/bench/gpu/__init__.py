"""Everything that wants a GPU, in one call: `lyceum bench gpu`."""
