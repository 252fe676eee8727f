"""All tests, by room. Hypothesis measures no time here, and a failure prints how to see it again."""

import os

from hypothesis import settings

FUZZ = int(os.environ.get("TIMEPROTO_FUZZ", "1"))
"""How many times as many examples those tests make that throw things at the node: ``make fuzz`` has the time."""

settings.register_profile("timeproto", deadline=None, print_blob=True)
settings.load_profile("timeproto")
