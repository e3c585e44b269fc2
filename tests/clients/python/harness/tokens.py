"""JSON web tokens by PyJWT, an implementation that is not ours."""

import time

import jwt

from .server import HMAC_SECRET


def seconds(offset: float = 0) -> int:
    """Seconds since 1970; the second that has begun counts: what expires at `seconds(3)` is good for two to three."""
    return int(time.time() + offset)


def connection_token(user: str, key=HMAC_SECRET, alg: str = "HS256", **claims) -> str:
    return jwt.encode({"sub": user, "exp": seconds(3600), **claims}, key, algorithm=alg)


def subscription_token(user: str, channel: str, key=HMAC_SECRET, alg: str = "HS256", **claims) -> str:
    return jwt.encode({"sub": user, "channel": channel, "exp": seconds(3600), **claims}, key, algorithm=alg)
