"""The `van` command. cyclopts and rich are imported nowhere else, and only once a command needs them."""
