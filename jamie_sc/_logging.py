"""The package's logger: silent unless the user asks."""

import logging

logger = logging.getLogger("jamie_sc")
logger.addHandler(logging.NullHandler())
