"""
`python -m horay_async` is the command `horay`.
"""

import sys

from .cli import main


sys.exit(main())
