"""Makes ``twistd timenode`` known. There is no ``__init__.py`` beside this file: twisted.plugins is not our package."""

from twisted.application.service import ServiceMaker

timenode = ServiceMaker(
    "timenode",
    "timeproto.masternode.tap",
    "A masternode of the UTXO State Protocol.",
    "timenode",
)
