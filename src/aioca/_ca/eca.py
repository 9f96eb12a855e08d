"""The names of the ECA status codes of Channel Access."""

from __future__ import annotations

from enum import IntEnum

from . import libca


class ECA(IntEnum):
    """A status code of Channel Access: the ``errorcode`` of a `CANothing`.

    Each member is an int and can be compared with an ``errorcode``:
    ``error.errorcode == ECA.TIMEOUT``. ``ECA(80).name`` is the name of a code. The names are those
    of ``caerr.h`` in EPICS base, without ``ECA_``.
    """

    NORMAL = 1
    MAXIOC = 10
    UKNHOST = 18
    UKNSERV = 26
    SOCK = 34
    CONN = 40
    ALLOCMEM = 48
    UKNCHAN = 56
    UKNFIELD = 64
    TOLARGE = 72
    TIMEOUT = 80
    NOSUPPORT = 88
    STRTOBIG = 96
    DISCONNCHID = 106
    BADTYPE = 114
    CHIDNOTFND = 123
    CHIDRETRY = 131
    INTERNAL = 142
    DBLCLFAIL = 144
    GETFAIL = 152
    PUTFAIL = 160
    ADDFAIL = 168
    BADCOUNT = 176
    BADSTR = 186
    DISCONN = 192
    DBLCHNL = 200
    EVDISALLOW = 210
    BUILDGET = 216
    NEEDSFP = 224
    OVEVFAIL = 232
    BADMONID = 242
    NEWADDR = 248
    NEWCONN = 259
    NOCACTX = 264
    DEFUNCT = 278
    EMPTYSTR = 280
    NOREPEATER = 288
    NOCHANMSG = 296
    DLCKREST = 304
    SERVBEHIND = 312
    NOCAST = 320
    BADMASK = 330
    IODONE = 339
    IOINPROGRESS = 347
    BADSYNCGRP = 354
    PUTCBINPROG = 362
    NORDACCESS = 368
    NOWTACCESS = 376
    ANACHRONISM = 386
    NOSEARCHADDR = 392
    NOCONVERT = 400
    BADCHID = 410
    BADFUNCPTR = 418
    ISATTACHED = 424
    UNAVAILINSERV = 432
    CHANDESTROY = 440
    BADPRIORITY = 450
    NOTTHREADED = 458
    ARRAY16KCLIENT = 464  # ECA_16KARRAYCLIENT
    CONNSEQTMO = 472
    UNRESPTMO = 480

    @property
    def message(self) -> str:
        """The text of libca for this code."""
        return libca.message(self)
