"""All tests, by room. Hypothesis measures no time here, and a failure prints how to see it again."""

from hypothesis import settings

settings.register_profile("timeproto", deadline=None, print_blob=True)
settings.load_profile("timeproto")
