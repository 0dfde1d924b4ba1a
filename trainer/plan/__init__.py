"""What will it take: memory, time, disk, parameters and floors, foreseen from the recipe alone."""
