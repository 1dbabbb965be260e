"""Protocol endpoints joined to the router core, without I/O."""
