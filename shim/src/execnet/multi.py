"""What users import from ``execnet.multi``: groups whose workers print nowhere, unless a spec says otherwise.

That is where execnet has it go, and its users count on it: a worker of pytest-xdist prints the report of a test run of its own.
"""

import farexec
from farexec import Channel, ExecModel, MultiChannel, XSpec, get_execmodel
from farexec._group import NO_ENDMARKER as NO_ENDMARKER_WANTED

__all__ = [
    "NO_ENDMARKER_WANTED",
    "Channel",
    "ExecModel",
    "Group",
    "MultiChannel",
    "XSpec",
    "default_group",
    "get_execmodel",
    "makegateway",
    "set_execmodel",
]


class Group(farexec.Group):
    __doc__ = farexec.Group.__doc__

    def _complete(self, spec: XSpec) -> None:
        super()._complete(spec)
        if spec.stdout is None:
            spec.stdout = "null"


default_group = Group()
makegateway = default_group.makegateway
set_execmodel = default_group.set_execmodel
