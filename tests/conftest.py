"""How much hypothesis tries: enough for every run, and a hundred times that with `--hypothesis-profile=thorough`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that is busy with something else is no fault of the code: only `faulthandler_timeout` bounds a scene.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("brief", PATIENT, max_examples=50)
settings.register_profile("thorough", PATIENT, max_examples=5000)
settings.load_profile("brief")
