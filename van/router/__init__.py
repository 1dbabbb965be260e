"""The process: configuration, logs, assembly and signals. `python -m van.router site.toml` runs it."""
